package kernel

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

func TestARouteThatIsRemoved(t *testing.T) {
	const bgp = 186 // RTPROT_BGP: a routing daemon's
	k := inNamespace(t)
	wire(t, k, "nic0")
	nic, err := k.byName("nic0")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		protocol netlink.RouteProtocol
		counts   bool
	}{
		"ours":             {routeProtocol, true},
		"an operator's":    {unix.RTPROT_STATIC, true},
		"a routing daemon": {bgp, false},
	} {
		for _, to := range []string{"10.7.0.9", "fd07::9"} {
			r := hostRoute(nic, netip.MustParseAddr(to))
			r.Protocol = tc.protocol
			if err := k.h.RouteAdd(r); err != nil {
				t.Fatal(err)
			}
			heard := 0
			for _, m := range events(t, k, func() error { return k.h.RouteDel(r) }) {
				if uint16(m.Header.Type) == unix.RTM_DELROUTE {
					heard++
				}
			}
			if (heard > 0) != tc.counts {
				t.Errorf("%s: the removal of %s was heard %d times", name, to, heard)
			}
		}
	}
}

// Of a burst that the socket does not hold the kernel says only that something
// got lost, which may have been anything.
func TestABurstThatGetsLostIsAChange(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	nic, err := k.byName("nic0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.dial(unix.NETLINK_ROUTE, routeGroups)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadBuffer(1); err != nil { // the kernel makes it its least
		t.Fatal(err)
	}
	for i := range 100 {
		if err := k.h.LinkSetMTU(nic, 1400+i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		nothing := func(mdnetlink.Message) bool { return false }
		done <- listen(ctx, c, nothing, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	select { // one of them, or the test never ends
	case <-changed:
	case err := <-done:
		t.Fatalf("it does not listen any more: %v", err)
	}
	cancel()
	_ = c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
