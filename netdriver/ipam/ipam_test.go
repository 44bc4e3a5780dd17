package ipam

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// table is a Store in memory; what is in it is what a restart finds.
type table[V any] map[string]V

func (t table[V]) Put(key string, v V) error { t[key] = v; return nil }
func (t table[V]) All() (map[string]V, error) {
	return maps.Clone(t), nil
}
func (t table[V]) Delete(keys ...string) error {
	for _, k := range keys {
		delete(t, k)
	}
	return nil
}

// world is what surrounds a Manager.
type world struct {
	pools    table[Pool]
	given    table[Given]
	cursors  table[netip.Addr]
	routes   []netip.Prefix
	own      []netip.Addr
	bound    bool // networks of our own are on all pools, else on none
	reserved []netip.Addr
	ends     map[netip.Addr]bool
	now      time.Time
	wire     Wire
	backends map[string]Backend

	reservations, kept table[Reservation]
	keep               time.Duration
	defaults           map[string]string
}

func newWorld() *world {
	return &world{pools: table[Pool]{}, given: table[Given]{}, cursors: table[netip.Addr]{}, ends: map[netip.Addr]bool{}, now: time.Unix(0, 0),
		reservations: table[Reservation]{}, kept: table[Reservation]{}}
}

func (w *world) start(t testing.TB) *Manager {
	t.Helper()
	m, err := New(Config{
		Pools: w.pools, Addresses: w.given, Cursors: w.cursors,
		Routes:    func() ([]netip.Prefix, error) { return w.routes, nil },
		HostAddrs: func() ([]netip.Addr, error) { return w.own, nil },
		Bound:     func(Pool) bool { return w.bound },
		Reserved:  func() []netip.Addr { return slices.Clone(w.reserved) },
		Endpoints: func() map[netip.Addr]bool { return w.ends },
		Wire:      w.wire, Backends: w.backends, Defaults: w.defaults,
		Reservations: w.reservations, Kept: w.kept, Keep: w.keep,
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func mustPool(t testing.TB, m *Manager, pool string) Pool {
	t.Helper()
	p, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix(pool)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustAddr(t testing.TB, m *Manager, p Pool, r AddressRequest) netip.Addr {
	t.Helper()
	a, err := m.RequestAddress(p.ID, r)
	if err != nil {
		t.Fatal(err)
	}
	return a.Addr()
}

func TestRequestPoolRefuses(t *testing.T) {
	for name, r := range map[string]PoolRequest{
		"another address space":        {Space: GlobalSpace, Prefix: prefix("10.1.0.0/16")},
		"a range outside of the pool":  {Space: LocalSpace, Prefix: prefix("10.1.0.0/16"), Range: prefix("10.2.0.0/24")},
		"a range wider than the pool":  {Space: LocalSpace, Prefix: prefix("10.1.0.0/16"), Range: prefix("10.0.0.0/8")},
		"a range without a pool":       {Space: LocalSpace, Range: prefix("10.1.0.0/24")},
		"multicast":                    {Space: LocalSpace, Prefix: prefix("224.0.0.0/8")},
		"the whole family":             {Space: LocalSpace, Prefix: prefix("0.0.0.0/0")},
		"a pool that is there already": {Space: LocalSpace, Prefix: prefix("10.9.0.0/16")},
		"a pool inside of another":     {Space: LocalSpace, Prefix: prefix("10.9.1.0/24")},
		"IPv4 written as IPv6":         {Space: LocalSpace, Prefix: prefix("::ffff:10.1.0.0/112")},
	} {
		t.Run(name, func(t *testing.T) {
			m := newWorld().start(t)
			mustPool(t, m, "10.9.0.0/16")
			if p, err := m.RequestPool(r); err == nil {
				t.Errorf("got pool %v", p)
			}
		})
	}
}

func TestAChosenPoolOverlapsNothing(t *testing.T) {
	w := newWorld()
	w.routes = []netip.Prefix{prefix("10.192.0.0/16"), prefix("10.193.0.0/24")}
	m := w.start(t)
	for _, want := range []string{"10.193.1.0/24", "10.193.2.0/24"} {
		p, err := m.RequestPool(PoolRequest{Space: LocalSpace})
		if err != nil || p.Prefix != prefix(want) {
			t.Errorf("got %v, %v, want %s", p.Prefix, err, want)
		}
	}
	p, err := m.RequestPool(PoolRequest{Space: LocalSpace, V6: true})
	if err != nil || !prefix("fd00::/8").Overlaps(p.Prefix) || p.Prefix.Bits() != 64 {
		t.Errorf("IPv6: got %v, %v", p.Prefix, err)
	}
}

func TestRequestAddress(t *testing.T) {
	for _, tc := range []struct {
		name, pool, rng string
		before          []string
		ask             AddressRequest
		want            string // "" for an error
	}{
		{name: "a gateway is the first", pool: "10.0.0.0/24", ask: AddressRequest{Gateway: true}, want: "10.0.0.1"},
		{name: "a gateway is the first of the range", pool: "10.0.0.0/24", rng: "10.0.0.128/25", ask: AddressRequest{Gateway: true}, want: "10.0.0.128"},
		{name: "the next free one", pool: "10.0.0.0/24", before: []string{"10.0.0.1"}, want: "10.0.0.2"},
		{name: "outside of the range by name", pool: "10.0.0.0/24", rng: "10.0.0.128/25", ask: AddressRequest{Addr: addr("10.0.0.5")}, want: "10.0.0.5"},
		{name: "outside of the pool", pool: "10.0.0.0/24", ask: AddressRequest{Addr: addr("10.0.1.5")}},
		{name: "the network's own", pool: "10.0.0.0/24", ask: AddressRequest{Addr: addr("10.0.0.0")}},
		{name: "broadcast", pool: "10.0.0.0/24", ask: AddressRequest{Addr: addr("10.0.0.255")}},
		{name: "one that is given", pool: "10.0.0.0/24", before: []string{"10.0.0.9"}, ask: AddressRequest{Addr: addr("10.0.0.9")}},
		{name: "both ends of a point-to-point link", pool: "10.0.0.0/31", before: []string{"10.0.0.0"}, want: "10.0.0.1"},
		{name: "exhausted", pool: "10.0.0.0/30", before: []string{"10.0.0.1", "10.0.0.2"}},
		{name: "IPv6 from a huge pool", pool: "fd00::/64", want: "fd00::1"},
		{name: "IPv4 in an IPv6 pool", pool: "fd00::/64", ask: AddressRequest{Addr: addr("10.0.0.1")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newWorld().start(t)
			r := PoolRequest{Space: LocalSpace, Prefix: prefix(tc.pool)}
			if tc.rng != "" {
				r.Range = prefix(tc.rng)
			}
			p, err := m.RequestPool(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range tc.before {
				mustAddr(t, m, p, AddressRequest{Addr: addr(a)})
			}
			got, err := m.RequestAddress(p.ID, tc.ask)
			if tc.want == "" && err == nil || tc.want != "" && (err != nil || got.Addr() != addr(tc.want)) {
				t.Errorf("got %v, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestTheHostsOwnAddressIsGivenToNobodyElse(t *testing.T) {
	w := newWorld()
	w.own = []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	if a := mustAddr(t, m, p, AddressRequest{}); a != addr("10.0.0.3") {
		t.Errorf("got %s", a)
	}
	refused := func(when string) {
		t.Helper()
		if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: w.own[1]}); !errors.Is(err, ErrInUse) {
			t.Errorf("by name, %s: %v", when, err)
		}
	}
	w.bound = true
	refused("on a network of ours")
	w.bound = false
	w.now = w.now.Add(auxWithin + 1)
	refused("on a network of another driver")
	mustAddr(t, m, p, AddressRequest{Addr: w.own[0], Gateway: true})
}

// What a network sets aside is whose it is: the host's, or another machine's.
func TestWhatIsSetAsideMayBeInUse(t *testing.T) {
	w := newWorld()
	host, printer := addr("10.0.0.1"), addr("10.0.0.9")
	w.own = []netip.Addr{host}
	wire := newLAN(printer.String())
	wire.silent = true // there is no network yet
	w.wire = wire
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	for _, aux := range []netip.Addr{host, printer} {
		mustAddr(t, m, p, AddressRequest{Addr: aux})
	}
	w.bound, w.reserved, wire.silent = true, []netip.Addr{host, printer}, false
	for _, aux := range w.reserved {
		if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: aux}); !errors.Is(err, ErrInUse) {
			t.Errorf("a container asks for %s: %v", aux, err)
		}
	}
	clear(w.given) // a reboot
	m = w.start(t)
	engineStart(m)
	p = mustPool(t, m, "10.0.0.0/24")
	for _, aux := range w.reserved {
		mustAddr(t, m, p, AddressRequest{Addr: aux})
	}
	if len(wire.asked) > 0 {
		t.Errorf("%v were asked for", wire.asked)
	}
}

func TestAReleasedAddressIsTheLastToComeAgain(t *testing.T) {
	w := newWorld()
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/29") // six addresses
	first := mustAddr(t, m, p, AddressRequest{})
	if err := m.ReleaseAddress(p.ID, first); err != nil {
		t.Fatal(err)
	}
	m = w.start(t) // the cursor survives
	for i := range 5 {
		if a := mustAddr(t, m, p, AddressRequest{}); a == first {
			t.Fatalf("%s came again as number %d", a, i+2)
		}
	}
	if a := mustAddr(t, m, p, AddressRequest{}); a != first {
		t.Errorf("got %s, want %s, the only one left", a, first)
	}
}

func TestTheSameKeyGetsTheSameAddress(t *testing.T) {
	m := newWorld().start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	first := mustAddr(t, m, p, AddressRequest{Key: "web-1"})
	if other := mustAddr(t, m, p, AddressRequest{Key: "web-1"}); other == first {
		t.Fatal("one address was given twice")
	}
	_ = m.ReleaseAddress(p.ID, first)
	if again := mustAddr(t, m, p, AddressRequest{Key: "web-1"}); again != first {
		t.Errorf("got %s after %s", again, first)
	}
}

func TestReleasingTheMissingSucceeds(t *testing.T) {
	m := newWorld().start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	for _, err := range []error{
		m.ReleaseAddress(p.ID, addr("10.0.0.77")), m.ReleaseAddress("nowhere", addr("10.0.0.77")),
		m.ReleaseAddress(p.ID, netip.Addr{}), m.ReleasePool("nowhere"), m.ReleasePool(p.ID), m.ReleasePool(p.ID),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}

// What is no replay ends the time of replays: a pool that was not asked for by
// then may not be taken for replayed any more.
func TestTheEndOfAReplay(t *testing.T) {
	for name, end := range map[string]func(*Manager, Pool){
		"a network or endpoint": func(m *Manager, _ Pool) { m.ReplayOver() },
		"an address of ours":    func(m *Manager, p Pool) { _, _ = m.RequestAddress(p.ID, AddressRequest{}) },
		"a pool of our choice":  func(m *Manager, _ Pool) { _, _ = m.RequestPool(PoolRequest{Space: LocalSpace}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.bound = true
			m := w.start(t)
			mustPool(t, m, "10.1.0.0/24")
			late := mustPool(t, m, "10.2.0.0/24")
			m = w.start(t)
			engineStart(m)
			p := mustPool(t, m, "10.1.0.0/24")
			gw := mustAddr(t, m, p, AddressRequest{Gateway: true}) // a replayed network's gateway may be ours to choose
			mustAddr(t, m, p, AddressRequest{Addr: gw.Next()})
			end(m, p)
			if _, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: late.Prefix}); !errors.Is(err, ErrInUse) {
				t.Errorf("a second network on a pool: %v", err)
			}
		})
	}
}

// TestModel holds the Manager against the simplest thing that could be right:
// a set. Restarts may come at any time.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		m := w.start(t)
		p := mustPool(t, m, "10.0.0.0/28") // fourteen addresses
		model := map[netip.Addr]bool{}
		hosts := rapid.Custom(func(rt *rapid.T) netip.Addr {
			return netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 14).Draw(rt, "host"))})
		})
		rt.Repeat(map[string]func(*rapid.T){
			"any": func(rt *rapid.T) {
				a, err := m.RequestAddress(p.ID, AddressRequest{Key: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "key")})
				if full := len(model) == 14; full != errors.Is(err, ErrExhausted) || !full && (err != nil || model[a.Addr()]) {
					rt.Fatalf("got %v, %v with %d given", a, err, len(model))
				}
				if err == nil {
					model[a.Addr()] = true
				}
			},
			"named": func(rt *rapid.T) {
				a := hosts.Draw(rt, "addr")
				_, err := m.RequestAddress(p.ID, AddressRequest{Addr: a})
				if model[a] != errors.Is(err, ErrInUse) || !model[a] && err != nil {
					rt.Fatalf("%s: %v, given before: %v", a, err, model[a])
				}
				model[a] = true
			},
			"release": func(rt *rapid.T) {
				a := hosts.Draw(rt, "addr")
				if err := m.ReleaseAddress(p.ID, a); err != nil {
					rt.Fatal(err)
				}
				delete(model, a)
			},
			"restart": func(*rapid.T) { m = w.start(t) },
			"": func(rt *rapid.T) {
				if n := len(m.Addresses(p.ID)); n != len(model) || n != len(w.given) {
					rt.Fatalf("%d in memory, %d stored, %d in the model", n, len(w.given), len(model))
				}
			},
		})
	})
}

// What another host writes down as its pool is read back.
func TestPrefixOf(t *testing.T) {
	whole, part := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.16/28")
	for id, want := range map[string]netip.Prefix{
		poolID(LocalSpace, whole, whole): whole, poolID(LocalSpace, whole, part): whole, "": {}, "lan": {}, "a/b/c": {},
	} {
		if got := PrefixOf(id); got != want {
			t.Errorf("%q is of %v", id, got)
		}
	}
}
