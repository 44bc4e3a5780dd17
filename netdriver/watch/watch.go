// Package watch knows what the wires say about addresses. For every network
// that is on a wire it holds a port of our own there, by which it
//
//   - keeps a reserve of addresses that nobody answered for, so that a container
//     that starts need not wait, and remembers who answered for others;
//   - tells the neighbours when an endpoint has come up with its addresses;
//   - asks time and again who has the addresses of our endpoints, and hears who
//     claims them. What it finds it reports; it never changes a container.
//
// It stands between ipam and endpoint, which it looks at, and neighbour and
// kernel. It follows the networks and endpoints that there are (see Sync) and
// keeps nothing: after a restart it asks again.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

// syncEvery is how soon a change is seen that nobody told of.
const syncEvery = 5 * time.Second

// Port speaks and listens on a wire; see neighbour.Port.
type Port interface {
	Ask(addr netip.Addr, to net.HardwareAddr) error
	Announce(addr netip.Addr, mac net.HardwareAddr) error
	Receive() (neighbour.Claim, error)
	Unread() bool   // something has come that Receive has not looked at
	Carrier() error // why silence says nothing
	Close() error
}

// Host makes ports.
type Host interface {
	// Open opens a network's port, making a link for it where one is needed.
	Open(d network.Definition) (Port, error)
	// Drop removes that link. A missing one is success.
	Drop(networkID string) error
	// Links returns the networks that such a link is there for.
	Links() ([]string, error)
}

// Pools is what this package asks of the addresses' giver.
type Pools interface {
	// Candidates returns the next n addresses that would be given out of a pool
	// and are not known yet.
	Candidates(pool netip.Prefix, n int, known func(netip.Addr) bool) []netip.Addr
	// Foreign takes note of a machine that has an address of a pool and got it
	// from nobody here.
	Foreign(pool netip.Prefix, a netip.Addr, mac net.HardwareAddr)
}

// Config is what a Manager works on. All fields are needed.
type Config struct {
	Host      Host
	Networks  interface{ List() []network.Definition }
	Endpoints interface{ List() []endpoint.Endpoint }
	Log       *slog.Logger
}

// ErrUnwatched says that there is no port on a network's wire.
var ErrUnwatched = errors.New("nobody looks at the wire")

// Stats counts what happened since the start.
type Stats struct {
	Asked, Announced, Conflicts, Answered atomic.Uint64
}

// Manager watches the wires. It is safe for concurrent use. It implements
// ipam.Wire: of what it knows it tells at once; only Probe waits.
type Manager struct {
	cfg   Config
	pools Pools
	heard func(networkID string, c neighbour.Claim)
	Stats Stats

	syncing sync.Mutex // one Sync at a time; guards wires, closed and started
	wires   map[string]*wire
	started bool
	closed  bool

	index atomic.Pointer[index]
	kick  chan struct{}

	noted  sync.Mutex // guards all below; a leaf, also of the wires' mutexes
	events []Event
	counts map[Happening]uint64
}

// index is what Sync found last, for those who may not wait for it.
type index struct {
	wires []*wire
	pools map[netip.Prefix]*wire
	macs  map[string]bool // of our endpoints, whatever their network
}

// New returns a Manager that watches nothing before its first Sync. Call
// SetPools before that.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, wires: map[string]*wire{}, kick: make(chan struct{}, 1)}
	m.index.Store(&index{})
	return m
}

// SetPools names the pools, which come late because they ask this Manager.
func (m *Manager) SetPools(p Pools) { m.pools = p }

// SetHeard has every claim that comes by a network's wire told, by the goroutine
// that listens there, without a mutex of this package. Call it before the first Sync.
func (m *Manager) SetHeard(heard func(networkID string, c neighbour.Claim)) { m.heard = heard }

// Run follows the networks and endpoints until ctx ends, and closes every port.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return m.close()
		case <-tick.C:
		case <-m.kick:
		}
		m.Sync()
	}
}

// Kick has Run look at once at what has changed.
func (m *Manager) Kick() {
	select {
	case m.kick <- struct{}{}:
	default: // it is going to
	}
}

// Sync makes what is watched what should be: when it returns, a port that no
// network needs is gone, and one that is needed is open, unless that failed and
// is tried again. What it finds joined the first time was so before.
func (m *Manager) Sync() {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	if m.closed {
		return
	}
	want := map[string]network.Definition{}
	for _, d := range m.cfg.Networks.List() {
		if Watched(d) {
			want[d.ID] = d
		}
	}
	m.dropLocked(want)
	ix := &index{pools: map[netip.Prefix]*wire{}, macs: map[string]bool{}}
	byNetwork := map[string][]endpoint.Endpoint{}
	for _, e := range m.cfg.Endpoints.List() {
		ix.macs[string(e.MAC)] = true
		byNetwork[e.Network] = append(byNetwork[e.Network], e)
	}
	for id, d := range want {
		w := m.wires[id]
		if w == nil {
			w = newWire(m, d)
			m.wires[id] = w
		}
		ix.wires = append(ix.wires, w)
		for _, p := range w.pools {
			ix.pools[p] = w
		}
	}
	m.index.Store(ix)
	for id, w := range m.wires {
		w.follow(byNetwork[id], !m.started)
		w.start()
	}
	m.started = true
}

// Watched reports whether a network's addresses are asked about: nobody but our
// own endpoints is on a bridge without an uplink, and an interface that is passed
// through to a container carries no port beside.
func Watched(d network.Definition) bool {
	return d.Complete && !d.Going && !d.NoProbe && (d.Parent != "" || d.Foreign) && !d.Passthru()
}

// sameWire reports whether a network's wire is where it was: a parent that is
// found by a rule can be another one later, and who was heard on the one before
// says nothing of it.
func sameWire(a, b network.Definition) bool {
	return a.Parent == b.Parent && a.BridgeName == b.BridgeName
}

// dropLocked closes the ports that nobody wants, or that are on another wire now,
// and removes their links; the first time also those that an earlier process left.
func (m *Manager) dropLocked(want map[string]network.Definition) {
	var gone []string
	for id, w := range m.wires {
		if d, wanted := want[id]; !wanted || !sameWire(w.def, d) {
			if err := w.stop(); err != nil {
				w.log.Warn("close the port on a wire", "err", err)
			}
			delete(m.wires, id)
			gone = append(gone, id)
		}
	}
	if !m.started {
		links, err := m.cfg.Host.Links()
		if err != nil {
			m.cfg.Log.Warn("look for ports that an earlier process left", "err", err)
		}
		gone = append(gone, slices.DeleteFunc(links, func(id string) bool { _, wanted := want[id]; return wanted })...)
	}
	for _, id := range gone {
		if err := m.cfg.Host.Drop(id); err != nil {
			m.cfg.Log.Warn("remove the port on a wire", "network", network.Short(id), "err", err)
		}
	}
}

// close ends the watch. Links stay, for the next process.
func (m *Manager) close() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	m.closed = true
	var errs []error
	for _, w := range m.wires {
		errs = append(errs, w.stop())
	}
	return errors.Join(errs...)
}

// holder reports whether an endpoint of ours has the address, joined or not:
// asked afresh, because Sync may be about to learn of it.
func (m *Manager) holder(a netip.Addr) bool {
	return slices.ContainsFunc(m.cfg.Endpoints.List(), func(e endpoint.Endpoint) bool {
		return e.IPv4.Addr() == a || e.IPv6.Addr() == a
	})
}

// Ask asks on a network's wire who has an address: one machine, by its MAC, or
// everybody if that is nil. Who answers is told to what SetHeard named.
func (m *Manager) Ask(networkID string, a netip.Addr, to net.HardwareAddr) error {
	for _, w := range m.index.Load().wires {
		if w.id == networkID {
			return w.askFor(a, to)
		}
	}
	return ErrUnwatched
}

// Look implements ipam.Wire.
func (m *Manager) Look(pool netip.Prefix, a netip.Addr) ipam.Finding {
	if w := m.index.Load().pools[pool]; w != nil {
		return w.look(a)
	}
	return ipam.Finding{Known: ipam.NotAsked}
}

// Reserve implements ipam.Wire.
func (m *Manager) Reserve(pool netip.Prefix) (free []netip.Addr, asking bool) {
	if w := m.index.Load().pools[pool]; w != nil {
		return w.reserve(pool)
	}
	return nil, false
}

// Probe implements ipam.Wire.
func (m *Manager) Probe(pool netip.Prefix, addrs ...netip.Addr) {
	if w := m.index.Load().pools[pool]; w != nil {
		w.probe(addrs)
	}
}

// Taken implements ipam.Wire.
func (m *Manager) Taken(pool netip.Prefix, a netip.Addr) {
	if w := m.index.Load().pools[pool]; w != nil {
		w.taken(a)
	}
}
