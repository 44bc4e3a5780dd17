//go:build vm

package engine_test

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/netdriver/kernel"
)

// These tests need a kernel with 802.1Q. They run in a virtual machine
// (test/vm), because the one at hand need not have it.

const tagged = `"parent":"nic1.100"`

// addVLAN gives a machine a sub-interface.
func addVLAN(t *testing.T, lib *netlink.Handle, parent, name string, id int, addrs ...string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, must[netlink.Link](t)(lib.LinkByName(parent)).Attrs().Index
	l := &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	if err := lib.LinkAdd(l); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if err := lib.AddrAdd(l, must[*netlink.Addr](t)(netlink.ParseAddr(a))); err != nil {
			t.Fatal(err)
		}
	}
	if err := lib.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

// trunk is a machine on the LAN that is in VLANs 100 and 200.
func (h *host) trunk() *place {
	h.t.Helper()
	far := h.lan("nic1")
	addVLAN(h.t, far.lib, far.link, "v100", 100, "10.1.0.100/24", "10.2.0.100/24")
	addVLAN(h.t, far.lib, far.link, "v200", 200, "10.3.0.100/24")
	return far
}

func (h *host) has(name string) bool {
	h.t.Helper()
	_, err := h.k.Link(name)
	return err == nil
}

func (h *host) wantLink(name string, want bool, when string) {
	h.t.Helper()
	if h.has(name) != want {
		h.t.Errorf("%s: link %s is there: %v", when, name, !want)
	}
}

func TestVLANLivesAsLongAsItsNetworks(t *testing.T) {
	h := newHost(t)
	far := h.trunk()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	if l := must[kernel.Link](t)(h.k.Link("nic1.100")); l.VLAN != 100 || !l.Up || !h.k.OwnsVLAN(l.Alias) {
		t.Errorf("made %+v", l)
	}
	if addrs := must[[]netlink.Addr](t)(h.lib.AddrList(h.link("nic1.100"), netlink.FAMILY_ALL)); len(addrs) > 0 {
		t.Errorf("the host has %v in the VLAN", addrs)
	}
	h.restart()
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.2.0.0/24", `"parent":"nic1","vlan":"100"`))
	a, b := h.run("a", "10.1.0.7/24", ""), h.runOn("m", "b", "10.2.0.7/24", "")
	a.reaches(far, "10.1.0.100")
	b.reaches(far, "10.2.0.100")
	h.stop("a", a)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.wantLink("nic1.100", true, "with a network left")
	h.restart()
	b.reaches(far, "10.2.0.100")
	h.ok("NetworkDriver.Leave", `{"NetworkID":"m","EndpointID":"b"}`)
	h.ok("NetworkDriver.DeleteEndpoint", `{"NetworkID":"m","EndpointID":"b"}`)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"m"}`)
	h.wantLink("nic1.100", false, "with no network left")
	h.wantLink("nic1", true, "with no network left")
	h.wantOurs(0, "with no network left")
}

func TestVLANsOfOneParentAreApart(t *testing.T) {
	h := newHost(t)
	far := h.trunk()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.3.0.0/24", `"parent":"nic1","vlan":"200","macvlan_mode":"passthru"`))
	a, b := h.run("a", "10.1.0.7/24", ""), h.runOn("m", "b", "10.3.0.7/24", "")
	a.reaches(far, "10.1.0.100")
	b.reaches(far, "10.3.0.100")
	if err := b.lib.AddrAdd(must[netlink.Link](t)(b.lib.LinkByName(b.link)), must[*netlink.Addr](t)(netlink.ParseAddr("10.1.0.9/24"))); err != nil {
		t.Fatal(err)
	}
	b.misses(a, "10.1.0.7")
	h.refused("NetworkDriver.CreateNetwork", create("o", "10.4.0.0/24", `"parent":"nic1.200"`), "needs its interface for itself")
	h.refused("NetworkDriver.CreateNetwork", create("o", "10.4.0.0/24", `"parent":"nic1.200.5"`), "belongs to another network")
	h.refused("NetworkDriver.CreateNetwork", create("o", "10.4.0.0/24", `"parent":"nic1.300","mtu":"9000"`), "more than the 1500")
	h.wantLink("nic1.300", false, "after a refusal")
}

func TestVLANAsTheUplinkOfABridge(t *testing.T) {
	h := newHost(t)
	far := h.trunk()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"mode":"bridge","uplink":"nic1","vlan":"100"`))
	a := h.run("a", "10.1.0.7/24", "")
	a.reaches(far, "10.1.0.100")
	h.restart()
	a.reaches(far, "10.1.0.100")
	h.ok("NetworkDriver.Leave", endpointOf("a"))
	h.ok("NetworkDriver.DeleteEndpoint", endpointOf("a"))
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.wantOurs(0, "after DeleteNetwork")
}

func TestVLANThatIsGoneComesBack(t *testing.T) {
	h := newHost(t)
	far := h.trunk()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	h.deleteLink("nic1.100")
	h.reconcile()
	h.wantLink("nic1.100", true, "after somebody deleted it")
	h.deleteLink("nic1.100")
	h.run("a", "10.1.0.7/24", "").reaches(far, "10.1.0.100")
	h.kill()
	h.deleteLink("nic1.100") // as a reboot does
	h.boot = "2"
	h.start()
	h.wantLink("nic1.100", true, "after a reboot")
	h.run("b", "10.1.0.8/24", "").reaches(far, "10.1.0.100")
}

// The host's own sub-interface is used, and left alone.
func TestVLANOfTheHost(t *testing.T) {
	for _, name := range []string{"nic1.100", "office"} {
		h := newHost(t)
		far := h.trunk()
		addVLAN(t, h.lib, "nic1", name, 100, "10.9.9.1/24")
		index := h.link(name).Attrs().Index
		h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
		a := h.run("a", "10.1.0.7/24", "")
		a.reaches(far, "10.1.0.100")
		h.restart()
		h.stop("a", a)
		h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
		h.restart()
		if l := h.link(name); l.Attrs().Index != index || l.Attrs().Alias != "" {
			t.Errorf("%s is another: %+v", name, l.Attrs())
		}
	}
}

// One that somebody else has begun to use is theirs.
func TestVLANThatTheHostHasTakenOver(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	h.addAddr("nic1.100", "10.9.9.1/24")
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	if l := h.link("nic1.100"); l.Attrs().Alias != "" {
		t.Errorf("still ours: %q", l.Attrs().Alias)
	}
}

// A crash leaves a draft, with its alias or without, or the whole without a
// network that needs it.
func TestVLANThatWasCutOff(t *testing.T) {
	h := newHost(t)
	far := h.trunk()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	alias := h.link("nic1.100").Attrs().Alias
	for _, drafted := range []string{"", alias} {
		h.kill()
		l := h.link("nic1.100")
		if err := h.lib.LinkSetDown(l); err != nil {
			t.Fatal(err)
		}
		if err := h.lib.LinkSetName(l, kernel.VLANDraftName(alias)); err != nil {
			t.Fatal(err)
		}
		if err := h.lib.LinkSetAlias(l, drafted); err != nil {
			t.Fatal(err)
		}
		h.start()
		h.wantLink("nic1.100", true, "after a crash while it was made")
		h.wantLink(kernel.VLANDraftName(alias), false, "after a crash while it was made")
	}
	h.run("a", "10.1.0.7/24", "").reaches(far, "10.1.0.100")
	other := strings.Replace(alias, "nic1.100", "nic0.5", 1)
	for name, has := range map[string]string{"nic0.5": other, kernel.VLANDraftName(other): ""} {
		addVLAN(t, h.lib, "nic0", name, 5)
		if err := h.lib.LinkSetAlias(h.link(name), has); err != nil {
			t.Fatal(err)
		}
		h.restart()
		h.wantLink(name, false, "after a crash when its network was gone")
	}
}

func TestVLANWhoseParentComesLater(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tagged))
	h.deleteLink("nic1")
	a := h.run("a", "10.1.0.7/24", "")
	h.reconcile()
	h.wire("nic1", "")
	far := h.trunk()
	h.reconcile()
	a.reaches(far, "10.1.0.100")
}

func TestVLANOfAnInterfaceWithALongName(t *testing.T) {
	h := newHost(t)
	h.wire("nic2", "")
	h.rename("nic2", "enx001122334455")
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"enx001122334455.4094"`))
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.2.0.0/24", `"parent":"enx001122334455","vlan":"4094"`))
	h.restart()
	h.wantOurs(1, "of two networks")
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"m"}`)
	h.wantOurs(0, "of none")
}
