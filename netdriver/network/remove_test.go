package network

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

// faulty stands for all that a removal touches; each of its calls can fail
// once. Of the kernel it has only what a macvlan network needs.
type faulty struct {
	Host  // nil: nothing else is called
	fails string
	all   map[string]Definition
	pools map[netip.Prefix]bool
	ends  int

	forsaken, joined bool
	port, up         bool // the uplink is

	waits string
	held  chan struct{} // a value each way: the call waits, and goes on
}

// wait is where a call waits that the test holds up.
func (f *faulty) wait(call string) {
	if f.waits == call {
		f.held <- struct{}{}
		<-f.held
	}
}

var errFault = errors.New("fault")

func (f *faulty) fault(call string) error {
	if f.fails != call {
		return nil
	}
	f.fails = ""
	return errFault
}

func (f *faulty) Put(key string, d Definition) error {
	if err := f.fault("store the definition"); err != nil {
		return err
	}
	f.all[key] = d
	return nil
}

func (f *faulty) Delete(keys ...string) error {
	if err := f.fault("forget the definition"); err != nil {
		return err
	}
	for _, k := range keys {
		delete(f.all, k)
	}
	return nil
}

func (f *faulty) All() (map[string]Definition, error) { return maps.Clone(f.all), nil }
func (f *faulty) Routes() ([]kernel.Route, error)     { return nil, nil }
func (f *faulty) WaysOut() ([]kernel.WayOut, error)   { return nil, nil }
func (f *faulty) JoinedAddrs(string) []netip.Addr     { return nil }

func (f *faulty) Links() ([]kernel.Link, error) {
	if f.waits == "" {
		return nil, nil
	}
	l, err := f.Link("nic0")
	l.MAC, l.MTU, l.Up = net.HardwareAddr{2, 0, 0, 0, 0, 1}, 1500, true
	return []kernel.Link{l}, err
}

func (f *faulty) SyncPass(map[string]kernel.Pass, []string) error { return nil }

func (f *faulty) ReserveForHost(netip.Prefix, netip.Addr) (netip.Addr, error) {
	f.wait("reserve")
	return netip.Addr{}, f.fault("reserve")
}

func (f *faulty) NetworkAlias(id string) string { return "dockline:test:network:" + id }

func (f *faulty) ReleasePort(string, string, string) (bool, error) {
	was := f.port
	f.port = false // and the process may die of it
	return was, f.fault("release the uplink")
}

func (f *faulty) Link(name string) (kernel.Link, error) {
	const bridge = 7
	l := kernel.Link{Name: name, Index: bridge, Alias: f.NetworkAlias("n")}
	if name == "nic0" {
		l = kernel.Link{Name: name, Index: 1}
		if f.port {
			l.Master = bridge
		}
	}
	return l, nil
}

func (f *faulty) Addrs(string) ([]netip.Prefix, error) { return nil, nil }

func (f *faulty) SetDown(string) error {
	f.up = false
	return f.fault("take the uplink down")
}

func (f *faulty) DeleteBridge(string, string) error           { return f.fault("delete the bridge") }
func (f *faulty) Forsaken(netip.Prefix) bool                  { return f.forsaken }
func (f *faulty) LetGo(netip.Prefix) bool                     { return false }
func (f *faulty) Agree(netip.Prefix, map[string]string) error { return nil }
func (f *faulty) ReplayOver()                                 {}
func (f *faulty) Joined(string) bool                          { return f.joined }

func (f *faulty) NetworkRemoved(prefixes []netip.Prefix) error {
	f.wait("drop the pools")
	if err := f.fault("drop the pools"); err != nil {
		return err
	}
	for _, p := range prefixes {
		delete(f.pools, p)
	}
	return nil
}

func (f *faulty) Forget(string) error {
	if err := f.fault("forget the endpoints"); err != nil {
		return err
	}
	f.ends = 0
	return nil
}

func newFaulty() *faulty {
	prefix := netip.MustParsePrefix("10.1.0.0/24")
	return &faulty{
		all: map[string]Definition{"n": {
			ID: "n", Mode: Bridge, Parent: "nic0", BridgeName: kernel.BridgeName("n"), Complete: true,
			Pools: []Pool{{Space: "ours", Prefix: prefix}},
		}},
		pools: map[netip.Prefix]bool{prefix: true},
		ends:  1,
	}
}

func (f *faulty) start(t *testing.T) *Manager {
	t.Helper()
	m, err := NewManager(f, f, "ours", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.SetPools(f)
	m.SetEndpoints(f)
	return m
}

func (f *faulty) left() int { return len(f.all) + len(f.pools) + f.ends }

func TestADeletionThatFailsIsTriedAgain(t *testing.T) {
	for _, fault := range []string{"forget the endpoints", "release the uplink", "delete the bridge", "drop the pools", "forget the definition"} {
		for _, restarted := range []bool{false, true} {
			t.Run(fault, func(t *testing.T) {
				f := newFaulty()
				f.fails = fault
				m := f.start(t)
				if err := m.Delete("n"); !errors.Is(err, errFault) {
					t.Fatalf("Delete: %v", err)
				}
				if _, err := m.Get("n"); !errors.Is(err, ErrNotFound) {
					t.Errorf("a network that is going can be used: %v", err)
				}
				if restarted {
					m = f.start(t)
				}
				if err := m.Sweep(); err != nil || f.left() != 0 {
					t.Errorf("after the second try: %v, left %+v", err, f)
				}
			})
		}
	}
}

func TestAnUplinkThatWasDownIsDownAgain(t *testing.T) {
	for _, fault := range []string{"", "take the uplink down", "release the uplink", "delete the bridge"} {
		f := newFaulty()
		d := f.all["n"]
		d.ParentWasDown = true
		f.all["n"], f.port, f.up, f.fails = d, true, true, fault
		if err := f.start(t).Delete("n"); fault != "" && !errors.Is(err, errFault) {
			t.Fatalf("%s: %v", fault, err)
		}
		if err := f.start(t).Sweep(); err != nil || f.up || f.port {
			t.Errorf("cut off after %q: %v, up %v, a port %v", fault, err, f.up, f.port)
		}
	}
}

func TestADeletionThatIsNotStoredHasNotBegun(t *testing.T) {
	f := newFaulty()
	f.fails = "store the definition"
	m := f.start(t)
	if err := m.Delete("n"); !errors.Is(err, errFault) || f.left() != 3 {
		t.Errorf("%v, left %+v", err, f)
	}
	if err := m.Delete("n"); err != nil || f.left() != 0 {
		t.Errorf("again: %v, left %+v", err, f)
	}
}

// The engine saw its making fail, so that nobody may use what is left of it.
func TestADiscardThatFailsIsTriedAgain(t *testing.T) {
	for _, fault := range []string{"release the uplink", "delete the bridge", "forget the definition"} {
		t.Run(fault, func(t *testing.T) {
			f := newFaulty()
			f.fails, f.ends = fault, 0
			d := f.all["n"]
			d.Complete = false
			f.all["n"] = d
			m := f.start(t)
			if err := m.Discard(); !errors.Is(err, errFault) {
				t.Fatalf("Discard: %v", err)
			}
			if _, err := m.Get("n"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a network that could not be made can be used: %v", err)
			}
			if err := m.Sweep(); err != nil || f.left() != 0 {
				t.Errorf("after the second try: %v, left %+v", err, f)
			}
		})
	}
}

func TestRemoveOnAnOperatorsWord(t *testing.T) {
	for name, tc := range map[string]struct {
		id     string
		joined bool
		want   error
		left   int
	}{
		"its id":                 {id: "n"},
		"none":                   {id: "", want: ErrNotFound, left: 3},
		"another":                {id: "x", want: ErrNotFound, left: 3},
		"with a container on it": {id: "n", joined: true, want: ErrInUse, left: 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty()
			f.joined = tc.joined
			if err := f.start(t).Remove(tc.id); !errors.Is(err, tc.want) || f.left() != tc.left {
				t.Errorf("%v, left %+v", err, f)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	for name, tc := range map[string]struct {
		forsaken, joined bool
		left             int
	}{
		"known":                      {left: 3},
		"known, joined":              {joined: true, left: 3},
		"forsaken":                   {forsaken: true},
		"forsaken, but still joined": {forsaken: true, joined: true, left: 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty()
			f.forsaken, f.joined = tc.forsaken, tc.joined
			if err := f.start(t).Sweep(); err != nil || f.left() != tc.left {
				t.Errorf("%v, left %+v", err, f)
			}
		})
	}
}
