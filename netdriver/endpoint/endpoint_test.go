package endpoint_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
)

func TestCreate(t *testing.T) {
	h := newHost(t)
	before := h.links()
	first := endpoint.Endpoint{ID: "e", Network: "bridge", IPv4: prefix("10.1.0.7/24")}
	for _, tc := range []struct {
		name string
		e    endpoint.Endpoint
		want error
	}{
		{"new", first, nil},
		{"again", first, nil},
		{"with another address", endpoint.Endpoint{ID: "e", Network: "bridge", IPv4: prefix("10.1.0.8/24")}, endpoint.ErrExists},
		{"on another network", endpoint.Endpoint{ID: "e", Network: "macvlan", IPv4: prefix("10.1.0.7/24")}, endpoint.ErrExists},
		{"on no network", endpoint.Endpoint{ID: "f", Network: "gone"}, errNoNetwork},
	} {
		e, err := h.m.Create(tc.e)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err == nil && e.MAC.String() != "02:42:0a:01:00:07" {
			t.Errorf("%s: MAC %s", tc.name, e.MAC)
		}
	}
	for _, e := range []endpoint.Endpoint{{}, {ID: "x"}, {Network: "bridge"}} {
		if _, err := h.m.Create(e); err == nil {
			t.Errorf("made of %+v", e)
		}
	}
	// The engine holds a lock of the whole network while it waits for this.
	if after := h.links(); after != before {
		t.Errorf("there were the links %s, now %s", before, after)
	}
	if has := h.m.Addresses(); len(has) != 1 || has[netip.MustParseAddr("10.1.0.7")] {
		t.Errorf("addresses %v", has)
	}
}

func TestLife(t *testing.T) {
	for _, network := range []string{"bridge", "macvlan"} {
		t.Run(network, func(t *testing.T) {
			h := newHost(t)
			before := h.links()
			h.create(network)
			for range 2 { // the second finds the links of the first
				h.join()
			}
			end := h.link(kernel.ContainerName("e"))
			if end.Alias != h.k.EndpointAlias(network, "e") || end.MAC.String() != "02:42:0a:01:00:07" {
				t.Errorf("made %+v", end)
			}
			if network == "bridge" && h.link(kernel.HostName("e")).Master != h.link("br").Index {
				t.Error("the host end is no port of the bridge")
			}
			if !h.m.Joined(network) || h.m.Joined("other") {
				t.Error("it is not joined to its network alone")
			}
			h.restart()
			for range 2 {
				if err := errors.Join(h.m.Leave("e"), h.m.Delete(network, "e")); err != nil {
					t.Fatal(err)
				}
			}
			if after := h.links(); after != before {
				t.Errorf("there were the links %s, now %s", before, after)
			}
			if _, err := h.m.Get("e"); !errors.Is(err, endpoint.ErrNotFound) || len(h.store) != 0 {
				t.Errorf("it is still there: %v, %v", err, h.store)
			}
		})
	}
}

func TestAJoinThatFailsLeavesNothing(t *testing.T) {
	full := errors.New("the disk is full")
	for name, tc := range map[string]struct {
		upset func(*host)
		want  error
	}{
		"the parent is gone":  {func(h *host) { h.removeLink("nic1") }, kernel.ErrNoLink},
		"nothing is written":  {func(h *host) { h.fails = full }, full},
		"the network is gone": {func(h *host) { delete(h.networks, "macvlan") }, errNoNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.create("macvlan")
			tc.upset(h)
			before := h.links()
			if _, _, err := h.m.Join("e"); !errors.Is(err, tc.want) {
				t.Errorf("Join: %v", err)
			}
			if after := h.links(); after != before {
				t.Errorf("there were the links %s, now %s", before, after)
			}
			if e, err := h.m.Get("e"); err != nil || e.Joined {
				t.Errorf("it is %+v, %v", e, err)
			}
		})
	}
	h := newHost(t)
	if _, _, err := h.m.Join("e"); !errors.Is(err, endpoint.ErrNotFound) {
		t.Errorf("of what is not there: %v", err)
	}
}

// A bridge that somebody removed comes back with the next container.
func TestJoinAsksForTheNetworksLinks(t *testing.T) {
	h := newHost(t)
	h.create("bridge")
	h.removeLink("br")
	h.join()
	if h.ensured != 1 || h.link(kernel.HostName("e")).Master != h.link("br").Index {
		t.Errorf("asked %d times", h.ensured)
	}
}

// Join of an endpoint that is at work does not replace its pair.
func TestJoinLeavesWhatIsInASandbox(t *testing.T) {
	h := newHost(t)
	h.create("bridge")
	h.join()
	h.moveAway(kernel.ContainerName("e"))
	before := h.link(kernel.HostName("e"))
	if _, _, err := h.m.Join("e"); !errors.Is(err, kernel.ErrInUse) {
		t.Errorf("Join: %v", err)
	}
	if after := h.link(kernel.HostName("e")); after.Index != before.Index {
		t.Error("the pair was replaced")
	}
	if e, _ := h.m.Get("e"); !e.Joined {
		t.Error("it counts as having left")
	}
}

// What concerns one endpoint happens in turn, whoever asks.
func TestConcurrentCalls(t *testing.T) {
	h := newHost(t)
	before := h.links()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				_, _ = h.m.Create(endpoint.Endpoint{ID: "e", Network: "bridge", IPv4: prefix("10.1.0.7/24")})
				_, _, _ = h.m.Join("e")
				_ = h.m.Leave("e")
				if err := h.m.Delete("bridge", "e"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if after := h.links(); after != before || len(h.m.List()) != 0 {
		t.Errorf("there were the links %s, now %s and %v", before, after, h.m.List())
	}
}
