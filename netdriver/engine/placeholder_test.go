package engine_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/reconcile"
)

// A container that starts without a parent gets its wire when the parent comes,
// again when it comes again, and whoever is killed in between.
func TestAContainerThatStartsWithoutAParent(t *testing.T) {
	h := newHost(t)
	options := `"parent":"nic1"`
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", options))
	h.deleteLink("nic1")
	a := h.run("a", "10.1.0.7/24", "fd01::7/64")
	h.reconcile()
	for range 2 {
		h.wire("nic1", "")
		far := h.lan("nic1", "10.1.0.100/24", "fd01::100/64")
		h.reconcile()
		a.reaches(far, "10.1.0.100")
		a.reaches(far, "fd01::100")
		far.reaches(a, "10.1.0.7")
		b := h.run("b", "10.1.0.8/24", "")
		a.reaches(b, "10.1.0.8")
		h.kill()
		h.start()
		far.reaches(a, "fd01::7")
		wire := h.link(kernel.WireName("a")).Attrs().Index
		h.reconcile()
		if h.link(kernel.WireName("a")).Attrs().Index != wire {
			t.Error("the wire was made anew")
		}
		h.stop("b", b)
		h.deleteLink("nic1")
		h.reconcile()
		a.misses(far, "10.1.0.100")
	}
	h.stop("a", a)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.wantOurs(0, "after DeleteNetwork")
}

func TestTheWireOfAContainerThatDiedIsRemoved(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1"`))
	h.deleteLink("nic1")
	a := h.run("a", "10.1.0.7/24", "")
	h.wire("nic1", "")
	h.reconcile()
	h.link(kernel.WireName("a"))
	if err := a.lib.LinkDel(must[netlink.Link](t)(a.lib.LinkByName(a.link))); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	h.wantOurs(0, "after the sandbox is gone")
}

// What a crash leaves of a wire is replaced.
func TestAWireThatWasCutOffIsMadeAnew(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1"`))
	h.deleteLink("nic1")
	a := h.run("a", "10.1.0.7/24", "")
	h.wire("nic1", "")
	far := h.lan("nic1", "10.1.0.100/24")
	if err := h.k.CreateMacvlan(kernel.Macvlan{Name: kernel.WireName("a"), Alias: "", Parent: "nic1"}); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	a.reaches(far, "10.1.0.100")
}

// A bridge without its uplink connects containers all the same.
func TestABridgeThatHasLostItsUplinkComesBack(t *testing.T) {
	for _, uplink := range []string{"nic1", "eno1,nic1"} {
		h := newHost(t)
		h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"mode":"bridge","uplink":"`+uplink+`"`))
		h.deleteLink("nic1")
		h.deleteLink(kernel.BridgeName("n"))
		a := h.run("a", "10.1.0.7/24", "")
		h.deleteLink(kernel.BridgeName("n"))
		h.reconcile()
		b := h.run("b", "10.1.0.8/24", "")
		a.reaches(b, "10.1.0.8")
		h.wire("nic1", "")
		far := h.lan("nic1", "10.1.0.100/24")
		h.reconcile()
		a.reaches(far, "10.1.0.100")
	}
}

// A container whose link went with its parent may be running, and as long as
// nobody says that it ended, its address is nobody else's.
func TestAContainerWhoseParentVanishedKeepsItsAddress(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1"`))
	h.run("a", "10.1.0.7/24", "")
	h.deleteLink("nic1")
	h.reconcile()
	h.wire("nic1", "")
	for range 2 {
		h.now = h.now.Add(2 * reconcile.Grace)
		h.reconcile()
		h.kill()
		h.start()
	}
	h.ok("NetworkDriver.EndpointOperInfo", endpointOf("a"))
	h.stop("a", nil)
	h.refused("NetworkDriver.EndpointOperInfo", endpointOf("a"), "no such endpoint")
}
