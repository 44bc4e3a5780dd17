package kernel

import (
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestPort(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	var first Link
	for range 2 {
		l, err := k.EnsurePort("n", "nic0")
		if err != nil {
			t.Fatal(err)
		}
		if first.Index != 0 && first.Index != l.Index {
			t.Errorf("made a second time: %+v and %+v", first, l)
		}
		first = l
	}
	if _, ours := k.Owner(first.Alias); ours || !IsAlias(first.Alias) || !first.Up || first.MTU >= 1280 {
		t.Errorf("port %+v", first)
	}
	l, err := k.byName(first.Name)
	if err != nil || l.Attrs().RawFlags&0x80 == 0 { // IFF_NOARP
		t.Errorf("the port answers ARP for the host: %+v, %v", l, err)
	}
	addrs, err := k.h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil || len(addrs) != 0 {
		t.Errorf("the port has addresses %v, %v", addrs, err)
	}
	if n := tables(t, k); n != 1 {
		t.Errorf("what comes in is not dropped: %d tables", n)
	}
	if ports, err := k.Ports(); err != nil || ports["n"] != first.Name {
		t.Errorf("ports %v, %v", ports, err)
	}
	if err := k.DeletePort("n"); err != nil {
		t.Error(err)
	}
	gone(t, k, first.Name)
	if n := tables(t, k); n != 0 {
		t.Errorf("%d tables are left", n)
	}
}

func tables(t *testing.T, k *Kernel) int {
	t.Helper()
	all, err := k.nft.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
