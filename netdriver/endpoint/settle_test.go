package endpoint_test

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
)

// What somebody did to a port by hand is undone.
func TestSettleRepairs(t *testing.T) {
	for name, upset := range map[string]func(*host) error{
		"nothing":          func(*host) error { return nil },
		"taken out":        func(h *host) error { return h.noMaster(kernel.HostName("e")) },
		"set down":         func(h *host) error { return h.k.SetDown(kernel.HostName("e")) },
		"with another MTU": func(h *host) error { return h.k.SetMTU(kernel.HostName("e"), 1300) },
		"with hairpin":     func(h *host) error { return h.k.SetPort(kernel.HostName("e"), kernel.Port{Hairpin: true}, nil) },
		"isolated":         func(h *host) error { return h.k.SetPort(kernel.HostName("e"), kernel.Port{Isolated: true}, nil) },
		"not to be flooded": func(h *host) error {
			return h.k.SetPort(kernel.HostName("e"), kernel.Port{NoUnicastFlood: true, NoMulticastFlood: true, NoBroadcastFlood: true}, nil)
		},
		"silent and down": func(h *host) error {
			return errors.Join(h.k.SetPort(kernel.HostName("e"), kernel.Port{NoLearning: true}, nil), h.k.SetDown(kernel.HostName("e")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.create("bridge")
			h.join()
			h.moveAway(kernel.ContainerName("e"))
			if err := upset(h); err != nil {
				t.Fatal(err)
			}
			if changed, err := h.settle(); err != nil || changed != (name != "nothing") {
				t.Errorf("settled: %v, %v", changed, err)
			}
			l := h.link(kernel.HostName("e"))
			if l.Master != h.link("br").Index || !l.Up || l.MTU != mtu {
				t.Errorf("it is %+v", l)
			}
			if changed, err := h.settle(); err != nil || changed {
				t.Errorf("settled again: %v, %v", changed, err)
			}
		})
	}
}

// A bridge that does not learn who is at a port forgets what it was told.
func TestSettleTellsTheBridgeAgain(t *testing.T) {
	for _, port := range []kernel.Port{{NoLearning: true}, {NoUnicastFlood: true}} {
		h := newHost(t)
		d := h.networks["bridge"]
		d.Port = port
		h.networks["bridge"] = d
		h.create("bridge")
		h.join()
		h.moveAway(kernel.ContainerName("e"))
		name := kernel.HostName("e")
		if changed, err := h.settle(); err != nil || changed {
			t.Errorf("%+v: settled: %v, %v", port, changed, err)
		}
		e, err := h.m.Get("e")
		if err != nil {
			t.Fatal(err)
		}
		err = h.lib.NeighDel(&netlink.Neigh{LinkIndex: h.link(name).Index, Family: unix.AF_BRIDGE, HardwareAddr: e.MAC, Flags: unix.NTF_MASTER})
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := h.settle(); err != nil || !changed {
			t.Errorf("%+v: settled what was forgotten: %v, %v", port, changed, err)
		}
		if told, err := h.k.Told(); err != nil || !told[h.link(name).Index][string(e.MAC)] {
			t.Errorf("%+v: the bridge knows %v, %v", port, told, err)
		}
		if changed, err := h.settle(); err != nil || changed {
			t.Errorf("%+v: settled again: %v, %v", port, changed, err)
		}
	}
}

func TestSettleRemoves(t *testing.T) {
	for name, tc := range map[string]struct {
		upset func(*host)
		stays bool
	}{
		"one that has left":          {func(h *host) { _ = h.m.Leave("e") }, false},
		"one that nobody knows":      {func(h *host) { h.forget() }, false},
		"one that is on its way":     {func(*host) {}, true},
		"one unknown, in a sandbox":  {func(h *host) { h.moveAway(kernel.ContainerName("e")); h.forget() }, true},
		"one whose network is going": {func(h *host) { delete(h.networks, "bridge") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.create("bridge")
			h.join()
			tc.upset(h)
			if _, err := h.settle(); err != nil {
				t.Fatal(err)
			}
			_, err := h.k.Link(kernel.HostName("e"))
			if stays := err == nil; stays != tc.stays {
				t.Errorf("it stays: %v (%v)", stays, err)
			}
		})
	}
}

func TestDropAbandoned(t *testing.T) {
	blind := errors.New("cannot see")
	for name, tc := range map[string]struct {
		abandoned bool
		err       error
		dropped   bool
	}{
		"abandoned":    {true, nil, true},
		"at work":      {false, nil, false},
		"nobody knows": {true, blind, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.create("bridge")
			h.join()
			did, err := h.m.DropAbandoned("e", func(endpoint.Endpoint) (bool, error) { return tc.abandoned, tc.err })
			if did != tc.dropped || !errors.Is(err, tc.err) {
				t.Errorf("dropped %v, %v", did, err)
			}
			if _, err := h.m.Get("e"); (err != nil) != tc.dropped {
				t.Errorf("it is there: %v", err)
			}
			if did, err := h.m.DropAbandoned("other", nil); did || err != nil {
				t.Errorf("one that is not there: %v, %v", did, err)
			}
		})
	}
}

func TestAdopt(t *testing.T) {
	h := newHost(t)
	lost := endpoint.Endpoint{ID: "e", Network: "macvlan", IPv4: prefix("10.1.0.7/24")}
	yes := func() (bool, error) { return true, nil }
	no := func() (bool, error) { return false, nil }
	if did, err := h.m.Adopt(lost, no); did || err != nil {
		t.Errorf("one that is not there any more: %v, %v", did, err)
	}
	if did, err := h.m.Adopt(lost, yes); !did || err != nil {
		t.Errorf("one that is there: %v, %v", did, err)
	}
	if did, err := h.m.Adopt(lost, yes); did || err != nil {
		t.Errorf("one that is known: %v, %v", did, err)
	}
	h.restart()
	if e, err := h.m.Get("e"); err != nil || !e.Joined || !h.m.Addresses()[lost.IPv4.Addr()] {
		t.Errorf("after a restart it is %+v, %v", e, err)
	}
}

func TestForget(t *testing.T) {
	h := newHost(t)
	before := h.links()
	h.create("macvlan")
	h.join()
	if err := errors.Join(h.m.Forget("other"), h.m.Forget("macvlan")); err != nil {
		t.Fatal(err)
	}
	if after := h.links(); after != before || len(h.m.List()) != 0 {
		t.Errorf("there were the links %s, now %s and %v", before, after, h.m.List())
	}
}
