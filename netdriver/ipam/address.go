package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// AddressRequest asks for an address of a pool.
type AddressRequest struct {
	Addr    netip.Addr // invalid: choose one
	Gateway bool       // it is for the network's gateway
	// Key is what the address is chosen by where it has none, so that the same
	// container gets the same address as long as that is free. Without a key
	// addresses rotate: one just released is the last to be given again.
	Key string
}

// RequestAddress gives out an address, with the pool's prefix length. Where
// nothing is known yet of who has the address on the wire, it waits for that.
func (m *Manager) RequestAddress(id string, r AddressRequest) (netip.Prefix, error) {
	for try := 0; ; try++ {
		got, ask, err := m.request(id, r, try)
		if len(ask.addrs) == 0 {
			return got, err
		}
		m.cfg.Wire.Probe(ask.pool, ask.addrs...)
	}
}

func (m *Manager) request(id string, r AddressRequest, try int) (netip.Prefix, question, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[id]
	if p == nil {
		return netip.Prefix{}, question{}, fmt.Errorf("pool %q: %w", id, ErrNoPool)
	}
	if err := m.knownLocked(p); err != nil {
		return netip.Prefix{}, question{}, err
	}
	if !r.Addr.IsValid() {
		if !r.Gateway {
			m.closeEpochLocked() // a replay names the address
		}
		addr, ask, err := m.findLocked(p, r, try)
		if err != nil || len(ask.addrs) > 0 {
			return netip.Prefix{}, ask, err
		}
		got, err := m.giveLocked(p, addr, r.Gateway)
		return got, question{}, err
	}
	confirmed, err := m.takeLocked(p, r.Addr, r.Gateway)
	switch {
	case err != nil:
		return netip.Prefix{}, question{}, err
	case confirmed:
		return netip.PrefixFrom(r.Addr, p.Prefix.Bits()), question{}, nil
	case !r.Gateway && !m.asideLocked(p, r.Addr):
		if ask, err := m.checkWire(p, r.Addr, try); err != nil || len(ask.addrs) > 0 {
			return netip.Prefix{}, ask, err
		}
	}
	got, err := m.giveLocked(p, r.Addr, r.Gateway)
	return got, question{}, err
}

// takeLocked checks an address that was named. It is confirmed, and nothing is
// left to do, where it was given before and the request is a repetition.
func (m *Manager) takeLocked(p *pool, addr netip.Addr, gateway bool) (confirmed bool, err error) {
	if err := p.check(addr); err != nil {
		return false, err
	}
	g := p.given[addr]
	replay := m.epoch.open && p.replayed == m.epoch.number
	switch {
	case g == nil && gateway:
		return false, nil
	case g == nil && !replay && m.asideLocked(p, addr):
		return false, m.checkOurs(addr)
	case g == nil && !replay:
		return false, errors.Join(m.checkOurs(addr), m.checkHost(addr))
	case g == nil && m.asideLocked(p, addr):
		return false, nil
	case g == nil:
		return false, m.checkHost(addr)
	case gateway && g.Gateway:
	case replay && g.confirmed != m.epoch.number:
	case m.orphanLocked(p, g, m.cfg.Endpoints()):
		return false, nil
	default:
		return false, fmt.Errorf("address %s: %w", addr, ErrInUse)
	}
	return true, m.confirmLocked(g)
}

// asideLocked reports whether an address that is asked for is one that a network
// sets aside, for the host or a machine on its wire that has it: one of a
// network of ours says so itself, once it is made, and before that, or of another
// driver, when it is asked for.
func (m *Manager) asideLocked(p *pool, addr netip.Addr) bool {
	if m.cfg.Bound(p.Pool) {
		return slices.Contains(m.cfg.Reserved(), addr)
	}
	return m.cfg.Now().Sub(p.asked) <= auxWithin
}

func (m *Manager) confirmLocked(g *given) error {
	g.confirmed = m.epoch.number
	if g.Missed == 0 {
		return nil
	}
	g.Missed = 0
	return m.putAddressLocked(g)
}

// checkOurs refuses an address that a network has for itself, or an endpoint
// in its sandbox, although the table of given ones does not say so: it does not
// outlive the boot.
func (m *Manager) checkOurs(addr netip.Addr) error {
	if slices.Contains(m.cfg.Reserved(), addr) || m.cfg.Endpoints()[addr] {
		return fmt.Errorf("address %s: %w", addr, ErrInUse)
	}
	return nil
}

// checkHost refuses an address that the host itself has.
func (m *Manager) checkHost(addr netip.Addr) error {
	own, err := m.cfg.HostAddrs()
	if err != nil {
		return fmt.Errorf("look at the host's addresses: %w", err)
	}
	if slices.Contains(own, addr) {
		return fmt.Errorf("address %s: %w by this host itself", addr, ErrInUse)
	}
	return nil
}

// orphanLocked reports whether an address of a network of our own is left over:
// no endpoint has it, in a sandbox or on its way in or out, and that for so long
// that neither its endpoint nor its release is still to come. One of two
// processes was killed in between.
func (m *Manager) orphanLocked(p *pool, g *given, endpoints map[netip.Addr]bool) bool {
	if g.Gateway || m.cfg.Now().Sub(g.idle) <= orphanAge || !m.cfg.Bound(p.Pool) {
		return false
	}
	_, held := endpoints[g.Addr]
	return !held && !slices.Contains(m.cfg.Reserved(), g.Addr)
}

// EndpointDeleted says that an endpoint with these addresses is being deleted:
// the engine releases them next.
func (m *Manager) EndpointDeleted(addrs ...netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		for _, a := range addrs {
			if g := p.given[a]; g != nil {
				g.idle = m.cfg.Now()
			}
		}
	}
}

func (m *Manager) giveLocked(p *pool, addr netip.Addr, gateway bool) (netip.Prefix, error) {
	g := &given{Given: Given{Pool: p.ID, Addr: addr, Gateway: gateway}, confirmed: m.epoch.number, idle: m.cfg.Now()}
	if err := m.putAddressLocked(g); err != nil {
		return netip.Prefix{}, err
	}
	p.given[addr] = g
	if m.cfg.Wire != nil {
		m.cfg.Wire.Taken(p.Prefix, addr)
	}
	return netip.PrefixFrom(addr, p.Prefix.Bits()), nil
}

func (m *Manager) putAddressLocked(g *given) error {
	if err := m.cfg.Addresses.Put(addressKey(g.Pool, g.Addr), g.Given); err != nil {
		return fmt.Errorf("store address %s: %w", g.Addr, err)
	}
	return nil
}

// findLocked chooses a free address, after a second look at the orphans where
// there seems to be none.
func (m *Manager) findLocked(p *pool, r AddressRequest, try int) (netip.Addr, question, error) {
	t, err := m.taken()
	if err != nil {
		return netip.Addr{}, question{}, err
	}
	addr, ask, ok := m.pickLocked(p, r, t, try)
	if !ok {
		m.dropOrphansLocked(p)
		addr, ask, ok = m.pickLocked(p, r, t, try)
	}
	if !ok && try == tries {
		return netip.Addr{}, question{}, fmt.Errorf("pool %s, range %s%s, and no free one was found in time; it is looked for in the background: try again soon, or give a range that is yours (--ip-range)",
			p.Prefix, p.Range, m.quarantined(p))
	}
	if !ok {
		return netip.Addr{}, question{}, fmt.Errorf("pool %s, range %s, %d addresses given%s: %w", p.Prefix, p.Range, len(p.given), m.quarantined(p), ErrExhausted)
	}
	if len(ask.addrs) > 0 {
		return netip.Addr{}, ask, nil
	}
	if r.Key == "" && !r.Gateway {
		p.cursor = addr
	}
	return addr, question{}, nil
}

// taken are the addresses that are not to be chosen, whether given or not: the
// host's own and those of our networks, and those of endpoints in a sandbox.
type taken struct {
	own  map[netip.Addr]bool
	ends map[netip.Addr]bool
}

func (t taken) has(a netip.Addr) bool { return t.own[a] || t.ends[a] }

func (m *Manager) taken() (taken, error) {
	own, err := m.cfg.HostAddrs()
	if err != nil {
		return taken{}, fmt.Errorf("look at the host's addresses: %w", err)
	}
	t := taken{own: map[netip.Addr]bool{}, ends: m.cfg.Endpoints()}
	for _, a := range append(own, m.cfg.Reserved()...) {
		t.own[a] = true
	}
	return t, nil
}

// Sweep takes back the addresses that are left over on networks of our own, and
// returns how many.
func (m *Manager) Sweep() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, p := range m.pools {
		n += m.dropOrphansLocked(p)
	}
	return n
}

func (m *Manager) dropOrphansLocked(p *pool) (n int) {
	endpoints := m.cfg.Endpoints()
	for _, g := range p.given {
		if m.orphanLocked(p, g, endpoints) {
			m.forgetAddressLocked(p, g)
			n++
		}
	}
	return n
}

// start is where the search begins: the first address for a gateway, a place
// that follows from the key, or behind the address given last.
func (p *pool) start(r AddressRequest) netip.Addr {
	switch {
	case r.Gateway:
		return p.Range.Addr()
	case r.Key != "":
		return offset(p.Range, xxhash.Sum64String(r.Key))
	case p.Range.Contains(p.cursor):
		return p.after(p.cursor)
	}
	return p.Range.Addr()
}

// free returns the first free address of the range at or behind start, going
// round. Only given addresses, taken ones and the two at the ends are skipped,
// so that many steps are enough whatever the size of the range.
func (p *pool) free(start netip.Addr, t taken) (netip.Addr, bool) {
	a := start
	for range len(p.given) + len(t.own) + len(t.ends) + 3 {
		if p.available(a, t) {
			return a, true
		}
		if a = p.after(a); a == start {
			break
		}
	}
	return netip.Addr{}, false
}

func (p *pool) available(a netip.Addr, t taken) bool {
	return p.given[a] == nil && !t.has(a) && p.check(a) == nil
}

func (p *pool) after(a netip.Addr) netip.Addr {
	if next := a.Next(); p.Range.Contains(next) {
		return next
	}
	return p.Range.Addr()
}

// check says why an address cannot be given to anybody.
func (p *pool) check(a netip.Addr) error {
	ends := p.Prefix.Addr().BitLen() - p.Prefix.Bits()
	switch {
	case !p.Prefix.Contains(a):
		return fmt.Errorf("address %s is not in pool %s", a, p.Prefix)
	case ends < 2: // point-to-point links have no such ends (RFC 3021, RFC 6164)
	case a == p.Prefix.Addr():
		return fmt.Errorf("address %s is the network address of pool %s", a, p.Prefix)
	case a.Is4() && a == last(p.Prefix):
		return fmt.Errorf("address %s is the broadcast address of pool %s", a, p.Prefix)
	}
	return nil
}

// ReleaseAddress takes an address back. One that nobody has is success. What a
// network has for itself goes with its pool, which the engine releases next, or
// stays where it was another network on the subnet that was refused. What an
// endpoint has in a sandbox is not released before that endpoint is deleted, or
// its network: such a release is of somebody who had it before.
func (m *Manager) ReleaseAddress(id string, addr netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[id]
	if p == nil || p.given[addr] == nil || p.given[addr].Gateway {
		return nil
	}
	if m.cfg.Bound(p.Pool) && m.checkOurs(addr) != nil {
		return nil
	}
	return m.dropAddressLocked(p, addr)
}

// dropAddressLocked makes an address free, and therefore writes down first where
// the next one is to be looked for: that is not needed earlier, as what was given
// since is not free.
func (m *Manager) dropAddressLocked(p *pool, addr netip.Addr) error {
	if p.cursor != p.written {
		if err := m.cfg.Cursors.Put(p.ID, p.cursor); err != nil {
			return fmt.Errorf("store the cursor of pool %s: %w", p.Prefix, err)
		}
		p.written = p.cursor
	}
	if err := m.cfg.Addresses.Delete(addressKey(p.ID, addr)); err != nil {
		return fmt.Errorf("release address %s: %w", addr, err)
	}
	delete(p.given, addr)
	return nil
}

// last returns the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	for i := p.Bits() + 128 - p.Addr().BitLen(); i < 128; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return like(p, netip.AddrFrom16(b))
}

// offset returns the address that lies n, reduced to the prefix's size, behind
// its first one.
func offset(p netip.Prefix, n uint64) netip.Addr {
	host := min(p.Addr().BitLen()-p.Bits(), 64)
	if host < 64 {
		n &= 1<<host - 1
	}
	b := p.Addr().As16()
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(b[8:], low|n)
	return like(p, netip.AddrFrom16(b))
}

// like gives a 16-byte address the family of the prefix.
func like(p netip.Prefix, a netip.Addr) netip.Addr {
	if p.Addr().Is4() {
		return a.Unmap()
	}
	return a
}
