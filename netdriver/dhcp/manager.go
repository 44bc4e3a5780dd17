package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dockline/dockline/netdriver/ipam"
)

const (
	// keepKnown is how long an address waits for the container that had it,
	// keepUnknown for any that is not known, as a restarted one is not where the
	// engine says nothing of it.
	keepKnown   = 10 * time.Minute
	keepUnknown = time.Minute

	// strayAge is how long a lease must have been without anybody who knows of
	// it before it counts as left over from a crash.
	strayAge   = time.Minute
	strayEvery = 15 * time.Second
)

// Holder is an endpoint of ours that has an address.
type Holder struct {
	MAC net.HardwareAddr
}

// Neighbours says who has an address on the wire; see ipam.Wire.
type Neighbours interface {
	Look(pool netip.Prefix, a netip.Addr) ipam.Finding
	Probe(pool netip.Prefix, addrs ...netip.Addr)
}

// Config is what a Manager works on. All fields but Neighbours are needed.
type Config struct {
	Host       Host
	Leases     ipam.Store[Lease] // durable
	Neighbours Neighbours        // nil: nobody is asked
	// Endpoints returns the endpoints of our own driver, by their addresses.
	Endpoints func() map[netip.Addr]Holder
	// Ours reports whether a network of our own driver is on a pool.
	Ours func(prefix netip.Prefix) bool
	// Instance is this installation's, Boot the host's present boot.
	Instance, Boot string
	// KeepAll has no lease given back that only seems to be nobody's: who has
	// what is not known for certain.
	KeepAll bool
	Log     *slog.Logger
}

// Stats counts what happened since the start.
type Stats struct {
	Leased, Resumed, Renewed, Moved, Refused, Declined, Lost, Released, Silent atomic.Uint64
}

// Manager leases addresses and keeps the leases. It is an ipam.Backend, safe for
// concurrent use.
type Manager struct {
	cfg   Config
	Stats Stats

	mu      sync.Mutex // guards all below
	leases  map[string]*lease
	wires   map[string]*wire // by pool
	known   func(backend string) []ipam.HeldPool
	closed  bool
	run     context.Context //nolint:containedctx // ends the keepers, which outlive every call
	stop    context.CancelFunc
	keepers sync.WaitGroup
}

// Name is what users call the backend.
const Name = "dhcp"

// New loads the leases and goes on keeping them. Close ends that.
func New(cfg Config) (*Manager, error) {
	all, err := cfg.Leases.All()
	if err != nil {
		return nil, fmt.Errorf("load leases: %w", err)
	}
	m := &Manager{cfg: cfg, leases: map[string]*lease{}, wires: map[string]*wire{}}
	m.run, m.stop = context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, stored := range all {
		if stored.Boot != cfg.Boot && stored.State != Idle && stored.Key != hostKey { // no container has outlived that
			stored.State, stored.Since, stored.Why = Idle, time.Now(), ""
		}
		m.addLocked(newLease(stored, m.wireLocked(stored.Pool)))
	}
	return m, nil
}

// SetKnown names what ipam knows of this host's addresses, which comes late
// because ipam asks this Manager.
func (m *Manager) SetKnown(held func(backend string) []ipam.HeldPool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = held
}

// Run looks for leases that nobody has until ctx ends, and then ends the keepers.
// The leases go on: the next process keeps them.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(strayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.Close()
			return nil
		case <-tick.C:
			m.sweep()
		}
	}
}

// Close ends the keepers and closes the ports.
func (m *Manager) Close() {
	m.stop()
	m.mu.Lock()
	m.closed = true
	wires := slices.Collect(maps.Values(m.wires))
	m.mu.Unlock()
	m.keepers.Wait()
	for _, w := range wires {
		w.close()
	}
}

func (m *Manager) addLocked(l *lease) {
	m.leases[l.key()] = l
	if m.closed {
		return
	}
	m.keepers.Go(func() { m.keep(m.run, l) })
}

func (m *Manager) wireLocked(p Pool) *wire {
	w := m.wires[p.ID]
	if w == nil {
		w = newWire(m.cfg.Host, p, m.cfg.Log)
		w.overheard = func(r *Reply) { m.overheard(p, r) }
		m.wires[p.ID] = w
	}
	return w
}

// storeLocked writes a lease down. Where that fails the lease is kept all the
// same, and forgotten with this process.
func (m *Manager) storeLocked(l *lease) {
	if err := m.cfg.Leases.Put(l.key(), l.Lease); err != nil {
		m.cfg.Log.Error("a lease cannot be written down: after a restart of the plugin it would not be renewed", "address", l.Addr, "err", err)
	}
}

// drop forgets a lease.
func (m *Manager) drop(l *lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropLocked(l)
}

func (m *Manager) dropLocked(l *lease) {
	if l.gone {
		return
	}
	l.gone = true
	if m.leases[l.key()] == l {
		delete(m.leases, l.key())
	}
	if err := m.cfg.Leases.Delete(l.key()); err != nil {
		m.cfg.Log.Warn("a lease that ended is still written down", "address", l.Addr, "err", err)
	}
	l.poke()
}

func (m *Manager) holder(a netip.Addr) Holder { return m.cfg.Endpoints()[a] }

// sweep has the leases that nobody knows of given back as those of containers
// that ended are: a crash came between.
func (m *Manager) sweep() {
	m.mu.Lock()
	known := m.known
	m.mu.Unlock()
	if m.cfg.KeepAll || known == nil {
		return
	}
	has := map[netip.Addr]bool{}
	for _, p := range known(Name) {
		for _, h := range p.Held {
			has[h.Addr] = true
		}
	}
	ends := m.cfg.Endpoints()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		_, held := ends[l.Addr]
		switch {
		case held || has[l.Addr] || l.Key == hostKey: // the host's goes with its network
			l.met = time.Now()
		case l.State != Idle && time.Since(l.met) > strayAge:
			m.cfg.Log.Info("nobody has a leased address any more", "address", l.Addr, "pool", l.Pool.Prefix)
			m.idleLocked(l)
		}
	}
}

// overheard looks for an idle lease of a container that starts on another host,
// with the same MAC: its lease is that host's now, and not to be given back.
func (m *Manager) overheard(p Pool, r *Reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Pool.ID == p.ID && l.State == Idle && !l.busy &&
			bytes.Equal(l.MAC, r.ClientHWAddr) && bytes.Equal(l.ClientID, r.Options.Get(dhcpv4.OptionClientIdentifier)) {
			m.cfg.Log.Info("a container that was here starts on another host", "address", l.Addr, "mac", l.MAC.String())
			m.dropLocked(l)
		}
	}
}

// idleLocked ends the use of a lease. One that the server does not say is ours
// any more cannot be resumed.
func (m *Manager) idleLocked(l *lease) {
	if l.State == Lost {
		m.dropLocked(l)
		return
	}
	if l.State == Idle {
		return
	}
	l.State, l.Since, l.next, l.tries = Idle, time.Now(), time.Time{}, 0
	m.storeLocked(l)
	l.poke()
}

// Leases returns all there are, for inspection, in the order of their addresses.
func (m *Manager) Leases() []Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Lease, 0, len(m.leases))
	for _, l := range m.leases {
		all = append(all, l.Lease)
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return all
}

// Terms returns those of the lease of an address, if it is a leased one.
func (m *Manager) Terms(pool netip.Prefix, a netip.Addr) (Terms, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Addr == a && l.Pool.Prefix == pool && l.State != Idle {
			return l.Terms, true
		}
	}
	return Terms{}, false
}

// SetHostName says how the container is called that has an address, as its user
// wants the server to know it, and has the server told at once.
func (m *Manager) SetHostName(pool netip.Prefix, a netip.Addr, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Addr == a && l.Pool.Prefix == pool && l.HostName != name && l.State != Idle {
			l.HostName, l.next = name, time.Now()
			m.storeLocked(l)
			l.poke()
		}
	}
}

// asRefused returns a server's NAK.
func asRefused(err error) (*refusedError, bool) {
	var no *refusedError
	return no, errors.As(err, &no)
}

func isRefused(err error) bool {
	_, no := asRefused(err)
	return no
}
