package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// The tests of this file are about how long pools and addresses live: through
// releases that mean another network, through replays, and through the ends of
// either process.

// engineStart is what an engine says first: it registers the driver.
func engineStart(m *Manager) { m.Registered() }

func TestReplay(t *testing.T) {
	w := newWorld()
	m := w.start(t)
	engineStart(m)
	p := mustPool(t, m, "10.0.0.0/24")
	gw := mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.1"), Gateway: true})
	kept, lost := mustAddr(t, m, p, AddressRequest{}), mustAddr(t, m, p, AddressRequest{})
	m.ReplayOver()

	m = w.start(t) // the plugin alone: nothing is replayed, so nothing is believed
	if _, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: p.Prefix}); !errors.Is(err, ErrInUse) {
		t.Errorf("second network after a restart of the plugin: %v", err)
	}
	if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: kept}); !errors.Is(err, ErrInUse) {
		t.Errorf("second container after a restart of the plugin: %v", err)
	}

	for start := range lostAfter {
		engineStart(m)
		if again := mustPool(t, m, "10.0.0.0/24"); again.ID != p.ID {
			t.Errorf("replayed pool has id %q, before %q", again.ID, p.ID)
		}
		mustAddr(t, m, p, AddressRequest{Addr: gw, Gateway: true})
		mustAddr(t, m, p, AddressRequest{Addr: kept})
		if _, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: p.Prefix}); !errors.Is(err, ErrInUse) {
			t.Errorf("second network after the replay: %v", err)
		}
		if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: kept}); !errors.Is(err, ErrInUse) {
			t.Errorf("second container after the replay: %v", err)
		}
		m.ReplayOver()
		if _, still := w.given[addressKey(p.ID, lost)]; still != (start+1 < lostAfter) {
			t.Errorf("after start %d without a replay of it, the address is given: %v", start+1, still)
		}
	}
}

func TestAPoolIsLetGoAfterTwoStartsWithoutAReplay(t *testing.T) {
	for name, tc := range map[string]struct {
		bound bool
		third func(*Manager, Pool) // between the two starts
		left  int
		gone  bool // forsaken
	}{
		"of another driver": {left: 1},
		"of ours":           {bound: true, left: 2, gone: true},
		"replayed in between": {left: 2, third: func(m *Manager, p Pool) {
			engineStart(m)
			_, _ = m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: p.Prefix})
			m.ReplayOver()
		}},
		"an address asked for between": {left: 2, third: func(m *Manager, p Pool) { _, _ = m.RequestAddress(p.ID, AddressRequest{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.bound = tc.bound
			m := w.start(t)
			mustPool(t, m, "10.1.0.0/24")
			missed := mustPool(t, m, "10.2.0.0/24")
			for start := range lostAfter {
				m = w.start(t)
				if start == 1 && tc.third != nil {
					tc.third(m, missed)
				}
				if len(m.Pools()) != 2 || m.Forsaken(missed.Prefix) {
					t.Fatalf("let go after %d starts", start)
				}
				engineStart(m)
				mustPool(t, m, "10.1.0.0/24")
				m.ReplayOver()
			}
			if got := len(m.Pools()); got != tc.left || m.Forsaken(missed.Prefix) != tc.gone {
				t.Errorf("%d pools left, want %d; forsaken: %v", got, tc.left, m.Forsaken(missed.Prefix))
			}
		})
	}
}

func TestAReplayThatIsCutInTwoLetsNothingGo(t *testing.T) {
	w := newWorld()
	m := w.start(t)
	first, second := mustPool(t, m, "10.60.0.0/24"), mustPool(t, m, "10.61.0.0/24")
	m = w.start(t)
	m.Registered()
	mustPool(t, m, first.Prefix.String())
	m = w.start(t) // killed in the middle of the replay
	m.Registered()
	mustPool(t, m, second.Prefix.String())
	m.ReplayOver()
	for _, p := range []Pool{first, second} {
		mustAddr(t, m, p, AddressRequest{})
	}
}

func TestARefusedNetworkTakesNothingAlong(t *testing.T) {
	for _, bound := range []bool{true, false} {
		t.Run(fmt.Sprintf("network of our own on the pool: %v", bound), func(t *testing.T) {
			w := newWorld()
			m := w.start(t)
			p, other := mustPool(t, m, "10.0.0.0/24"), mustPool(t, m, "10.1.0.0/24")
			gw := mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.1"), Gateway: true})
			given := mustAddr(t, m, p, AddressRequest{})
			w.bound = bound
			for range lostAfter {
				m = w.start(t)
				engineStart(m) // the plugin was enabled again, the engine did not restart
				mustPool(t, m, "10.0.0.0/24")
				mustAddr(t, m, p, AddressRequest{Addr: gw, Gateway: true})
				_ = m.ReleaseAddress(p.ID, gw) // the network was refused
				_ = m.ReleasePool(p.ID)
				m.ReplayOver()
				if len(m.Pools()) != 2 || len(m.Addresses(p.ID)) != 2 || m.Forsaken(other.Prefix) {
					t.Fatalf("left: %v, %v", m.Pools(), m.Addresses(p.ID))
				}
			}
			if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: given}); !errors.Is(err, ErrInUse) {
				t.Errorf("an address was given twice: %v", err)
			}
		})
	}
}

func TestAPoolGoesWithItsNetwork(t *testing.T) {
	for _, replayed := range []bool{false, true} {
		t.Run(fmt.Sprintf("after a replay: %v", replayed), func(t *testing.T) {
			w := newWorld()
			m := w.start(t)
			p := mustPool(t, m, "10.0.0.0/24")
			gw := mustAddr(t, m, p, AddressRequest{Gateway: true})
			w.bound, w.reserved = true, []netip.Addr{gw}
			if replayed {
				engineStart(m)
				mustPool(t, m, "10.0.0.0/24")
			}
			_ = m.ReleaseAddress(p.ID, gw)
			_ = m.ReleasePool(p.ID)
			if len(w.pools) != 1 || len(w.given) != 1 {
				t.Fatalf("with the network there, left are %v, %v", w.pools, w.given)
			}
			if err := m.NetworkRemoved([]netip.Prefix{p.Prefix}); err != nil || len(w.pools)+len(w.given) != 0 {
				t.Errorf("with the network gone, left are %v, %v (%v)", w.pools, w.given, err)
			}
		})
	}
}

// The answer to CreateNetwork was lost with the process: the engine releases
// the pool, and knows nothing of the network that it would have to remove.
func TestANetworkWhosePoolWasReleasedIsForsaken(t *testing.T) {
	for name, tc := range map[string]struct {
		then  func(w *world, m *Manager, p Pool) *Manager
		first func(m *Manager, p Pool)
		gone  bool
	}{
		"used before":          {first: func(m *Manager, p Pool) { _, _ = m.RequestAddress(p.ID, AddressRequest{}) }},
		"a while later":        {gone: true},
		"plugin restarted":     {then: func(w *world, m *Manager, _ Pool) *Manager { return w.start(t) }, gone: true},
		"an address asked for": {then: func(_ *world, m *Manager, p Pool) *Manager { _, _ = m.RequestAddress(p.ID, AddressRequest{}); return m }},
		"replayed by the engine": {then: func(_ *world, m *Manager, p Pool) *Manager {
			engineStart(m)
			_, _ = m.RequestPool(PoolRequest{Space: p.Space, Prefix: p.Prefix})
			return m
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			m := w.start(t)
			p := mustPool(t, m, "10.0.0.0/24")
			mustAddr(t, m, p, AddressRequest{Gateway: true})
			w.bound = true
			if tc.first != nil {
				tc.first(m, p)
			}
			if err := m.ReleasePool(p.ID); err != nil {
				t.Fatal(err)
			}
			if tc.then != nil {
				m = tc.then(w, m, p)
			}
			if w.now = w.now.Add(removalTime); m.Forsaken(p.Prefix) {
				t.Error("forsaken while the request to remove the network may come")
			}
			if w.now = w.now.Add(1); m.Forsaken(p.Prefix) != tc.gone {
				t.Errorf("forsaken: %v, want %v", !tc.gone, tc.gone)
			}
		})
	}
}

func TestWhatEndpointsAndNetworksHaveIsGivenToNobody(t *testing.T) {
	two, three := addr("10.0.0.2"), addr("10.0.0.3")
	for name, set := range map[string]func(*world){
		"in a sandbox":      func(w *world) { w.ends[two] = true },
		"reserved":          func(w *world) { w.reserved = append(w.reserved, two) },
		"the host's own":    func(w *world) { w.own = append(w.own, two) },
		"given, as a whole": func(w *world) { w.given[""] = Given{Pool: "dockline-local/10.0.0.0/29", Addr: two} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			mustPool(t, w.start(t), "10.0.0.0/29")
			w.bound = true
			w.given["one"] = Given{Pool: "dockline-local/10.0.0.0/29", Addr: addr("10.0.0.1")}
			set(w) // as after a reboot: nothing is replayed, or the journal lost it
			m := w.start(t)
			p := m.Pools()[0]
			if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: two}); !errors.Is(err, ErrInUse) {
				t.Errorf("by name: %v", err)
			}
			if a := mustAddr(t, m, p, AddressRequest{}); a != three {
				t.Errorf("any: got %s, want %s", a, three)
			}
		})
	}
}

func TestAReplayConfirmsWhatANetworkReserved(t *testing.T) {
	w := newWorld()
	mustPool(t, w.start(t), "10.0.0.0/24")
	aux := addr("10.0.0.9")
	w.bound, w.reserved = true, []netip.Addr{aux}
	m := w.start(t) // after a reboot: no address is known
	engineStart(m)
	p := mustPool(t, m, "10.0.0.0/24")
	mustAddr(t, m, p, AddressRequest{Addr: aux})
}

func TestAnAddressIsConfirmedInAReplayOnly(t *testing.T) {
	two := addr("10.60.0.2")
	for name, end := range map[string]func(*testing.T, *Manager, Pool){
		"a network was made":    func(_ *testing.T, m *Manager, _ Pool) { m.ReplayOver() },
		"any address was given": func(t *testing.T, m *Manager, p Pool) { mustAddr(t, m, p, AddressRequest{}) },
		"a pool was chosen":     func(_ *testing.T, m *Manager, _ Pool) { _, _ = m.RequestPool(PoolRequest{Space: LocalSpace}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			m := w.start(t)
			p := mustPool(t, m, "10.60.0.0/24")
			mustAddr(t, m, p, AddressRequest{Addr: two})
			w.bound, w.ends[two] = true, true
			m = w.start(t)
			engineStart(m)
			mustPool(t, m, "10.60.0.0/24")
			end(t, m, p)
			if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: two}); !errors.Is(err, ErrInUse) {
				t.Errorf("a second container, after the replay: %v", err)
			}
		})
	}
}

func TestAnOrphanIsGivenAgain(t *testing.T) {
	w := newWorld()
	w.bound = true
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/30")
	orphan, live := mustAddr(t, m, p, AddressRequest{}), mustAddr(t, m, p, AddressRequest{})
	w.ends[live] = true
	if _, err := m.RequestAddress(p.ID, AddressRequest{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("a young address was taken for an orphan: %v", err)
	}
	w.now = w.now.Add(24 * time.Hour) // the clock is stepped while the plugin is away
	m = w.start(t)
	if _, err := m.RequestAddress(p.ID, AddressRequest{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("an address of an earlier process was taken for an orphan at once: %v", err)
	}
	w.now = w.now.Add(2 * orphanAge)
	if a := mustAddr(t, m, p, AddressRequest{}); a != orphan {
		t.Errorf("got %s, want %s", a, orphan)
	}
}

// TestAStopKeepsTheAddressUntilItsRelease goes through the end of an endpoint
// whose address is the only one there is, and asks for another at every step.
func TestAStopKeepsTheAddressUntilItsRelease(t *testing.T) {
	w := newWorld()
	w.bound = true
	m := w.start(t)
	p := mustPool(t, m, "10.60.0.0/30")
	mustAddr(t, m, p, AddressRequest{Addr: addr("10.60.0.1"), Gateway: true})
	a := mustAddr(t, m, p, AddressRequest{})
	release := func() { _ = m.ReleaseAddress(p.ID, a) }
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"Join", func() { w.ends[a] = true }},
		{"an hour passes", func() { w.now = w.now.Add(time.Hour) }},
		{"the release of somebody before", release},
		{"Leave", func() { w.ends[a] = false }},
		{"another hour passes", func() { w.now = w.now.Add(time.Hour) }},
		{"DeleteEndpoint", func() { m.EndpointDeleted(a); delete(w.ends, a) }},
	} {
		step.do()
		for _, r := range []AddressRequest{{}, {Addr: a}} {
			if b, err := m.RequestAddress(p.ID, r); err == nil {
				t.Fatalf("after %s, another container got %s", step.name, b)
			}
		}
	}
	release()
	if b := mustAddr(t, m, p, AddressRequest{}); b != a {
		t.Errorf("after the release: %s", b)
	}
}
