package engine_test

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/netdriver/kernel"
)

func TestMacvlanModes(t *testing.T) {
	for name, want := range map[string]netlink.MacvlanMode{
		"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE,
		"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			far := h.lan("nic0", "10.1.0.100/24")
			h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", macvlan+`,"macvlan_mode":"`+name+`"`))
			a, b := h.run("a", "10.1.0.7/24", ""), h.run("b", "10.1.0.8/24", "")
			l := must[netlink.Link](t)(a.lib.LinkByName(a.link))
			if mode := l.(*netlink.Macvlan).Mode; mode != want {
				t.Errorf("made with mode %d, not %d", mode, want)
			}
			a.reaches(far, "10.1.0.100")
			if want == netlink.MACVLAN_MODE_BRIDGE {
				a.reaches(b, "10.1.0.8")
			} else {
				a.misses(b, "10.1.0.8")
			}
		})
	}
}

func TestPassthru(t *testing.T) {
	const passthru = `"parent":"nic1","macvlan_mode":"passthru"`
	h := newHost(t)
	far := h.lan("nic1", "10.1.0.100/24")
	h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic0","macvlan_mode":"passthru"`), "carries the host's address 10.9.0.2/24")
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.2.0.0/24", `"parent":"nic1"`))
	h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", passthru), "is used by network m")
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"m"}`)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", passthru))
	h.refused("NetworkDriver.CreateNetwork", create("m", "10.2.0.0/24", `"parent":"nic1"`), "needs its interface for itself")
	own := h.link("nic1").Attrs().HardwareAddr.String()
	made := h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"a","Interface":{"Address":"10.1.0.7/24"}}`)
	if i, _ := made["Interface"].(map[string]any); i["MacAddress"] != own {
		t.Errorf("the endpoint gets %v, the interface has %s", made, own)
	}
	a := h.run("a", "10.1.0.7/24", "")
	a.reaches(far, "10.1.0.100")
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"b","Interface":{"Address":"10.1.0.8/24"}}`)
	h.refused("NetworkDriver.Join", endpointOf("b"), "to one container at a time, and endpoint a has it")
	h.ok("NetworkDriver.Leave", endpointOf("a"))
	if err := a.lib.LinkDel(must[netlink.Link](t)(a.lib.LinkByName(a.link))); err != nil {
		t.Fatal(err)
	}
	h.ok("NetworkDriver.Join", endpointOf("a")) // whoever was refused has nothing
	h.stop("a", nil)
	b := h.run("b", "10.1.0.8/24", "")
	b.reaches(far, "10.1.0.100")
	h.stop("b", b)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.wantOurs(0, "after DeleteNetwork")
}

func TestAParentThatCarriesSomebodysMacvlanIsNotPassedThrough(t *testing.T) {
	h := newHost(t)
	if err := h.k.CreateMacvlan(kernel.Macvlan{Name: "theirs0", Alias: "theirs", Parent: "nic1"}); err != nil {
		t.Fatal(err)
	}
	h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1","macvlan_mode":"passthru"`), "carries the macvlan link theirs0")
}

func TestAParentThatSomebodyHasPassedThroughIsRefused(t *testing.T) {
	h := newHost(t)
	if err := h.k.CreateMacvlan(kernel.Macvlan{Name: "theirs0", Alias: "theirs", Parent: "nic1", Mode: kernel.MacvlanPassthru}); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"bridge", "private", "vepa"} {
		h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1","macvlan_mode":"`+mode+`"`), "passed through to the macvlan link theirs0")
	}
	h.deleteLink("theirs0")
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"nic1"`))
}

func (h *host) deleteLink(name string) {
	h.t.Helper()
	if err := h.lib.LinkDel(h.link(name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) rename(from, to string) {
	h.t.Helper()
	l := h.link(from)
	if err := h.lib.LinkSetDown(l); err != nil {
		h.t.Fatal(err)
	}
	if err := h.lib.LinkSetName(l, to); err != nil {
		h.t.Fatal(err)
	}
	if err := h.lib.LinkSetUp(l); err != nil {
		h.t.Fatal(err)
	}
}

// parentOf runs an endpoint for as long as it takes to see what it is made on.
func (h *host) parentOf(id string) string {
	h.t.Helper()
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"`+id+`","Interface":{"Address":"10.1.0.77/24"}}`)
	h.ok("NetworkDriver.Join", endpointOf(id))
	parent := must[netlink.Link](h.t)(h.lib.LinkByIndex(h.link(kernel.ContainerName(id)).Attrs().ParentIndex)).Attrs().Name
	h.stop(id, nil)
	return parent
}

// A rule is evaluated again after a restart, and when the parent is gone; not
// while containers are on the one that it led to.
func TestAParentIsFoundAgainByItsRule(t *testing.T) {
	for _, tc := range []struct{ name, rule string }{
		{"by name", "eno1,nic1"},
		{"by MAC", ""},
		{"by route", "route:10.7.0.0/16"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.rule == "" {
				tc.rule = "mac:" + h.link("nic1").Attrs().HardwareAddr.String()
			}
			h.addAddr("nic1", "10.7.0.1/24")
			h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"`+tc.rule+`"`))
			h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"`+tc.rule+`"`))
			if got := h.parentOf("a"); got != "nic1" {
				t.Errorf("found %s", got)
			}
			h.rename("nic1", "eno1")
			if got := h.parentOf("b"); got != "eno1" {
				t.Errorf("after the parent was renamed: %s", got)
			}
			h.rename("eno1", "nic1")
			h.kill()
			h.start()
			if got := h.parentOf("c"); got != "nic1" {
				t.Errorf("after a restart: %s", got)
			}
		})
	}
}

func TestARuleLeavesContainersWhereTheyAre(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"eno1,nic1"`))
	a := h.run("a", "10.1.0.7/24", "")
	h.rename("nic0", "eno1")
	if got := h.parentOf("b"); got != "nic1" {
		t.Errorf("with a container on nic1 the next one got %s", got)
	}
	h.kill()
	h.start()
	if got := h.parentOf("c"); got != "nic1" {
		t.Errorf("after a restart, with a container on nic1, the next one got %s", got)
	}
	h.stop("a", a)
	h.kill()
	h.start()
	if got := h.parentOf("d"); got != "eno1" {
		t.Errorf("after a restart the next one got %s", got)
	}
}

func TestRefusedRules(t *testing.T) {
	h := newHost(t)
	for rule, with := range map[string]string{
		"eno1,eno2":             "none of these interfaces exists; this host has nic0",
		"mac:02:00:00:00:00:01": "no interface fits; this host has nic0",
		"route:172.30.0.0/16":   "no interface fits",
		"lo":                    "leads nowhere",
	} {
		h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"parent":"`+rule+`"`), with)
	}
	if got := strings.Join(h.ours(), " "); got != "" {
		t.Errorf("left %s", got)
	}
}
