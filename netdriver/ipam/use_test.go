package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

// What is said to be free is what can be had, to the last one, and counting and
// estimating come to the same.
func TestUse(t *testing.T) {
	for name, tc := range map[string]struct {
		prefix, rng string
		options     map[string]string
		own         []netip.Addr
		others      []string // on the wire
		size, free  float64
	}{
		"a whole subnet":         {prefix: "10.0.0.0/28", size: 14, free: 13},
		"a range":                {prefix: "10.0.0.0/24", rng: "10.0.0.16/28", size: 16, free: 16},
		"a range with an end":    {prefix: "10.0.0.0/24", rng: "10.0.0.248/29", size: 7, free: 7},
		"the host's own in it":   {prefix: "10.0.0.0/24", rng: "10.0.0.16/29", own: []netip.Addr{addr("10.0.0.17"), addr("192.0.2.1")}, size: 8, free: 7},
		"a share of it":          {prefix: "10.0.0.0/26", options: splitOptions(1, 4), size: 16, free: 16},
		"others' on the wire":    {prefix: "10.0.0.0/28", others: []string{"10.0.0.5", "10.0.0.6"}, size: 14, free: 11},
		"a point-to-point link":  {prefix: "10.0.0.0/31", size: 2, free: 1},
		"IPv6, without a router": {prefix: "fd00::/124", size: 15, free: 14},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.own, w.backends = tc.own, map[string]Backend{SplitName: Split{}}
			if tc.others != nil {
				wire := newLAN(tc.others...)
				for _, a := range tc.others {
					wire.Probe(netip.Prefix{}, addr(a))
				}
				w.wire = wire
			}
			m := w.start(t)
			r := PoolRequest{Space: LocalSpace, Prefix: prefix(tc.prefix), Options: tc.options}
			if tc.rng != "" {
				r.Range = prefix(tc.rng)
			}
			p, err := m.RequestPool(r)
			if err != nil {
				t.Fatal(err)
			}
			mustAddr(t, m, p, AddressRequest{Gateway: true, Addr: prefix(tc.prefix).Addr().Next()})
			m.ReplayOver()
			for left := tc.free; ; left-- {
				u, known := m.Use(p.ID)
				if !known || u != (Use{tc.size, left}) {
					t.Fatalf("%v, %v; want %v free of %v", u, known, left, tc.size)
				}
				if est := estimated(m, p.ID); tc.others == nil && est != u {
					t.Errorf("estimated as %v, counted as %v", est, u)
				}
				_, err := m.RequestAddress(p.ID, AddressRequest{})
				if left == 0 {
					if !errors.Is(err, ErrExhausted) {
						t.Errorf("with nothing free: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatalf("with %v free: %v", left, err)
				}
			}
		})
	}
}

func estimated(m *Manager, id string) Use {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.takenLocked(m.pools[id], Owner{})
	if err != nil {
		return Use{}
	}
	t.sticky.soft, t.last = nil, true
	return m.pools[id].estimate(t)
}

// A large range is not looked at address by address.
func TestUseOfALargeRange(t *testing.T) {
	m := newWorld().start(t)
	p := mustPool(t, m, "fd00::/64")
	mustAddr(t, m, p, AddressRequest{})
	u, known := m.Use(p.ID)
	if !known || u.Size != 1<<64 || u.Free != u.Size { // less one is the same in a float64
		t.Errorf("%v, %v", u, known)
	}
	if u, known := m.Use("nobody's"); known {
		t.Errorf("%v", u)
	}
}
