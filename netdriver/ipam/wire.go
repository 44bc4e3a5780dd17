package ipam

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// askAtOnce is how many addresses are asked for where none is known to be
	// free: with the first of them in use the next one is at hand. It doubles
	// with every other try, for then others have whole ranges.
	askAtOnce = 4
	askMost   = 16
	// tries bounds how often that is done for one request: 88 addresses.
	tries = 8
	// believed is how old a finding may be that an address is in use where
	// somebody wants that very address: he may just have freed it.
	believed = time.Second
)

// Wire says what machines that got no address from us are on a pool's wire. A
// pool is named by its prefix, for no two overlap. Only Probe may wait; the
// others are called with the Manager's mutex held.
type Wire interface {
	// Look says what is known of an address.
	Look(pool netip.Prefix, a netip.Addr) Finding
	// Reserve returns the addresses known to be free, and whether anybody is
	// asked at all.
	Reserve(pool netip.Prefix) (free []netip.Addr, asking bool)
	// Probe asks for addresses and returns when something is known of each.
	Probe(pool netip.Prefix, addrs ...netip.Addr)
	// Taken says that an address is given and of the reserve no more.
	Taken(pool netip.Prefix, a netip.Addr)
}

// Knowledge is what is known of an address on the wire.
type Knowledge int

// What can be known.
const (
	NotAsked Knowledge = iota // nobody is asked
	Unknown
	Free
	Used
)

// Finding is what is known of an address, by whom it is used, since when, and
// when he was heard last.
type Finding struct {
	Known        Knowledge
	MAC          net.HardwareAddr
	Since, Heard time.Time
}

// question is what has to be asked on the wire before a request can go on.
type question struct {
	pool  netip.Prefix
	addrs []netip.Addr
}

// pickLocked chooses addresses: of those known to be free, where the wire is
// asked, the nearest at or behind the request's start, and if there is none, what
// to ask for.
func (m *Manager) pickLocked(p *pool, r AddressRequest, t taken, probes int) ([]netip.Addr, question, bool) {
	start, several := p.start(r, t), max(1, t.view.Several)
	free, asking := m.reserve(p)
	if !asking || r.Gateway {
		found := p.next(start, several, t, nil)
		return found, question{}, len(found) > 0
	}
	if t.wanted(r.Key).IsValid() && probes < tries {
		if found, ask := m.nearest(p, start, t, probes); found != nil || len(ask.addrs) > 0 {
			return found, ask, true
		}
	}
	free = slices.DeleteFunc(free, func(a netip.Addr) bool { return !t.span.contains(a) || !p.available(a, t) })
	slices.SortFunc(free, func(a, b netip.Addr) int { return t.span.order(start, a, b) })
	if len(free) > 0 {
		return free[:min(several, len(free))], question{}, true
	}
	if probes == tries {
		return nil, question{}, false
	}
	ask := p.next(start, min(askAtOnce<<(probes/2), askMost), t, func(a netip.Addr) bool { return m.cfg.Wire.Look(p.Prefix, a).Known == Used })
	return nil, question{p.Prefix, ask}, len(ask) > 0
}

// nearest finds the first address at or behind start that nobody has, so that the
// same one is found again, whatever happens to be in reserve. Who had the very
// first may just have freed it, as the container that asks did on another host.
func (m *Manager) nearest(p *pool, start netip.Addr, t taken, probes int) ([]netip.Addr, question) {
	if probes == 0 && p.available(start, t) && m.cfg.Wire.Look(p.Prefix, start).Known == Used {
		return nil, question{p.Prefix, []netip.Addr{start}}
	}
	a := p.next(start, 1, t, func(a netip.Addr) bool { return m.cfg.Wire.Look(p.Prefix, a).Known == Used })
	switch {
	case len(a) == 0:
		return nil, question{}
	case m.cfg.Wire.Look(p.Prefix, a[0]).Known == Unknown:
		return nil, question{p.Prefix, a}
	}
	return a, question{}
}

func (m *Manager) reserve(p *pool) ([]netip.Addr, bool) {
	if m.cfg.Wire == nil {
		return nil, false
	}
	return m.cfg.Wire.Reserve(p.Prefix)
}

// maxSteps bounds a search in a range whose addresses are all in use.
const maxSteps = 1 << 16

// next returns the next n available addresses from start on, going round, that
// are not known.
func (p *pool) next(start netip.Addr, n int, t taken, known func(netip.Addr) bool) (found []netip.Addr) {
	a := start
	for range maxSteps + len(p.given) {
		if p.available(a, t) && (known == nil || !known(a)) {
			found = append(found, a)
		}
		if a = t.span.after(a); a == start || len(found) == n {
			break
		}
	}
	return found
}

// checkWire refuses an address that was asked for by name and is another
// machine's on the wire, or says that it has to be asked for.
func (m *Manager) checkWire(p *pool, a netip.Addr, try int) (question, error) {
	if m.cfg.Wire == nil {
		return question{}, nil
	}
	f := m.cfg.Wire.Look(p.Prefix, a)
	switch {
	case f.Known == Used && (try > 0 || time.Since(f.Heard) < believed):
		return question{}, fmt.Errorf("address %s: %w on the wire, by the machine with MAC %s (seen since %s); choose another address or take it from that machine",
			a, ErrInUse, f.MAC, f.Since.Format(time.RFC3339))
	case f.Known == Used, f.Known == Unknown && try == 0:
		return question{p.Prefix, []netip.Addr{a}}, nil
	}
	return question{}, nil
}

// quarantined says, for an error, how many addresses of the range are other
// machines'.
func (m *Manager) quarantined(p *pool) string {
	n := 0
	if _, asking := m.reserve(p); !asking {
		return ""
	}
	whole := taken{span: span{p.Range.Addr(), last(p.Range)}}
	p.next(p.Range.Addr(), maxSteps, whole, func(a netip.Addr) bool {
		if m.cfg.Wire.Look(p.Prefix, a).Known == Used {
			n++
		}
		return false
	})
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d in use by other machines on the wire", n)
}

// Candidates returns the next n addresses that would be given out of the pool
// with this prefix and are not known.
func (m *Manager) Candidates(prefix netip.Prefix, n int, known func(netip.Addr) bool) []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix != prefix {
			continue
		}
		t, err := m.takenLocked(p, Owner{})
		if err != nil {
			m.cfg.Log.Warn("look for addresses to keep in reserve", "pool", p.ID, "err", err)
			return nil
		}
		if t.view.Chooses {
			return nil
		}
		return p.next(p.start(AddressRequest{}, t), n, t, known)
	}
	return nil
}

// Foreign takes note of a machine on a pool's wire that has an address which
// nobody here was given. It must not be called with a mutex held that a Wire takes.
func (m *Manager) Foreign(prefix netip.Prefix, a netip.Addr, mac net.HardwareAddr) {
	m.mu.Lock()
	var at Pool
	for _, p := range m.pools {
		_, busy := p.busy[a]
		if p.Prefix == prefix && !busy && p.given[a] == nil && m.checkOurs(a) == nil {
			at = p.Pool
		}
	}
	m.mu.Unlock()
	if q, ok := m.backend(at.Backend).(Quarantiner); ok && at.ID != "" {
		q.Foreign(at, a, mac)
	}
}
