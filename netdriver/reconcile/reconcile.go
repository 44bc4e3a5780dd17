// Package reconcile compares what should be with what the kernel has and makes
// it right: at start, when links, addresses, routes or rules change, on demand,
// and every so often.
//
// It stands beside engine, above network, endpoint and kernel. It removes only
// links whose alias says that they are ours, and makes links only of networks:
// an endpoint's are made when the engine joins it, never for a container that
// may be gone.
package reconcile

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// Host is what this package asks of the kernel.
type Host interface {
	Links() ([]kernel.Link, error)
	Link(name string) (kernel.Link, error)
	Elsewhere() ([]kernel.Elsewhere, error)
	AddrsElsewhere(kernel.Elsewhere) ([]netip.Prefix, error)
	IsElsewhere(kernel.Elsewhere) (bool, error)
	Heard(link string) (map[string]bool, error)
	BridgePorts() (map[int]kernel.Port, error)
	Told() (map[int]map[string]bool, error)
	DeleteOwned(name, alias string) error
	Owner(alias string) (kernel.Owner, bool)
}

// Addresses is what this package asks of our own IPAM half.
type Addresses interface {
	// Sweep takes back the addresses that no endpoint has any more.
	Sweep() int
}

// Reconciler does one reconcile after the other. Its methods are safe for
// concurrent use.
type Reconciler struct {
	Host      Host
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	Addresses Addresses
	Now       func() time.Time
	Log       *slog.Logger
	// KeepLinks is set where the journal of this boot was lost: a link may be a
	// running container's though nothing is known of it, and none is removed.
	KeepLinks bool
	// Done is told of every reconcile; nil: nobody is.
	Done func(Report, error)

	mu      sync.Mutex        // one reconcile at a time; guards all below
	failing map[string]string // by network id, what was said last
	said    string            // of what else went wrong
	seldom  pluginlog.Seldom
	suspect map[string]suspicion // by endpoint id
	adopted bool                 // lost endpoints were looked for
}

// suspicion is since when nothing is seen of an endpoint, and in which state.
type suspicion struct {
	since  time.Time
	joined bool
}

// Report says what a reconcile did.
type Report struct {
	Repaired  int `json:"repaired"`  // links of endpoints removed, attached or set as they should be
	Adopted   int `json:"adopted"`   // endpoints at work that the journal had lost
	Abandoned int `json:"abandoned"` // endpoints removed that the engine does not have any more
	Released  int `json:"released"`  // addresses taken back that no endpoint has
	// Failing is what is wrong with networks, by their id.
	Failing map[string]string `json:"failing,omitempty"`
	Took    time.Duration     `json:"took_ns"`
}

// Changed is the number of things that were not as they should be.
func (r Report) Changed() int { return r.Repaired + r.Adopted + r.Abandoned + r.Released }

// Grace is how long an endpoint may look abandoned. An engine under load can
// take its time between a Join and moving the link.
const Grace = 2 * time.Minute

// Start is the first reconcile of a process: what an earlier one left half
// made is removed before the rest is restored.
func (r *Reconciler) Start() error {
	err := r.Networks.Discard()
	for _, d := range r.Networks.List() {
		again := r.Networks.Ensure(d.ID)
		r.mu.Lock()
		r.note(d.ID, again)
		r.mu.Unlock()
	}
	_, again := r.Once()
	return errors.Join(err, again)
}

// Once reconciles and says what it did. Networks that cannot be restored are
// logged when that changes and reported, not returned: a parent may be an
// interface that is plugged in later.
func (r *Reconciler) Once() (Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begin := time.Now()
	var rep Report
	errs := []error{r.Networks.Sweep()}
	for _, d := range r.Networks.List() {
		r.note(d.ID, r.Networks.Keep(d.ID))
	}
	maps.DeleteFunc(r.failing, func(id, _ string) bool { return !r.Networks.Has(id) })
	r.Networks.Pass()
	errs = append(errs, r.links(&rep))
	rep.Released = r.Addresses.Sweep()
	rep.Failing, rep.Took = maps.Clone(r.failing), time.Since(begin)
	err := errors.Join(errs...)
	if r.Done != nil {
		r.Done(rep, err)
	}
	return rep, err
}

// seen are the links, and how those behave that are ports.
func (r *Reconciler) seen() ([]kernel.Link, error) {
	links, err := r.Host.Links()
	if err != nil {
		return nil, fmt.Errorf("look at the links: %w", err)
	}
	ports, err := r.Host.BridgePorts()
	if err != nil {
		return nil, fmt.Errorf("look at how ports behave: %w", err)
	}
	told, err := r.told()
	if err != nil {
		return nil, err
	}
	for i, l := range links {
		if p, is := ports[l.Index]; is {
			links[i].Port = &p
			if links[i].Told = told[l.Index]; told != nil && links[i].Told == nil {
				links[i].Told = map[string]bool{}
			}
		}
	}
	return links, nil
}

// told is what bridges were told of their ports; nil where none has to be.
func (r *Reconciler) told() (map[int]map[string]bool, error) {
	if !slices.ContainsFunc(r.Networks.List(), func(d network.Definition) bool { return d.Port.Told() }) {
		return nil, nil
	}
	told, err := r.Host.Told()
	if err != nil {
		return nil, fmt.Errorf("look at what bridges know of ports: %w", err)
	}
	return told, nil
}

// links brings the endpoints and their links together.
func (r *Reconciler) links(rep *Report) error {
	links, err := r.seen()
	if err != nil {
		return err
	}
	errs := []error{r.Networks.SweepVLANs(links)}
	if !r.adopted {
		err := r.adopt(rep)
		r.adopted = err == nil
		errs = append(errs, err)
	}
	bridges := r.bridges(links)
	for _, l := range links {
		owner, ours := r.Host.Owner(l.Alias)
		if !ours {
			continue
		}
		did, err := r.settle(l, owner, bridges[owner.Network])
		if errs = append(errs, err); did {
			rep.Repaired++
		}
	}
	wired, err := r.Endpoints.EnsureWires(links)
	rep.Repaired += wired
	return errors.Join(append(errs, err, r.dropAbandoned(links, rep))...)
}

// bridge is what the ports of a network's bridge have from it.
type bridge struct{ index, mtu int }

// bridges returns those of all networks, by the network's id.
func (r *Reconciler) bridges(links []kernel.Link) map[string]bridge {
	index := make(map[string]int, len(links))
	for _, l := range links {
		index[l.Name] = l.Index
	}
	all := map[string]bridge{}
	for _, d := range r.Networks.List() {
		if d.Mode == network.Bridge {
			all[d.ID] = bridge{index[d.BridgeName], r.Networks.LinkMTU(d)}
		}
	}
	return all
}

func (r *Reconciler) settle(l kernel.Link, o kernel.Owner, b bridge) (bool, error) {
	d, err := r.Networks.Get(o.Network)
	if _, known := r.Endpoints.Get(o.Endpoint); r.KeepLinks && known != nil && !l.Away {
		return false, nil
	}
	if o.Endpoint != "" {
		return r.Endpoints.Settle(l, o, b.index, b.mtu)
	}
	// One that is being removed takes its links along, and what is on them back first.
	if err == nil && (d.Owns(l.Name) || l.Name == kernel.BridgeDraftName(l.Alias)) || err != nil && r.Networks.Has(o.Network) {
		return false, nil
	}
	r.Log.Info("removing a link of a network that is gone", "link", l.Name, "network", network.Short(o.Network))
	return true, r.Host.DeleteOwned(l.Name, l.Alias)
}

// note logs an error once, and once more when it is over.
func (r *Reconciler) note(networkID string, err error) {
	if r.failing == nil {
		r.failing = map[string]string{}
	}
	said := r.failing[networkID]
	switch {
	case err == nil && said != "":
		delete(r.failing, networkID)
		r.Log.Info("network restored", "network", network.Short(networkID))
	case err != nil && said != err.Error():
		r.failing[networkID] = err.Error()
		r.Log.Warn("cannot restore a network yet", "network", network.Short(networkID), "err", err)
	}
}
