package ipam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// PoolRequest asks for a pool.
type PoolRequest struct {
	Space  string
	Prefix netip.Prefix // invalid: choose one
	Range  netip.Prefix // invalid: all of the prefix
	V6     bool         // the family to choose where no prefix is given
	// Options say which backend gives its addresses, and how (--ipam-opt).
	Options map[string]string
}

// defaultV4 are the blocks that pools of size /24 are cut from where none is
// asked for: private (RFC 1918) and away from what home routers and the
// engine's own pools use.
var defaultV4 = [...]netip.Prefix{
	netip.MustParsePrefix("10.192.0.0/12"),
	netip.MustParsePrefix("172.20.0.0/14"),
}

const (
	defaultBitsV4 = 24
	defaultBitsV6 = 64
	ulaTries      = 16
)

// RequestPool gives out a pool, or confirms one in a replay. For a new one it
// waits for the backend.
func (m *Manager) RequestPool(r PoolRequest) (Pool, error) {
	if r.Space != LocalSpace {
		return Pool{}, fmt.Errorf("address space %q: only %q is served", r.Space, LocalSpace)
	}
	ctx, cancel := context.WithTimeout(context.Background(), claimMost)
	defer cancel()
	if p, there, err := m.knownPool(ctx, r); there || err != nil {
		return p, err
	}
	m.settle(ctx) // what the end of a replay let go may be chosen again
	name, merged, err := m.cfg.chosen(r.Options)
	if err != nil {
		return Pool{}, err
	}
	r.Options = merged
	asked := r.Prefix
	if r, err = m.backend(name).Prepare(ctx, r); err != nil {
		return Pool{}, m.cfg.elsewhere(name, err)
	}
	if name == Embedded {
		name = ""
	}
	p, err := m.newPool(ctx, r, name)
	if errors.Is(err, ErrInUse) && r.Prefix.IsValid() && !asked.IsValid() {
		// The engine keeps a pool that overlaps a route of the host, and asks for
		// another (libnetwork/network.go, requestPoolHelper).
		err = fmt.Errorf("%w, or offered to the engine just now: it takes no subnet in which the host itself has an address unless that is given: add --subnet %s", err, r.Prefix)
	}
	return p, err
}

// knownPool answers a request for a pool that there is.
func (m *Manager) knownPool(ctx context.Context, r PoolRequest) (Pool, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !r.Prefix.IsValid() {
		m.closeEpochLocked() // a replay names the pool
		return Pool{}, false, nil
	}
	want, err := r.pool()
	if err != nil {
		return Pool{}, false, err
	}
	if err := m.goneLocked(ctx, want.ID); err != nil {
		return Pool{}, false, err
	}
	if p := m.pools[want.ID]; p != nil {
		got, err := m.replayPoolLocked(p)
		return got, true, err
	}
	return Pool{}, false, m.overlapLocked(want)
}

// goneLocked waits until a backend knows that an earlier pool of that id is gone.
func (m *Manager) goneLocked(ctx context.Context, id string) error {
	for m.leaving[id] {
		changed := m.changed
		m.mu.Unlock()
		err := await(ctx, changed)
		m.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) overlapLocked(want Pool) error {
	for _, p := range m.pools {
		if p.Prefix.Overlaps(want.Prefix) {
			return fmt.Errorf("pool %s overlaps %s: %w", want.Prefix, p.Prefix, ErrInUse)
		}
	}
	return nil
}

func (m *Manager) newPool(ctx context.Context, r PoolRequest, backend string) (Pool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var want Pool
	var err error
	if r.Prefix.IsValid() {
		want, err = r.pool()
	} else {
		want, err = m.chooseLocked(r)
	}
	if err == nil {
		err = m.goneLocked(ctx, want.ID)
	}
	if err == nil {
		err = m.overlapLocked(want)
	}
	if err != nil {
		return Pool{}, err
	}
	want.Backend, want.Options = backend, r.Options
	return m.addPoolLocked(want)
}

// pool checks the request and says what it asks for.
func (r PoolRequest) pool() (Pool, error) {
	prefix, from := r.Prefix.Masked(), r.Range.Masked()
	if !from.IsValid() {
		from = prefix
	}
	switch {
	case prefix.Addr().Is4In6() || from.Addr().Is4In6():
		return Pool{}, fmt.Errorf("pool %s, range %s: IPv4 written as IPv6; write it as IPv4", prefix, from)
	case prefix.Addr().IsMulticast() || prefix.Addr().IsLoopback():
		return Pool{}, fmt.Errorf("pool %s: not unicast addresses of a network", prefix)
	case prefix.Bits() == 0:
		return Pool{}, fmt.Errorf("pool %s: a whole address family is no pool", prefix)
	case !prefix.Contains(from.Addr()) || from.Bits() < prefix.Bits():
		return Pool{}, fmt.Errorf("range %s is not inside of pool %s", from, prefix)
	}
	return Pool{ID: poolID(r.Space, prefix, from), Space: r.Space, Prefix: prefix, Range: from}, nil
}

func (m *Manager) replayPoolLocked(p *pool) (Pool, error) {
	if !m.epoch.open || p.replayed == m.epoch.number {
		return Pool{}, fmt.Errorf("pool %s: %w by another network", p.Prefix, ErrInUse)
	}
	if err := m.knownLocked(p); err != nil {
		return Pool{}, err
	}
	p.replayed, p.again, p.asked = m.epoch.number, true, m.cfg.Now()
	m.epoch.replays++
	return p.Pool, nil
}

// addPoolLocked does not close the epoch: a replay may name a pool that this
// plugin's state has lost.
func (m *Manager) addPoolLocked(p Pool) (Pool, error) {
	if err := m.putPoolLocked(p); err != nil {
		return Pool{}, err
	}
	added := newPool(p)
	added.blank = true
	added.replayed, added.asked = m.epoch.number, m.cfg.Now()
	m.pools[p.ID] = added
	return p, nil
}

func (m *Manager) putPoolLocked(p Pool) error {
	if err := m.cfg.Pools.Put(p.ID, p); err != nil {
		return fmt.Errorf("store pool %s: %w", p.Prefix, err)
	}
	return nil
}

// chooseLocked finds a pool that overlaps neither a pool nor a route.
func (m *Manager) chooseLocked(r PoolRequest) (Pool, error) {
	if r.Range.IsValid() {
		return Pool{}, errors.New("a range needs its pool (--ip-range without --subnet)")
	}
	taken, err := m.cfg.Routes()
	if err != nil {
		return Pool{}, fmt.Errorf("choose a pool: %w", err)
	}
	for _, p := range m.pools {
		taken = append(taken, p.Prefix)
	}
	prefix, err := chooseV4(taken)
	if r.V6 {
		prefix, err = chooseV6(taken)
	}
	if err != nil {
		return Pool{}, err
	}
	return Pool{ID: poolID(r.Space, prefix, prefix), Space: r.Space, Prefix: prefix, Range: prefix}, nil
}

func chooseV4(taken []netip.Prefix) (netip.Prefix, error) {
	for _, block := range defaultV4 {
		for a := block.Addr(); block.Contains(a); {
			p := netip.PrefixFrom(a, defaultBitsV4)
			if !overlapsAny(p, taken) {
				return p, nil
			}
			a = last(p).Next()
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose a pool: every default one overlaps a route of the host or another pool (give --subnet): %w", ErrExhausted)
}

// chooseV6 makes a unique local prefix with a random global id (RFC 4193, 3.2.2).
func chooseV6(taken []netip.Prefix) (netip.Prefix, error) {
	for range ulaTries {
		var b [16]byte
		if _, err := rand.Read(b[1:8]); err != nil {
			return netip.Prefix{}, fmt.Errorf("choose a global id: %w", err)
		}
		b[0] = 0xfd
		if p := netip.PrefixFrom(netip.AddrFrom16(b), defaultBitsV6); !overlapsAny(p, taken) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("choose a pool: every one tried overlaps a route of the host (give --subnet): %w", ErrExhausted)
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

// ReleasePool takes a pool back, with what is still given out of it, unless a
// network is on it: NetworkRemoved comes right after, or it was another network
// on the same subnet that was refused, and what it asked for was no replay. A
// pool that is not there is success.
func (m *Manager) ReleasePool(id string) error {
	defer m.settleSoon()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[id]
	if p == nil {
		return nil
	}
	again := p.again
	p.again = false
	if again && m.epoch.open && p.replayed == m.epoch.number {
		p.replayed = 0
		m.epoch.replays--
	}
	// The engine releases every address of a network before its pool; what is
	// given still is another network's, of another driver.
	switch bound := m.cfg.Bound(p.Pool); {
	case bound:
		p.LetGo = m.cfg.Now()
		if !again && !p.Used {
			p.Released, p.released = true, p.LetGo
		}
		return m.putPoolLocked(p.Pool)
	case again && p.inUse():
		return nil
	}
	return m.dropPoolLocked(p)
}

// NetworkRemoved says that no network of our own is on these pools any more.
func (m *Manager) NetworkRemoved(prefixes []netip.Prefix) error {
	defer m.settleSoon()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, p := range m.pools {
		if slices.Contains(prefixes, p.Prefix) {
			errs = append(errs, m.dropPoolLocked(p))
		}
	}
	return errors.Join(errs...)
}

// inUse reports whether an address other than a gateway is given.
func (p *pool) inUse() bool {
	for _, g := range p.given {
		if !g.Gateway {
			return true
		}
	}
	return false
}

// dropPoolLocked removes the addresses before the pool: a crash in between
// leaves a pool that can be released again.
func (m *Manager) dropPoolLocked(p *pool) error {
	keys := make([]string, 0, len(p.given))
	for a := range p.given {
		keys = append(keys, addressKey(p.ID, a))
	}
	if err := m.cfg.Addresses.Delete(keys...); err != nil {
		return fmt.Errorf("release the addresses of pool %s: %w", p.Prefix, err)
	}
	clear(p.given)
	m.dropKeptLocked(p, func(Reservation) bool { return true })
	if err := m.cfg.Cursors.Delete(p.ID); err != nil {
		return fmt.Errorf("release pool %s: %w", p.Prefix, err)
	}
	if err := m.cfg.Pools.Delete(p.ID); err != nil {
		return fmt.Errorf("release pool %s: %w", p.Prefix, err)
	}
	delete(m.pools, p.ID)
	m.leaving[p.ID] = true
	m.due = append(m.due, due{pool: p, leave: true})
	return nil
}
