// Package reconcile compares what should be with what the kernel has and makes
// it right: at start, on demand, and every so often.
//
// It stands beside engine, above network, endpoint and kernel. It removes only
// links whose alias says that they are ours, and makes links only of networks:
// an endpoint's are made when the engine joins it, never for a container that
// may be gone.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// Host is what this package asks of the kernel.
type Host interface {
	Links() ([]kernel.Link, error)
	DeleteOwned(name, alias string) error
	Owner(alias string) (kernel.Owner, bool)
}

// Reconciler does one reconcile after the other. Use it from one goroutine.
type Reconciler struct {
	Host      Host
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	Now       func() time.Time
	Log       *slog.Logger
	// KeepLinks is set where the journal of this boot was lost: a link may be a
	// running container's though nothing is known of it, and none is removed.
	KeepLinks bool

	failing map[string]string    // by network id, what was said last
	suspect map[string]time.Time // by endpoint id, since when it looks abandoned
}

// Grace is how long an endpoint may look abandoned. An engine under load can
// take its time between a Join and moving the link.
const Grace = 2 * time.Minute

// Run reconciles when ticks come, until ctx ends.
func (r *Reconciler) Run(ctx context.Context, ticks <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if _, err := r.Once(); err != nil {
				r.Log.Warn("reconcile", "err", err)
			}
		}
	}
}

// Start is the first reconcile of a process: what an earlier one left half
// made is removed before the rest is restored.
func (r *Reconciler) Start() error {
	err := r.Networks.Discard()
	for _, d := range r.Networks.List() {
		r.note(d.ID, r.Networks.Ensure(d.ID))
	}
	_, again := r.Once()
	return errors.Join(err, again)
}

// Once reconciles and returns how many links it removed or reattached.
// Networks that cannot be restored are logged when that changes, not returned:
// a parent may be an interface that is plugged in later.
func (r *Reconciler) Once() (changed int, err error) {
	swept := r.Networks.Sweep()
	for _, d := range r.Networks.List() {
		r.note(d.ID, r.Networks.Keep(d.ID))
	}
	r.Networks.Pass()
	links, err := r.Host.Links()
	if err != nil {
		return 0, errors.Join(swept, fmt.Errorf("look at the links: %w", err))
	}
	index := make(map[string]int, len(links))
	for _, l := range links {
		index[l.Name] = l.Index
	}
	var errs []error
	for _, l := range links {
		owner, ours := r.Host.Owner(l.Alias)
		if !ours {
			continue
		}
		did, err := r.settle(l, owner, index)
		if errs = append(errs, err); did {
			changed++
		}
	}
	wired, err := r.Endpoints.EnsureWires(links)
	errs = append(errs, err)
	dropped, err := r.dropAbandoned(links)
	return changed + wired + dropped, errors.Join(append(errs, swept, err)...)
}

// dropAbandoned deletes the endpoints that the engine deleted while the plugin
// was away: the link that belongs into the sandbox stays in the host's
// namespace, or the host end of a pair is gone, which dies with its other end.
// A macvlan link that died with its sandbox leaves no such sign.
func (r *Reconciler) dropAbandoned(links []kernel.Link) (dropped int, err error) {
	here := r.byEndpoint(links)
	still := map[string]time.Time{}
	var errs []error
	for _, e := range r.Endpoints.List() {
		if !e.Joined || !r.abandoned(e, here[e.ID]) {
			continue
		}
		since, known := r.suspect[e.ID]
		if !known {
			since = r.Now()
		}
		if r.Now().Sub(since) < Grace {
			still[e.ID] = since
			continue
		}
		did, err := r.Endpoints.DropAbandoned(e.ID, r.stillAbandoned)
		if errs = append(errs, err); did {
			dropped++
		}
	}
	r.suspect = still
	return dropped, errors.Join(errs...)
}

// byEndpoint finds the links of each endpoint by their alias: a name can be
// changed by anybody, and a renamed link is a container's at work.
func (r *Reconciler) byEndpoint(links []kernel.Link) map[string][]kernel.Link {
	by := map[string][]kernel.Link{}
	for _, l := range links {
		if o, ours := r.Host.Owner(l.Alias); ours && o.Endpoint != "" {
			by[o.Endpoint] = append(by[o.Endpoint], l)
		}
	}
	return by
}

// stillAbandoned looks again, at the links as they are now.
func (r *Reconciler) stillAbandoned(e endpoint.Endpoint) (bool, error) {
	links, err := r.Host.Links()
	if err != nil {
		return false, fmt.Errorf("look at the links: %w", err)
	}
	return r.abandoned(e, r.byEndpoint(links)[e.ID]), nil
}

func (r *Reconciler) abandoned(e endpoint.Endpoint, links []kernel.Link) bool {
	d, err := r.Networks.Get(e.Network)
	return abandoned(err == nil && d.Mode == network.Bridge, links)
}

// abandoned decides from what links of a joined endpoint are in the host's
// namespace. A pair with its other end in a sandbox is at work; any other link
// should be in the sandbox itself, and a bridge's endpoint should have one.
func abandoned(bridge bool, links []kernel.Link) bool {
	for _, l := range links {
		if l.Away {
			return false
		}
	}
	return bridge || len(links) > 0
}

func (r *Reconciler) settle(l kernel.Link, o kernel.Owner, index map[string]int) (bool, error) {
	d, err := r.Networks.Get(o.Network)
	if _, known := r.Endpoints.Get(o.Endpoint); r.KeepLinks && known != nil && !l.Away {
		return false, nil
	}
	if o.Endpoint != "" {
		return r.Endpoints.Settle(l, o, index[d.BridgeName])
	}
	if err == nil && d.Owns(l.Name) {
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
