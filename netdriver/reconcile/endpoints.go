package reconcile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// sight is where links of ours were seen, by the endpoint that their alias
// names: a name can be changed by anybody, and a renamed link is a container's
// at work.
type sight struct {
	here map[string][]kernel.Link
	// heard is what each macvlan parent hears for, asked once; see kernel.Heard.
	heard map[string]map[string]bool
	// elsewhere is what sandboxes have, which are asked one by one and thus only
	// where the rest does not tell.
	elsewhere map[string]bool
	// blind is why it is not known what there is elsewhere.
	blind error
}

func (r *Reconciler) look(links []kernel.Link) *sight {
	s := &sight{here: map[string][]kernel.Link{}, heard: map[string]map[string]bool{}}
	for _, l := range links {
		if o, ours := r.Host.Owner(l.Alias); ours && o.Endpoint != "" {
			s.here[o.Endpoint] = append(s.here[o.Endpoint], l)
		}
	}
	return s
}

// lookElsewhere comes after the look at the links here: one that is moved into
// its sandbox meanwhile is seen twice.
func (r *Reconciler) lookElsewhere(s *sight) {
	s.elsewhere = map[string]bool{}
	var others []kernel.Elsewhere
	others, s.blind = r.Host.Elsewhere()
	for _, l := range others {
		if o, ours := r.Host.Owner(l.Alias); ours {
			s.elsewhere[o.Endpoint] = true
		}
	}
}

// isHeard reports whether a macvlan link with an endpoint's MAC is up on its
// network's parent.
func (r *Reconciler) isHeard(e endpoint.Endpoint, parent string, s *sight) (bool, error) {
	heard, known := s.heard[parent]
	if !known {
		var err error
		if heard, err = r.Host.Heard(parent); err != nil {
			return false, fmt.Errorf("look at who is on %q: %w", parent, err)
		}
		s.heard[parent] = heard
	}
	return heard[string(e.MAC)], nil
}

// dropAbandoned deletes the endpoints that the engine deleted while the plugin
// was away, and those of which it never learned that they were made. Sandboxes
// are looked into for those alone that have not been seen otherwise for long,
// and twice: that a link is in none of them is not seen at one moment.
func (r *Reconciler) dropAbandoned(links []kernel.Link, rep *Report) error {
	seen := r.look(links)
	due, still := r.suspects(seen)
	r.suspect = still
	for range 2 {
		if len(due) == 0 {
			return nil
		}
		r.lookElsewhere(seen)
		for id, s := range still {
			if seen.elsewhere[id] {
				s.since = r.Now() // the others that are due soon were found as well
				still[id] = s
			}
		}
		due = slices.DeleteFunc(due, func(e endpoint.Endpoint) bool {
			gone, unknown := r.abandoned(e, seen)
			if unknown { // the next time, again
				r.suspect[e.ID] = suspicion{since: r.Now().Add(-Grace), joined: e.Joined}
			}
			return !gone
		})
	}
	var errs []error
	for _, e := range due {
		did, err := r.Endpoints.DropAbandoned(e.ID, func(now endpoint.Endpoint) (bool, error) {
			return r.stillAbandoned(e, now, seen)
		})
		switch errs = append(errs, err); {
		case did:
			rep.Abandoned++
			delete(r.suspect, e.ID)
		case err != nil: // the next time, again
			r.suspect[e.ID] = suspicion{since: r.Now().Add(-Grace), joined: e.Joined}
		}
	}
	return errors.Join(errs...)
}

// suspects returns the endpoints that it is time to look for, and those of
// which nothing is seen from here. The ones looked for are so again after
// another Grace, if they are still there then.
func (r *Reconciler) suspects(seen *sight) (due []endpoint.Endpoint, still map[string]suspicion) {
	still = map[string]suspicion{}
	now := r.Now()
	for _, e := range r.Endpoints.List() {
		if r.atWork(e, seen) {
			continue
		}
		s, known := r.suspect[e.ID]
		if !known || s.joined != e.Joined {
			s = suspicion{since: now, joined: e.Joined}
		}
		if now.Sub(s.since) >= Grace {
			due, s.since = append(due, e), now
		}
		still[e.ID] = s
	}
	return due, still
}

// atWork reports whether an endpoint is seen at work from here: by the end of
// its pair, or because its parent hears for it.
func (r *Reconciler) atWork(e endpoint.Endpoint, seen *sight) bool {
	here := seen.here[e.ID]
	if len(here) > 0 {
		return slices.ContainsFunc(here, func(l kernel.Link) bool { return l.Away })
	}
	d, err := r.Networks.Get(e.Network)
	if err != nil || d.Mode == network.Bridge {
		return false
	}
	heard, err := r.isHeard(e, d.Parent, seen)
	return err == nil && heard
}

// stillAbandoned looks again, in the endpoint's turn, at all that can be seen
// from here. What is nowhere can only have come back by a Join.
func (r *Reconciler) stillAbandoned(then, now endpoint.Endpoint, seen *sight) (bool, error) {
	if now.Joined != then.Joined {
		return false, nil
	}
	links, err := r.Host.Links()
	if err != nil {
		return false, fmt.Errorf("look at the links: %w", err)
	}
	again := r.look(links)
	again.elsewhere, again.blind = seen.elsewhere, seen.blind
	gone, _ := r.abandoned(now, again)
	return gone, nil
}

// abandoned reports whether an endpoint is nowhere at work, or that this could
// not be looked at.
func (r *Reconciler) abandoned(e endpoint.Endpoint, seen *sight) (gone, unknown bool) {
	d, err := r.Networks.Get(e.Network)
	bridge := err == nil && d.Mode == network.Bridge
	gone, proven := missing(bridge, seen.here[e.ID], seen.elsewhere[e.ID])
	if !gone || proven {
		return gone, false
	}
	// In the one namespace where nobody but us can have put it, it is not. It may
	// still be at work where the container itself has carried it.
	if err != nil || r.lostParent(e, d) {
		return false, false
	}
	heard, err := r.isHeard(e, d.Parent, seen)
	if err != nil || seen.blind != nil {
		return false, !heard
	}
	return !heard, false
}

// lostParent reports whether an endpoint's link had to go because its parent did.
// Its container may be running, and the engine knows it by its address.
func (r *Reconciler) lostParent(e endpoint.Endpoint, d network.Definition) bool {
	if !e.Joined || e.ParentIndex == 0 {
		return false
	}
	parent, err := r.Host.Link(d.Parent)
	return err != nil || parent.Index != e.ParentIndex
}

// missing decides from an endpoint's links: at work are a pair with its other
// end in a sandbox, and a link that is in one. A pair without its host end is
// none any more, and a link that is here is not where it should be; of any
// other it is not proven that it does not exist.
func missing(bridge bool, here []kernel.Link, elsewhere bool) (gone, proven bool) {
	for _, l := range here {
		if l.Away {
			return false, true
		}
	}
	return !elsewhere, bridge || len(here) > 0
}

// adopt finds endpoints at work that the journal does not know, because it was
// damaged. What they have must not be given to others.
func (r *Reconciler) adopt(rep *Report) error {
	all, err := r.Host.Elsewhere()
	if err != nil {
		r.Log.Warn("cannot look into sandboxes: endpoints that are not in the journal stay unknown", "err", err)
		return nil
	}
	var errs []error
	for _, l := range all {
		o, _ := r.Host.Owner(l.Alias)
		d, err := r.Networks.Get(o.Network)
		if _, unknown := r.Endpoints.Get(o.Endpoint); err != nil || unknown == nil {
			continue
		}
		e, err := r.identify(l, o, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		did, err := r.Endpoints.Adopt(e, func() (bool, error) { return r.Host.IsElsewhere(l) })
		if errs = append(errs, err); did {
			rep.Adopted++
		}
	}
	return errors.Join(errs...)
}

// identify reads an endpoint from its link.
func (r *Reconciler) identify(l kernel.Elsewhere, o kernel.Owner, d network.Definition) (endpoint.Endpoint, error) {
	e := endpoint.Endpoint{ID: o.Endpoint, Network: o.Network, MAC: l.MAC}
	addrs, err := r.Host.AddrsElsewhere(l)
	if err != nil {
		return e, fmt.Errorf("look at the addresses of endpoint %s: %w", network.Short(e.ID), err)
	}
	for _, a := range addrs {
		switch {
		case !inPools(d, a):
		case a.Addr().Is4() && !e.IPv4.IsValid():
			e.IPv4 = a
		case !a.Addr().Is4() && !e.IPv6.IsValid():
			e.IPv6 = a
		}
	}
	return e, nil
}

func inPools(d network.Definition, a netip.Prefix) bool {
	for _, p := range d.Pools {
		if p.Prefix.Contains(a.Addr()) {
			return true
		}
	}
	return false
}
