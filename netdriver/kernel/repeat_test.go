package kernel

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// events is what the kernel tells of while do runs, as Watch hears it.
func events(t *testing.T, k *Kernel, do func() error) (heard []mdnetlink.Message) {
	t.Helper()
	c, err := k.dial(unix.NETLINK_ROUTE, routeGroups)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := errors.Join(do(), k.SetUp("lo")); err != nil { // of what is down the kernel tells nobody
		t.Fatal(err)
	}
	lo := mustLink(t, k, "lo")
	last, err := k.byName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.h.LinkSetAlias(last, "the end"); err != nil {
		t.Fatal(err)
	}
	for {
		msgs, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if l, err := netlink.LinkDeserialize(nil, m.Data); uint16(m.Header.Type) == unix.RTM_NEWLINK && err == nil && l.Attrs().Index == lo.Index {
				return heard
			}
			if counts(m) {
				heard = append(heard, m)
			}
		}
	}
}

// A reconcile that finds all as it should be must not be the change that calls
// for the next one.
func TestWhatIsRightIsNotWrittenAgain(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	wire(t, k, "nic1")
	hostAddrs := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")}
	portAddrs := []netip.Addr{netip.MustParseAddr("10.8.0.1"), netip.MustParseAddr("fd08::1")}
	for name, ensure := range map[string]func() error{
		"a bridge with the host's addresses": func() error {
			return k.EnsureBridge(Bridge{Name: BridgeName("a"), Alias: self.NetworkAlias("a"), MAC: BridgeMAC("a"), MTU: 1400, Addrs: hostAddrs})
		},
		"a bridge with an uplink": func() error {
			return k.EnsureBridge(Bridge{Name: BridgeName("b"), Alias: self.NetworkAlias("b"), MAC: BridgeMAC("b"), MTU: 1500, Uplink: "nic0"})
		},
		"the host's port": func() error {
			return k.EnsureHostPort(HostPort{Name: HostPortName("c"), Alias: self.NetworkAlias("c"), Parent: "nic1", MAC: HostPortMAC("c"), Addrs: portAddrs})
		},
		"the port for looking": func() error {
			_, err := k.EnsurePort("c", "nic1")
			return err
		},
	} {
		if err := ensure(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		const tries = 20 // a link just made gets its carrier, and is told of, in between
		n := 1
		for try := 0; n > 0 && try < tries; try++ {
			n = len(events(t, k, ensure))
		}
		if n > 0 {
			t.Errorf("%s: %d changes each time", name, n)
		}
	}
}

func TestABridgeGetsItsMACBack(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	b := Bridge{Name: BridgeName("n"), Alias: self.NetworkAlias("n"), MAC: BridgeMAC("n"), Uplink: "nic0"}
	if err := k.EnsureBridge(b); err != nil {
		t.Fatal(err)
	}
	l, err := k.byName(b.Name)
	if err == nil {
		err = k.h.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 5})
	}
	if err == nil {
		err = k.EnsureBridge(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if l := mustLink(t, k, b.Name); l.MAC.String() != b.MAC.String() {
		t.Errorf("it has %s, want %s", l.MAC, b.MAC)
	}
}

// Whatever a crash leaves of a bridge in the making, under a name that is the
// user's own choice too, is known to be ours.
func TestABridgeInTheMakingIsOurs(t *testing.T) {
	k := inNamespace(t)
	for _, name := range []string{"br-lan", BridgeName("n")} {
		b := Bridge{Name: name, Alias: self.NetworkAlias("n"), MAC: BridgeMAC("n")}
		var named []string // by which it was known before it had its alias
		for _, m := range events(t, k, func() error { return k.EnsureBridge(b) }) {
			if l, err := netlink.LinkDeserialize(nil, m.Data); uint16(m.Header.Type) == unix.RTM_NEWLINK && err == nil && l.Type() == "bridge" && l.Attrs().Alias == "" {
				named = append(named, l.Attrs().Name)
			}
		}
		if len(named) == 0 {
			t.Fatal("nobody was told of it")
		}
		if err := k.DeleteBridge(b.Name, b.Alias); err != nil {
			t.Fatal(err)
		}
		for _, left := range named {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = left
			if err := k.h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
				t.Fatal(err)
			}
			if err := k.DeleteBridge(b.Name, b.Alias); err != nil {
				t.Errorf("%s, cut off as %s: %v", name, left, err)
			}
			gone(t, k, left)
		}
	}
}
