package kernel

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestWatch(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	nic, err := k.byName("nic0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- k.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	<-changed // it listens
	addr := &netlink.Addr{IPNet: toIPNet(netip.MustParsePrefix("10.9.0.1/24"))}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"MTU", func() error { return k.h.LinkSetMTU(nic, 1400) }},
		{"address", func() error { return k.h.AddrReplace(nic, addr) }},
		{"down", func() error { return k.SetDown("nic0") }},
		{"rule", func() error {
			k.nft.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
			return k.nft.Flush()
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		<-changed // or the test never ends
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
