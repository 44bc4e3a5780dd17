package engine_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/reconcile"
)

const running = `{"NetworkID":"n","EndpointID":"e","Options":{},"Interface":{"Address":"10.1.0.7/24"}}`

// link looks a link up, which must be there.
func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	return must[netlink.Link](h.t)(h.lib.LinkByName(name))
}

func (h *host) addBridge(name string) netlink.Link {
	h.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := h.lib.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		h.t.Fatal(err)
	}
	return h.link(name)
}

func (h *host) addAddr(name, addr string) {
	h.t.Helper()
	if err := h.lib.AddrAdd(h.link(name), must[*netlink.Addr](h.t)(netlink.ParseAddr(addr))); err != nil {
		h.t.Fatal(err)
	}
}

// sandbox moves an endpoint's link into a namespace of its own, as the engine
// does after Join, and returns the name of the host end.
func (h *host) sandbox(endpoint string) string {
	h.t.Helper()
	moved := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			h.t.Cleanup(func() { _ = ns.Close() })
			err = h.lib.LinkSetNsFd(h.link(kernel.ContainerName(endpoint)), int(ns))
		}
		moved <- err
	}()
	if err := <-moved; err != nil {
		h.t.Fatal(err)
	}
	return kernel.HostName(endpoint)
}

// as returns a second handle on the host's namespace, of another instance.
func (h *host) as(instance kernel.Instance) *kernel.Kernel {
	h.t.Helper()
	type opened struct {
		k   *kernel.Kernel
		err error
	}
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(h.ns); err != nil {
			done <- opened{err: err}
			return
		}
		k, err := kernel.Open(instance)
		done <- opened{k, err}
	}()
	o := <-done
	if o.err != nil {
		h.t.Fatal(o.err)
	}
	h.t.Cleanup(o.k.Close)
	return o.k
}

func (h *host) runs(options string) {
	h.t.Helper()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", options))
	h.ok("NetworkDriver.CreateEndpoint", running)
	h.ok("NetworkDriver.Join", ids)
}

func TestAnUplinkWithAnotherUseStaysWithItsOwner(t *testing.T) {
	h := newHost(t)
	h.runs(bridge)
	users := h.addBridge("users0")
	if err := h.lib.LinkSetMaster(h.link("nic1"), users); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	if h.link("nic1").Attrs().MasterIndex != users.Attrs().Index {
		t.Error("nic1 was taken out of the operator's bridge")
	}
	if err := h.lib.LinkSetNoMaster(h.link("nic1")); err != nil {
		t.Fatal(err)
	}
	h.addAddr("nic1", "169.254.7.7/16") // of link-local scope, and given all the same
	h.reconcile()
	if h.link("nic1").Attrs().MasterIndex != 0 {
		t.Error("nic1, which carries the host's address, was made a port")
	}
	h.ok("NetworkDriver.Join", ids)
	if err := h.lib.AddrDel(h.link("nic1"), must[*netlink.Addr](t)(netlink.ParseAddr("169.254.7.7/16"))); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	if h.link("nic1").Attrs().MasterIndex != h.link(kernel.BridgeName("n")).Attrs().Index {
		t.Error("nic1 was not taken back once it was free")
	}
}

func TestABridgeOfTheUsersOwnSurvivesItsNetwork(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge+`,"com.docker.network.bridge.name":"br7"`))
	if err := h.lib.LinkDel(h.link("br7")); err != nil {
		t.Fatal(err)
	}
	users := h.addBridge("br7") // the host's own configuration came first after a reboot
	if err := h.lib.LinkSetMaster(h.link("nic1"), users); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	if h.link("br7"); h.link("nic1").Attrs().MasterIndex != users.Attrs().Index {
		t.Error("the user's bridge lost its port")
	}
}

func TestAnUplinkThatIsTheOperatorsAgainIsNotTakenDown(t *testing.T) {
	h := newHost(t)
	if err := h.k.SetDown("nic1"); err != nil {
		t.Fatal(err)
	}
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	if err := h.lib.LinkSetNoMaster(h.link("nic1")); err != nil {
		t.Fatal(err)
	}
	h.addAddr("nic1", "192.0.2.7/24")
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	if !must[kernel.Link](t)(h.k.Link("nic1")).Up {
		t.Error("nic1, in use by the host, was taken down")
	}
}

func TestInstancesLeaveEachOthersLinksAlone(t *testing.T) {
	h := newHost(t)
	h.runs(bridge)
	second := &host{t: t, dir: t.TempDir(), ns: h.ns, k: h.as("second"), lib: h.lib}
	second.start()
	defer second.kill()
	h.wantOurs(3, "after another instance has started")
}

func TestALostJournalCostsNoContainerItsLink(t *testing.T) {
	h := newHost(t)
	h.runs(bridge)
	end := h.sandbox("e")
	h.kill()
	h.boot = "another" // the journal is not read
	h.start()
	h.reconcile()
	if h.link(end).Attrs().MasterIndex != h.link(kernel.BridgeName("n")).Attrs().Index {
		t.Error("the host end is no port any more")
	}
	h.ok("NetworkDriver.DeleteEndpoint", ids)
	h.wantOurs(1, "after DeleteEndpoint")
}

func TestARenamedHostEndIsAtWork(t *testing.T) {
	h := newHost(t)
	h.runs(bridge)
	if err := h.lib.LinkSetName(h.link(h.sandbox("e")), "renamed"); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	h.now = h.now.Add(2 * reconcile.Grace)
	h.reconcile()
	h.link("renamed")
	h.ok("NetworkDriver.EndpointOperInfo", ids)
}

func TestASecondJoinLeavesARunningContainerItsLink(t *testing.T) {
	h := newHost(t)
	h.runs(bridge)
	before := h.link(h.sandbox("e")).Attrs().Index
	h.refused("NetworkDriver.Join", ids, "in a sandbox")
	if after := h.link(kernel.HostName("e")).Attrs().Index; after != before {
		t.Error("the pair was replaced")
	}
	h.reconcile()
	h.ok("NetworkDriver.EndpointOperInfo", ids)
}

func TestABridgeThatWasCutOffBeforeItsAliasIsFinished(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	if err := h.lib.LinkDel(h.link(kernel.BridgeName("n"))); err != nil {
		t.Fatal(err)
	}
	h.addBridge(kernel.BridgeName("n"))
	h.reconcile()
	b := must[kernel.Link](t)(h.k.Link(kernel.BridgeName("n")))
	if b.Alias != h.k.NetworkAlias("n") || !b.Up || b.MAC.String() != kernel.BridgeMAC("n").String() {
		t.Errorf("left as %+v", b)
	}
}

func TestAnIsolatedBridgeGivesTheHostNoAddress(t *testing.T) {
	h := newHost(t)
	h.runs(`"mode":"bridge"`)
	for _, name := range []string{kernel.ContainerName("e"), kernel.HostName("e")} {
		if err := h.k.SetUp(name); err != nil {
			t.Fatal(err)
		}
	}
	// The container's end gets its address from the same event that would give
	// the bridge one, and is what says that there was time for it.
	for deadline := time.Now().Add(5 * time.Second); ; {
		if all := must[[]netlink.Addr](t)(h.lib.AddrList(h.link(kernel.ContainerName("e")), netlink.FAMILY_V6)); len(all) > 0 || time.Now().After(deadline) {
			break
		}
		runtime.Gosched()
	}
	for _, name := range []string{kernel.BridgeName("n"), kernel.HostName("e")} {
		if all := must[[]netlink.Addr](t)(h.lib.AddrList(h.link(name), netlink.FAMILY_ALL)); len(all) > 0 {
			t.Errorf("%s has %v", name, all)
		}
	}
}

func TestAParentThatWasTakenDownComesUpWithTheNextContainer(t *testing.T) {
	h := newHost(t)
	h.runs(macvlan)
	if err := h.k.SetDown("nic0"); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	if must[kernel.Link](t)(h.k.Link("nic0")).Up {
		t.Error("the operator's interface was brought up against him")
	}
	h.ok("NetworkDriver.Join", ids)
	if !must[kernel.Link](t)(h.k.Link("nic0")).Up {
		t.Error("the parent is down under a container that starts")
	}
}

func TestAnMTUIsHeldAgainstTheParent(t *testing.T) {
	h := newHost(t)
	for _, options := range []string{macvlan, bridge} {
		h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", options+`,"mtu":"9000"`), "1500")
	}
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge+`,"mtu":"1400"`))
	if l := must[kernel.Link](t)(h.k.Link(kernel.BridgeName("n"))); l.MTU != 1400 {
		t.Errorf("the bridge has %d", l.MTU)
	}
}

func TestARouteWithoutAnInterfaceIsNamedAsSuch(t *testing.T) {
	h := newHost(t)
	dst := must[*netlink.Addr](t)(netlink.ParseAddr("10.1.0.0/16")).IPNet
	if err := h.lib.RouteAdd(&netlink.Route{Dst: dst, Type: 6}); err != nil { // RTN_BLACKHOLE
		t.Fatal(err)
	}
	h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", macvlan), "blackhole")
}

func TestAMisspeltLabelIsRefused(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", macvlan))
	withOption := func(option string) string {
		return `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.1.0.7/24"},"Options":{` + option + `}}`
	}
	h.refused("NetworkDriver.CreateEndpoint", withOption(`"com.docker.network.endpoint.ifnam":"lan0"`), `did you mean "com.docker.network.endpoint.ifname"`)
	h.refused("NetworkDriver.CreateEndpoint", withOption(`"rate":"1"`), "this driver has only hostname")
	h.refused("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local","Options":{"com.docker.network.ipam.seral":"true"}}`, "did you mean")
	h.ok("NetworkDriver.CreateEndpoint", withOption(`"com.docker.network.endpoint.ifname":"lan0","com.docker.network.portmap":[],"com.docker.network.of.a.newer.engine":[]`))
}
