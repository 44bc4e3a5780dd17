package ipam

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// lan is a wire whose machines answer when they are asked.
type lan struct {
	others map[netip.Addr]bool // machines there are
	known  map[netip.Addr]Finding
	silent bool // there is no port to ask by
	asked  []netip.Addr
}

func newLAN(others ...string) *lan {
	l := &lan{others: map[netip.Addr]bool{}, known: map[netip.Addr]Finding{}}
	for _, a := range others {
		l.others[addr(a)] = true
	}
	return l
}

func (l *lan) Look(_ netip.Prefix, a netip.Addr) Finding {
	if f, ok := l.known[a]; ok {
		return f
	}
	return Finding{Known: Unknown}
}

func (l *lan) Reserve(netip.Prefix) (free []netip.Addr, asking bool) {
	for a, f := range l.known {
		if f.Known == Free {
			free = append(free, a)
		}
	}
	return free, !l.silent
}

func (l *lan) Probe(_ netip.Prefix, addrs ...netip.Addr) {
	l.asked = append(l.asked, addrs...)
	for _, a := range addrs {
		l.known[a] = Finding{Known: Free}
		if l.others[a] {
			l.known[a] = Finding{Known: Used, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Heard: time.Now()}
		}
	}
}

func (l *lan) Taken(_ netip.Prefix, a netip.Addr) { delete(l.known, a) }

func TestAddressesOfTheWire(t *testing.T) {
	w := newWorld()
	wire := newLAN("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.9")
	w.wire = wire
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	if a := mustAddr(t, m, p, AddressRequest{}); a != addr("10.0.0.3") {
		t.Errorf("got %s, want the first that nobody has", a)
	}
	if a := mustAddr(t, m, p, AddressRequest{}); a != addr("10.0.0.8") {
		t.Errorf("got %s, want the next that nobody has", a)
	}
	asked := len(wire.asked)
	wire.known[addr("10.0.0.20")] = Finding{Known: Free}
	wire.known[addr("10.0.0.21")] = Finding{Known: Free}
	delete(wire.known, addr("10.0.0.10")) // of the questions before
	delete(wire.known, addr("10.0.0.11"))
	if a := mustAddr(t, m, p, AddressRequest{}); a != addr("10.0.0.20") || len(wire.asked) != asked {
		t.Errorf("got %s, having asked for %v, want the nearest of the reserve at once", a, wire.asked[asked:])
	}
	if a := mustAddr(t, m, p, AddressRequest{Gateway: true, Addr: addr("10.0.0.1")}); a != addr("10.0.0.1") {
		t.Errorf("a gateway is on the wire: %s", a)
	}
}

func TestAnAddressByNameOfTheWire(t *testing.T) {
	w := newWorld()
	wire := newLAN("10.0.0.9")
	w.wire, w.bound = wire, true // a network is on it
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	_, err := m.RequestAddress(p.ID, AddressRequest{Addr: addr("10.0.0.9")})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "02:00:00:00:00:09") {
		t.Errorf("another machine's: %v", err)
	}
	// The machine goes, and the finding is old.
	delete(wire.others, addr("10.0.0.9"))
	wire.known[addr("10.0.0.9")] = Finding{Known: Used, Heard: time.Now().Add(-time.Minute)}
	if a := mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.9")}); a != addr("10.0.0.9") {
		t.Errorf("got %s", a)
	}
	if mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.8")}); !slices.Contains(wire.asked, addr("10.0.0.8")) {
		t.Error("a free one was not asked for")
	}
}

func TestAFullWire(t *testing.T) {
	w := newWorld()
	w.wire = newLAN("10.0.0.1", "10.0.0.2")
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/30")
	_, err := m.RequestAddress(p.ID, AddressRequest{})
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "2 in use by other machines on the wire") {
		t.Errorf("got %v", err)
	}
}

// A range in which others have many addresses is searched in steps that grow.
func TestACrowdedWire(t *testing.T) {
	for name, c := range map[string]struct {
		others int
		says   string // "": there is one behind them
	}{
		"one is found":            {others: 80},
		"none is found in a time": {others: 200, says: "88 in use by other machines on the wire, and no free one was found in time"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			wire := newLAN()
			a := addr("10.0.0.0")
			for range c.others {
				a = a.Next()
				wire.others[a] = true
			}
			w.wire = wire
			m := w.start(t)
			p := mustPool(t, m, "10.0.0.0/24")
			got, err := m.RequestAddress(p.ID, AddressRequest{})
			if c.says == "" {
				if err != nil || got.Addr() != a.Next() {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrExhausted) {
				t.Errorf("got %v, %v", got, err)
			}
			// What was found stays known: the next request goes on behind it.
			if again, err := m.RequestAddress(p.ID, AddressRequest{}); err == nil || len(wire.asked) != 176 {
				t.Errorf("the second time: %v, %v, after %d questions", again, err, len(wire.asked))
			}
			if got, err = m.RequestAddress(p.ID, AddressRequest{}); err != nil || got.Addr() != a.Next() {
				t.Errorf("the third time: %v, %v", got, err)
			}
		})
	}
}

// A network whose wire cannot be asked serves its containers all the same.
func TestASilentWire(t *testing.T) {
	w := newWorld()
	wire := newLAN("10.0.0.1")
	wire.silent = true
	w.wire = wire
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	if a := mustAddr(t, m, p, AddressRequest{}); a != addr("10.0.0.1") || len(wire.asked) != 0 {
		t.Errorf("got %s, having asked for %v", a, wire.asked)
	}
}

func TestCandidates(t *testing.T) {
	w := newWorld()
	w.own = []netip.Addr{addr("10.0.0.2")}
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/29")
	mustAddr(t, m, p, AddressRequest{}) // .1
	got := m.Candidates(p.Prefix, 3, func(a netip.Addr) bool { return a == addr("10.0.0.4") })
	if want := []netip.Addr{addr("10.0.0.3"), addr("10.0.0.5"), addr("10.0.0.6")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if none := m.Candidates(prefix("10.9.0.0/24"), 3, nil); none != nil {
		t.Errorf("of no pool: %v", none)
	}
}
