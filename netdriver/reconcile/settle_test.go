package reconcile

import (
	"log/slog"
	"testing"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// table is a store's contents that never change.
type table[V any] map[string]V

func (t table[V]) Put(string, V) error        { return nil }
func (t table[V]) Delete(...string) error     { return nil }
func (t table[V]) All() (map[string]V, error) { return t, nil }
func must[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// deleting is a host on which links can be deleted, and nothing else.
type deleting struct {
	Host
	kernel.Instance
	gone []string
}

func (h *deleting) Owner(alias string) (kernel.Owner, bool) { return h.Instance.Owner(alias) }

func (h *deleting) DeleteOwned(name, _ string) error {
	h.gone = append(h.gone, name)
	return nil
}

func TestSettleOfNetworksLinks(t *testing.T) {
	const self kernel.Instance = "test"
	log := slog.New(slog.DiscardHandler)
	defs := table[network.Definition]{
		"there": {ID: "there", Mode: network.Bridge, BridgeName: "br0", Complete: true},
		"going": {ID: "going", Mode: network.Bridge, BridgeName: "br1", Complete: true, Going: true},
	}
	networks := must[*network.Manager](t)(network.NewManager(nil, defs, "ours", log))
	endpoints := must[*endpoint.Manager](t)(endpoint.NewManager(nil, table[endpoint.Endpoint]{}, networks, log))
	for _, tc := range []struct {
		name, network, link string
		removed             bool
	}{
		{"a network's own", "there", "br0", false},
		{"a network's own in the making", "there", kernel.BridgeDraftName(self.NetworkAlias("there")), false},
		{"one that it does not have", "there", "br9", true},
		// Its bridge may carry the host's addresses, which go back first.
		{"of a network that is being removed", "going", "br1", false},
		{"of a network that is gone", "gone", "br2", true},
	} {
		h := &deleting{Instance: self}
		r := &Reconciler{Host: h, Networks: networks, Endpoints: endpoints, Log: log}
		l := kernel.Link{Name: tc.link, Type: "bridge", Alias: self.NetworkAlias(tc.network)}
		changed, err := r.settle(l, kernel.Owner{Network: tc.network}, bridge{})
		if err != nil || changed != tc.removed || (len(h.gone) > 0) != tc.removed {
			t.Errorf("%s: changed %v, %v, removed %q", tc.name, changed, err, h.gone)
		}
	}
}
