package engine_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/engine"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/state"
)

// host is a network namespace with two wires, nic0 (address 10.9.0.2/24) and
// nic1 (none), and a state directory. A plugin runs on it until it is killed.
type host struct {
	t   *testing.T
	dir string
	ns  netns.NsHandle
	k   *kernel.Kernel
	lib *netlink.Handle

	now    time.Time     // the reconciler's
	later  time.Duration // than it is, for the addresses
	boot   string        // tells boots of the host apart
	kept   *state.Dir
	server *pluginserver.Server
	rec    *reconcile.Reconciler
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	h := &host{t: t, dir: t.TempDir()}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			h.ns = ns
			h.k, err = kernel.Open("first")
		}
		if err == nil {
			h.lib, err = netlink.NewHandle()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.k.Close(); h.lib.Close(); _ = h.ns.Close() })
	h.wire("nic0", "10.9.0.2/24")
	h.wire("nic1", "")
	h.start()
	t.Cleanup(h.kill)
	return h
}

func (h *host) wire(name, addr string) {
	h.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	v := netlink.NewVeth(attrs)
	v.PeerName = name + "-peer"
	err := h.lib.LinkAdd(v)
	if addr != "" {
		a, _ := netlink.ParseAddr(addr)
		err = errors.Join(err, h.lib.AddrAdd(v, a))
	}
	if err = errors.Join(err, h.lib.LinkSetUp(v)); err != nil {
		h.t.Fatal(err)
	}
}

func must[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// start starts a plugin process, as far as its state goes.
func (h *host) start() {
	t, log := h.t, slog.New(slog.DiscardHandler)
	t.Helper()
	h.kept = must[*state.Dir](t)(state.Open(h.dir, "boot"+h.boot))
	networks := must[*network.Manager](t)(network.NewManager(h.k, must[*state.Table[network.Definition]](t)(state.Durable[network.Definition](h.kept, "networks")), ipam.LocalSpace, log))
	endpoints := must[*endpoint.Manager](t)(endpoint.NewManager(h.k, must[*state.Table[endpoint.Endpoint]](t)(state.Journalled[endpoint.Endpoint](h.kept, "endpoints")), networks, log))
	addresses := must[*ipam.Manager](t)(ipam.New(ipam.Config{
		Pools:     must[*state.Table[ipam.Pool]](t)(state.Durable[ipam.Pool](h.kept, "pools")),
		Addresses: must[*state.Table[ipam.Given]](t)(state.Journalled[ipam.Given](h.kept, "addresses")),
		Cursors:   must[*state.Table[netip.Addr]](t)(state.Journalled[netip.Addr](h.kept, "cursors")),
		Kept:      must[*state.Table[ipam.Reservation]](t)(state.Journalled[ipam.Reservation](h.kept, "kept")), Keep: time.Minute,
		Routes:    func() ([]netip.Prefix, error) { return networks.Prefixes(), nil },
		HostAddrs: h.k.HostAddrs,
		Bound:     func(p ipam.Pool) bool { return networks.OnPool(p.Prefix) },
		Reserved:  networks.Reserved,
		Endpoints: endpoints.Addresses,
		Now:       func() time.Time { return time.Now().Add(h.later) }, Log: log,
	}))
	networks.SetPools(addresses)
	networks.SetEndpoints(endpoints)
	h.server = pluginserver.New(log)
	(&engine.Driver{Networks: networks, Endpoints: endpoints, IPAM: addresses, Log: log}).Register(h.server)
	h.rec = &reconcile.Reconciler{Host: h.k, Networks: networks, Endpoints: endpoints, Addresses: addresses, Now: func() time.Time { return h.now }, Log: log}
	if err := h.rec.Start(); err != nil {
		t.Fatal(err)
	}
}

func (h *host) kill() { _ = h.kept.Close() }

// call makes a plugin call and returns its reply and error text.
func (h *host) call(path, body string) (map[string]any, string) {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, httptest.NewRequest("POST", "/"+path, strings.NewReader(body)))
	var reply map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil {
		h.t.Fatalf("%s replied %q: %v", path, w.Body, err)
	}
	text, _ := reply["Err"].(string)
	return reply, text
}

func (h *host) ok(path, body string) map[string]any {
	h.t.Helper()
	reply, text := h.call(path, body)
	if text != "" {
		h.t.Fatalf("%s %s: %s", path, body, text)
	}
	return reply
}

func (h *host) refused(path, body, with string) {
	h.t.Helper()
	if _, text := h.call(path, body); !strings.Contains(text, with) || text == "" {
		h.t.Errorf("%s %s: got error %q, want one with %q", path, body, text, with)
	}
}

// ours lists the links that the plugin made.
func (h *host) ours() []string {
	h.t.Helper()
	var names []string
	for _, l := range must[[]kernel.Link](h.t)(h.k.Links()) {
		if l.Alias != "" || strings.HasPrefix(l.Name, "dl") {
			names = append(names, l.Name)
		}
	}
	return names
}

func (h *host) wantOurs(n int, when string) {
	h.t.Helper()
	if got := h.ours(); len(got) != n {
		h.t.Errorf("%s: links %v, want %d", when, got, n)
	}
}

func create(id, subnet, options string) string {
	return `{"NetworkID":"` + id + `","Options":{"com.docker.network.generic":{` + options + `}},"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"` + subnet + `","Gateway":"` + strings.Replace(subnet, "0/24", "1/24", 1) + `"}],"IPv6Data":[]}`
}

const (
	macvlan = `"parent":"nic0"`
	bridge  = `"mode":"bridge","uplink":"nic1"`
	ids     = `{"NetworkID":"n","EndpointID":"e"}`
)

func TestEveryCallRefusesAnEmptyBody(t *testing.T) {
	h := newHost(t)
	for _, path := range []string{
		"NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint",
		"NetworkDriver.Join", "NetworkDriver.Leave", "NetworkDriver.EndpointOperInfo", "NetworkDriver.AllocateNetwork",
		"IpamDriver.RequestPool", "IpamDriver.ReleasePool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress",
	} {
		h.refused(path, "", "empty request body")
	}
	for _, path := range []string{"NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join", "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleasePool", "IpamDriver.RequestAddress"} {
		h.refused(path, "{}", "")
	}
}

func TestCapabilities(t *testing.T) {
	h := newHost(t)
	if r := h.ok("NetworkDriver.GetCapabilities", ""); r["Scope"] != "local" || r["GwAllocChecker"] != true {
		t.Errorf("network: %v", r)
	}
	if r := h.ok("IpamDriver.GetCapabilities", ""); r["RequiresRequestReplay"] != true {
		t.Errorf("ipam: %v", r)
	}
	if r := h.ok("NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.generic":{"mode":"bridge"}}}`); r["SkipIPv4"] != true {
		t.Errorf("an isolated bridge asks for a gateway: %v", r)
	}
	h.refused("NetworkDriver.AllocateNetwork", `{"NetworkID":"n"}`, "swarm")
}

func TestCreateNetworkRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ subnet, options, with string }{
		"no parent":              {"10.1.0.0/24", ``, "this host has nic0"},
		"a parent that is not":   {"10.1.0.0/24", `"parent":"nic7"`, "no such interface; this host has"},
		"the loopback":           {"10.1.0.0/24", `"parent":"lo"`, "leads nowhere"},
		"an unknown option":      {"10.1.0.0/24", `"paret":"nic0"`, `did you mean "parent"`},
		"an uplink with address": {"10.1.0.0/24", `"mode":"bridge","uplink":"nic0"`, "10.9.0.2/24"},
		"a route elsewhere":      {"10.9.0.0/24", `"parent":"nic1"`, "allow_overlap"},
		"a bridge over a link":   {"10.1.0.0/24", `"mode":"bridge","com.docker.network.bridge.name":"nic1"`, "exists already"},
		"another's subnet":       {"10.5.0.0/24", macvlan, "overlaps"},
		"a macvlan parent":       {"10.1.0.0/24", `"mode":"bridge","uplink":"nic0-peer"`, "used with mode=macvlan"},
		"a tunnel":               {"10.1.0.0/24", `"parent":"tun0"`, "no Ethernet interface"},
		"a tunnel's VLAN":        {"10.1.0.0/24", `"parent":"tun0.7"`, "no Ethernet interface"},
		"a tunnel as an uplink":  {"10.1.0.0/24", `"mode":"bridge","uplink":"tun0"`, "no Ethernet interface"},
		"an uplink with links":   {"10.1.0.0/24", `"mode":"bridge","uplink":"nic1"`, "carries the macvlan link"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.ok("NetworkDriver.CreateNetwork", create("first", "10.5.0.0/24", `"parent":"nic0-peer"`))
			h.command("ip", "tuntap", "add", "mode", "tun", "name", "tun0")
			h.command("ip", "link", "add", "link", "nic1", "name", "other", "type", "macvlan")
			h.refused("NetworkDriver.CreateNetwork", create("n", tc.subnet, tc.options), tc.with)
			h.wantOurs(0, "after a refusal")
			h.refused("NetworkDriver.CreateEndpoint", ids, "no such network")
		})
	}
}

func TestTheLANOfTheParentIsNoConflict(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.9.0.0/24", macvlan))
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.8.0.0/24", macvlan)) // a second one on the same parent
}

func TestLifeOfAnEndpoint(t *testing.T) {
	for _, tc := range []struct {
		name, options   string
		network, joined int // links of ours
	}{
		{"macvlan", macvlan, 0, 1},
		{"bridge", bridge, 1, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			twice := func(path, body string) (last map[string]any) {
				for range 2 { // every call may be repeated
					last = h.ok(path, body)
				}
				return last
			}
			twice("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", tc.options))
			h.refused("NetworkDriver.CreateNetwork", create("n", "10.2.0.0/24", tc.options), "other options")
			made := twice("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.1.0.7/24"},"Options":{}}`)
			if i, _ := made["Interface"].(map[string]any); i["MacAddress"] != "02:42:0a:01:00:07" || i["Address"] != "" {
				t.Errorf("the engine gave an address and no MAC, the reply is %v", made)
			}
			h.wantOurs(tc.network, "before Join")
			joined := twice("NetworkDriver.Join", `{"NetworkID":"n","EndpointID":"e","SandboxKey":"/x","Options":{}}`)
			if i, _ := joined["InterfaceName"].(map[string]any); i["SrcName"] != kernel.ContainerName("e") || joined["Gateway"] != "10.1.0.1" || joined["DisableGatewayService"] != false {
				t.Errorf("Join replied %v", joined)
			}
			twice("NetworkDriver.ProgramExternalConnectivity", ids)
			h.wantOurs(tc.joined, "after Join")
			h.kill()
			h.start()
			h.wantOurs(tc.joined, "after the plugin was killed")
			twice("NetworkDriver.RevokeExternalConnectivity", ids)
			twice("NetworkDriver.Leave", ids)
			twice("NetworkDriver.DeleteEndpoint", ids)
			h.wantOurs(tc.network, "after DeleteEndpoint")
			twice("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
			h.wantOurs(0, "after DeleteNetwork")
		})
	}
}

func TestALinkThatNobodyNeedsIsSwept(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	strangers := []kernel.Macvlan{
		{Name: kernel.ContainerName("x"), Alias: h.k.EndpointAlias("n", "x"), Parent: "nic0", MAC: kernel.EndpointMAC(netip.Addr{}, netip.Addr{}, "x")},
		{Name: "theirs0", Alias: "somebody else", Parent: "nic0", MAC: kernel.EndpointMAC(netip.Addr{}, netip.Addr{}, "y")},
	}
	for _, m := range strangers {
		if err := h.k.CreateMacvlan(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.k.EnsureBridge(kernel.Bridge{Name: "dlb-old", Alias: h.k.NetworkAlias("gone"), MAC: kernel.BridgeMAC("gone")}); err != nil {
		t.Fatal(err)
	}
	if rep, err := h.rec.Once(); err != nil || rep.Changed() != 2 {
		t.Errorf("reconcile did %+v, %v", rep, err)
	}
	if _, err := h.k.Link("theirs0"); err != nil {
		t.Errorf("a link that is not ours was removed: %v", err)
	}
	h.wantOurs(2, "the network's bridge and theirs")
}

func TestABridgeThatWasRemovedComesBackWithItsPorts(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.1.0.7/24"}}`)
	h.ok("NetworkDriver.Join", ids)
	if err := h.k.DeleteOwned(kernel.BridgeName("n"), h.k.NetworkAlias("n")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rec.Once(); err != nil {
		t.Fatal(err)
	}
	b := must[kernel.Link](t)(h.k.Link(kernel.BridgeName("n")))
	for _, port := range []string{"nic1", kernel.HostName("e")} {
		if l := must[kernel.Link](t)(h.k.Link(port)); l.Master != b.Index {
			t.Errorf("%s is not a port again: %+v", port, l)
		}
	}
	// Without a reconcile, the next Join restores what it needs itself.
	if err := h.k.DeleteOwned(b.Name, b.Alias); err != nil {
		t.Fatal(err)
	}
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e2","Interface":{"Address":"10.1.0.8/24"}}`)
	h.ok("NetworkDriver.Join", `{"NetworkID":"n","EndpointID":"e2"}`)
}

// Engine 28 asks for the address spaces anew for each pool, be it that of a new
// network or replayed (seen on 28.5.2).
func TestAnEngineThatAsksForTheSpacesForEachPool(t *testing.T) {
	h := newHost(t)
	pools := func(ask func(path, body string)) {
		for _, subnet := range []string{"10.1.0.0/24", "fd00:1::/64", "10.2.0.0/24", "fd00:2::/64"} {
			ask("IpamDriver.GetDefaultAddressSpaces", "")
			ask("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local","Pool":"`+subnet+`"}`)
			gateway := netip.MustParsePrefix(subnet).Addr().Next().String()
			ask("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/`+subnet+`","Address":"`+gateway+`","Options":{"RequestAddressType":"com.docker.network.gateway"}}`)
		}
	}
	ok := func(path, body string) { h.ok(path, body) }
	h.ok("IpamDriver.GetCapabilities", "")
	pools(ok)
	for _, n := range []string{"1", "2"} {
		body := `{"NetworkID":"` + n + `","Options":{"com.docker.network.generic":{"parent":"nic0"}},` +
			`"IPv4Data":[{"AddressSpace":"dockline-local","Pool":"10.` + n + `.0.0/24"}],"IPv6Data":[{"AddressSpace":"dockline-local","Pool":"fd00:` + n + `::/64"}]}`
		h.ok("NetworkDriver.CreateNetwork", body)
	}
	h.ok("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.1.0.0/24","Address":"10.1.0.9"}`)
	h.kill()
	h.start()
	h.ok("IpamDriver.GetCapabilities", "") // the engine starts
	pools(ok)
	h.ok("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.1.0.0/24","Address":"10.1.0.9"}`)
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"1","EndpointID":"e","Interface":{"Address":"10.1.0.9/24"}}`)
	h.refused("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.1.0.0/24","Address":"10.1.0.9"}`, "already in use")
	h.refused("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local","Pool":"10.2.0.0/24"}`, "already in use")
}

func TestANetworkWhoseMakingWasCutOffIsRemoved(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	table := must[*state.Table[network.Definition]](t)(state.Durable[network.Definition](h.kept, "networks"))
	d := must[map[string]network.Definition](t)(table.All())["n"]
	d.Complete = false
	if err := table.Put("n", d); err != nil {
		t.Fatal(err)
	}
	h.kill()
	h.start()
	h.wantOurs(0, "after the start")
	h.ok("NetworkDriver.CreateNetwork", create("again", "10.1.0.0/24", bridge))
}

func TestAnUplinkIsLeftAsItWasFound(t *testing.T) {
	for _, up := range []bool{true, false} {
		h := newHost(t)
		if !up {
			if err := h.k.SetDown("nic1"); err != nil {
				t.Fatal(err)
			}
		}
		h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
		if l := must[kernel.Link](t)(h.k.Link("nic1")); !l.Up || l.Master == 0 {
			t.Errorf("as an uplink: %+v", l)
		}
		h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
		if l := must[kernel.Link](t)(h.k.Link("nic1")); l.Up != up || l.Master != 0 {
			t.Errorf("found up %v, left as %+v", up, l)
		}
	}
}

func TestAnEndpointThatTheEngineAbandonedIsRemoved(t *testing.T) {
	for name, options := range map[string]string{"macvlan": macvlan, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", options))
			network := len(h.ours())
			h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.1.0.7/24"}}`)
			h.ok("NetworkDriver.Join", ids)
			joined := len(h.ours())
			for _, step := range []struct {
				after time.Duration
				links int
			}{{0, joined}, {reconcile.Grace - 1, joined}, {1, network}} {
				h.now = h.now.Add(step.after)
				if _, err := h.rec.Once(); err != nil {
					t.Fatal(err)
				}
				h.wantOurs(step.links, "in its turn")
			}
			h.refused("NetworkDriver.EndpointOperInfo", ids, "no such endpoint")
		})
	}
}
