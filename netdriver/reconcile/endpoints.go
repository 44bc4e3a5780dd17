package reconcile

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// sight is where links of ours were seen, by the endpoint that their alias
// names: a name can be changed by anybody, and a renamed link is a container's
// at work.
type sight struct {
	here      map[string][]kernel.Link
	elsewhere map[string]bool
	// blind is why it is not known what there is elsewhere.
	blind error
}

func (r *Reconciler) look(links []kernel.Link) sight {
	s := sight{here: map[string][]kernel.Link{}, elsewhere: map[string]bool{}}
	for _, l := range links {
		if o, ours := r.Host.Owner(l.Alias); ours && o.Endpoint != "" {
			s.here[o.Endpoint] = append(s.here[o.Endpoint], l)
		}
	}
	var others []kernel.Elsewhere
	// After the links here: one that is moved into its sandbox meanwhile is seen twice.
	others, s.blind = r.Host.Elsewhere()
	for _, l := range others {
		if o, ours := r.Host.Owner(l.Alias); ours {
			s.elsewhere[o.Endpoint] = true
		}
	}
	return s
}

// dropAbandoned deletes the endpoints that the engine deleted while the plugin
// was away, and those of which it never learned that they were made.
func (r *Reconciler) dropAbandoned(links []kernel.Link, rep *Report) error {
	all := r.Endpoints.List()
	if len(all) == 0 {
		r.suspect = nil
		return nil
	}
	seen := r.look(links)
	still := map[string]suspicion{}
	var errs []error
	for _, e := range all {
		if !r.abandoned(e, seen) {
			continue
		}
		s, known := r.suspect[e.ID]
		if !known || s.joined != e.Joined {
			s = suspicion{since: r.Now(), joined: e.Joined}
		}
		if r.Now().Sub(s.since) < Grace {
			still[e.ID] = s
			continue
		}
		did, err := r.Endpoints.DropAbandoned(e.ID, r.stillAbandoned)
		if errs = append(errs, err); did {
			rep.Abandoned++
		}
	}
	r.suspect = still
	return errors.Join(errs...)
}

// stillAbandoned looks again, at the links as they are now.
func (r *Reconciler) stillAbandoned(e endpoint.Endpoint) (bool, error) {
	links, err := r.Host.Links()
	if err != nil {
		return false, fmt.Errorf("look at the links: %w", err)
	}
	return r.abandoned(e, r.look(links)), nil
}

func (r *Reconciler) abandoned(e endpoint.Endpoint, seen sight) bool {
	d, err := r.Networks.Get(e.Network)
	bridge := err == nil && d.Mode == network.Bridge
	gone, proven := missing(bridge, seen.here[e.ID], seen.elsewhere[e.ID])
	if !gone || proven {
		return gone
	}
	// In the one namespace where nobody but us can have put it, it is not. It may
	// still be at work where the container itself has carried it.
	if seen.blind != nil || err != nil || r.lostParent(e, d) {
		return false
	}
	heard, err := r.Host.HeardBy(d.Parent, e.MAC)
	return err == nil && !heard
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
		did, err := r.Endpoints.Adopt(e, func() (bool, error) { return r.isElsewhere(e.ID) })
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

func (r *Reconciler) isElsewhere(id string) (bool, error) {
	all, err := r.Host.Elsewhere()
	for _, l := range all {
		if o, _ := r.Host.Owner(l.Alias); o.Endpoint == id {
			return true, err
		}
	}
	return false, err
}
