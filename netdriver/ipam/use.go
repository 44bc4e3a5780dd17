package ipam

import (
	"maps"
	"net/netip"
)

// Use is how many addresses of a pool containers of this host can have.
type Use struct {
	Size float64 // with those that they have
	Free float64 // that one could get now
}

// maxCounted is the largest part of a range that is looked at address by address,
// which takes a millisecond or two.
const maxCounted = 1 << 13

// Use counts what there is, for inspection: what the request of a container that
// starts now has to choose from. It knows nothing (false) of a pool that is not
// there, and of one whose backend chooses.
func (m *Manager) Use(poolID string) (Use, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[poolID]
	if p == nil {
		return Use{}, false
	}
	t, err := m.takenLocked(p, Owner{})
	if err != nil || t.view.Chooses {
		return Use{}, false
	}
	t.sticky.soft, t.last = nil, true // better than none
	if t.span.most() < maxCounted {
		return m.countLocked(p, t), true
	}
	return p.estimate(t), true
}

func (m *Manager) countLocked(p *pool, t taken) (u Use) {
	for a := t.span.first; t.span.contains(a); a = a.Next() {
		if p.check(a) != nil {
			continue
		}
		u.Size++
		if p.available(a, t) && (m.cfg.Wire == nil || m.cfg.Wire.Look(p.Prefix, a).Known != Used) {
			u.Free++
		}
	}
	return u
}

// estimate is countLocked where there are too many. It leaves out what only the
// backend, or the wire, knows of others, which is little beside the rest.
func (p *pool) estimate(t taken) Use {
	known := map[netip.Addr]bool{}
	for a := range p.given {
		known[a] = true
	}
	maps.Copy(known, t.own)
	maps.Copy(known, t.ends)
	for a := range t.sticky.hard {
		known[a] = true
	}
	ends := 0.0 // that nobody gets
	for _, a := range []netip.Addr{p.Prefix.Addr(), last(p.Prefix)} {
		if t.span.contains(a) && p.check(a) != nil {
			ends++
		}
	}
	u := Use{Size: float64(t.span.most()) + 1 - ends}
	u.Free = u.Size
	for a := range known {
		if t.span.contains(a) && p.check(a) == nil {
			u.Free--
		}
	}
	return u
}
