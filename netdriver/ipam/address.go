package ipam

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// AddressRequest asks for an address of a pool.
type AddressRequest struct {
	Addr    netip.Addr // invalid: choose one
	Gateway bool       // it is for the network's gateway
	// Key is what the address is chosen by where it has none, so that the same
	// container gets the same address as long as that is free. Without a key
	// addresses rotate: one just released is the last to be given again.
	Key string
	// MAC is the endpoint's, nil where the engine does not say.
	MAC net.HardwareAddr
	// Name is the container's, "" where the engine does not say.
	Name string
	// Host says that it is for the host itself, and, like a gateway, goes with
	// the pool.
	Host bool
}

// next says what comes next in answering a request.
func (m *Manager) next(id string, r AddressRequest, probes int) (step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[id]
	if p == nil {
		return step{}, fmt.Errorf("pool %q: %w", id, ErrNoPool)
	}
	if err := m.knownLocked(p); err != nil {
		return step{}, err
	}
	if !r.Addr.IsValid() {
		if !r.Gateway {
			m.closeEpochLocked() // a replay names the address
		}
		return m.findLocked(p, r, probes)
	}
	return m.takeLocked(p, r, probes)
}

// takeLocked is about an address that was named. Nothing is left to do where it
// was given before and the request is a repetition.
func (m *Manager) takeLocked(p *pool, r AddressRequest, probes int) (step, error) {
	if _, busy := p.busy[r.Addr]; busy {
		return step{wait: m.changed}, nil
	}
	o := m.ownerLocked(p, r)
	confirmed, replay, err := m.mayTakeLocked(p, r.Addr, r.Gateway)
	if err == nil && !confirmed && !replay && o.Kind == Container {
		err = m.checkReserved(p, r.Addr, r.Key)
	}
	switch {
	case err != nil:
		return step{}, err
	case confirmed:
		return step{given: netip.PrefixFrom(r.Addr, p.Prefix.Bits())}, nil
	case o.Kind == Container:
		if ask, err := m.checkWire(p, r.Addr, probes); err != nil || len(ask.addrs) > 0 {
			return step{ask: ask}, err
		}
	}
	// Where the table is there, what it does not have the engine does not know: that
	// is a container's first start, before anything has told that the replay is over.
	s := m.claimLocked(p, r, o, replay && (p.blank || o.Kind.Shared()), r.Addr)
	s.claim.named = true
	return s, nil
}

// ownerLocked says for whom an address is asked for.
func (m *Manager) ownerLocked(p *pool, r AddressRequest) Owner {
	o := Owner{Key: r.Key, MAC: r.MAC, Name: r.Name}
	switch {
	case r.Host:
		o.Kind = Host
	case r.Gateway:
		o.Kind = Gateway
	case r.Addr.IsValid() && r.Key == "" && m.asideLocked(p, r.Addr):
		o.Kind = Aside
	}
	return o
}

// mayTakeLocked checks an address that was named: whether it was given before to
// the same, and whether the engine says so of one of which nothing is known.
func (m *Manager) mayTakeLocked(p *pool, addr netip.Addr, gateway bool) (confirmed, replayed bool, err error) {
	if err := p.check(addr); err != nil {
		return false, false, err
	}
	g := p.given[addr]
	replay := m.epoch.open && p.replayed == m.epoch.number
	switch {
	case g == nil && gateway:
		return false, replay, nil
	case g == nil && !replay && m.asideLocked(p, addr):
		return false, false, m.checkOurs(addr)
	case g == nil && !replay:
		return false, false, errors.Join(m.checkOurs(addr), m.checkHost(addr))
	case g == nil && m.asideLocked(p, addr):
		return false, true, nil
	case g == nil:
		return false, true, m.checkHost(addr)
	case gateway && g.Gateway:
	case replay && g.confirmed != m.epoch.number:
	case m.orphanLocked(p, g, m.cfg.Endpoints()):
		return false, false, nil
	default:
		return false, false, fmt.Errorf("address %s: %w", addr, ErrInUse)
	}
	return true, replay, m.confirmLocked(g)
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

func (m *Manager) putAddressLocked(g *given) error {
	if err := m.cfg.Addresses.Put(addressKey(g.Pool, g.Addr), g.Given); err != nil {
		return fmt.Errorf("store address %s: %w", g.Addr, err)
	}
	return nil
}

// findLocked chooses free addresses, after a second look at the orphans where
// there seem to be none.
func (m *Manager) findLocked(p *pool, r AddressRequest, probes int) (step, error) {
	o := m.ownerLocked(p, r)
	t, err := m.takenLocked(p, o)
	switch {
	case err != nil:
		return step{}, err
	case t.view.Chooses:
		return m.claimLocked(p, r, o, false), nil
	}
	found, ask, ok := m.pickLocked(p, r, t, probes)
	if !ok && (len(t.sticky.soft) > 0 || t.view.Spare != nil) { // better than none
		t.sticky.soft, t.last = nil, true
		found, ask, ok = m.pickLocked(p, r, t, probes)
	}
	switch {
	case ok && len(ask.addrs) > 0:
		return step{ask: ask}, nil
	case ok:
		return m.claimLocked(p, r, o, false, found...), nil
	case t.view.Fault != nil: // what becomes free now is free only for who can be asked
		return step{}, fmt.Errorf("pool %s: %w", p.Prefix, t.view.Fault)
	case m.dropOrphansLocked(p) > 0, len(p.busy) > 0:
		return step{wait: m.changed}, nil // what is busy may become free
	case probes == tries:
		return step{}, fmt.Errorf("pool %s, range %s%s, and no free one was found in time; it is looked for in the background: try again soon, or give a range that is yours (--ip-range)",
			p.Prefix, p.Range, m.quarantined(p))
	}
	return step{}, fmt.Errorf("pool %s, range %s, %d addresses given%s%s: %w", p.Prefix, t.span, len(p.given), t.sticky.text(), m.quarantined(p), ErrExhausted)
}

// taken are the addresses that are not to be chosen, whether given or not: the
// host's own and those of our networks, those of endpoints in a sandbox, and
// what the backend knows; and the part of the range that is chosen from.
type taken struct {
	own  map[netip.Addr]bool
	ends map[netip.Addr]bool
	view View
	span span
	last bool // what is spare counts as free

	sticky sticky
}

func (t taken) has(a netip.Addr) bool {
	return t.own[a] || t.ends[a] || t.sticky.hard[a] != "" || t.sticky.soft[a] ||
		t.view.Taken != nil && t.view.Taken(a) && (!t.last || t.view.Spare == nil || !t.view.Spare(a))
}

func (m *Manager) takenLocked(p *pool, o Owner) (taken, error) {
	own, err := m.cfg.HostAddrs()
	if err != nil {
		return taken{}, fmt.Errorf("look at the host's addresses: %w", err)
	}
	t := taken{
		own: map[netip.Addr]bool{}, ends: m.cfg.Endpoints(),
		view: m.backend(p.Backend).View(p.Pool, o), span: span{p.Range.Addr(), last(p.Range)},
		sticky: m.stickyLocked(p, o.Key),
	}
	if t.view.First.IsValid() {
		t.span = span{t.view.First, t.view.Last}
	}
	for _, a := range append(own, m.cfg.Reserved()...) {
		t.own[a] = true
	}
	return t, nil
}

// Sweep takes back the addresses that are left over on networks of our own, and
// returns how many.
func (m *Manager) Sweep() int {
	defer m.settleSoon()
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, p := range m.pools {
		n += m.dropOrphansLocked(p)
	}
	return n
}

func (m *Manager) dropOrphansLocked(p *pool) (n int) {
	endpoints, before := m.cfg.Endpoints(), len(p.given)
	for _, g := range p.given {
		if m.orphanLocked(p, g, endpoints) {
			m.forgetAddressLocked(p, g)
		}
	}
	return before - len(p.given)
}

// start is where the search begins: what the backend prefers, else the first
// address for a gateway, a place that follows from the key, or behind the address
// given last.
func (p *pool) start(r AddressRequest, t taken) netip.Addr {
	switch {
	case r.Gateway && t.span.contains(t.view.Prefer):
		return t.view.Prefer
	case r.Gateway:
		return t.span.first
	case t.wanted(r.Key).IsValid():
		return t.wanted(r.Key)
	case t.span.contains(p.cursor):
		return t.span.after(p.cursor)
	case t.span.contains(t.view.Start):
		return t.view.Start
	}
	return t.span.first
}

func (p *pool) available(a netip.Addr, t taken) bool {
	_, busy := p.busy[a]
	return !busy && p.given[a] == nil && !t.has(a) && p.check(a) == nil
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
	defer m.settleSoon()
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
// since is not free. The backend is told last: what it gives to somebody else is
// nowhere ours any more.
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
	g := p.given[addr]
	m.keepLocked(p, addr, g.Key)
	delete(p.given, addr)
	m.dueLocked(p, Held{Addr: addr, Kind: g.kind(), Key: g.Key})
	return nil
}
