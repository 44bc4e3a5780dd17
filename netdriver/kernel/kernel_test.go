package kernel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// self is the instance that the tests act as.
const self Instance = "5e1f"

// inNamespace returns a handle on a fresh network namespace, so that no test
// touches the machine's own links. The thread that made it dies with it.
func inNamespace(t *testing.T) *Kernel {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	type result struct {
		k   *Kernel
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			made <- result{err: err}
			return
		}
		defer func() { _ = ns.Close() }()
		k, err := Open(self)
		made <- result{k: k, err: err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.k.Close)
	return r.k
}

// wire makes a veth pair as a stand-in for a NIC and returns its first end.
func wire(t *testing.T, k *Kernel, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	v := netlink.NewVeth(attrs)
	v.PeerName = name + "-peer"
	if err := k.h.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{name, v.PeerName} {
		if err := k.SetUp(end); err != nil {
			t.Fatal(err)
		}
	}
}

func mustLink(t *testing.T, k *Kernel, name string) Link {
	t.Helper()
	l, err := k.Link(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func gone(t *testing.T, k *Kernel, name string) {
	t.Helper()
	if l, err := k.Link(name); !errors.Is(err, ErrNoLink) {
		t.Errorf("%s is still there: %+v, %v", name, l, err)
	}
}

func TestMacvlan(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	m := Macvlan{Name: ContainerName("e"), Alias: self.EndpointAlias("n", "e"), Parent: "nic0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: 1400}
	for range 2 { // the second finds the remains of the first
		if err := k.CreateMacvlan(m); err != nil {
			t.Fatal(err)
		}
	}
	l := mustLink(t, k, m.Name)
	if l.Type != "macvlan" || l.Alias != m.Alias || l.MAC.String() != m.MAC.String() || l.MTU != 1400 || l.Parent != mustLink(t, k, "nic0").Index {
		t.Errorf("made %+v", l)
	}
	if err := k.DeleteOwned(m.Name, self.EndpointAlias("n", "other")); !errors.Is(err, ErrNotOurs) {
		t.Errorf("delete in another's name: %v", err)
	}
	for range 2 {
		if err := k.DeleteOwned(m.Name, m.Alias); err != nil {
			t.Error(err)
		}
	}
	gone(t, k, m.Name)
	m.Parent = "nic9"
	if err := k.CreateMacvlan(m); !errors.Is(err, ErrNoLink) {
		t.Errorf("without a parent: %v", err)
	}
	m.On = Link{Index: 99}
	if err := k.CreateMacvlan(m); !errors.Is(err, ErrNoLink) {
		t.Errorf("on one that was there a moment ago: %v", err)
	}
}

func TestBridgeWithUplinkAndVeth(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	b := Bridge{Name: BridgeName("n"), Alias: self.NetworkAlias("n"), MAC: BridgeMAC("n"), Uplink: "nic0"}
	v := Veth{Host: HostName("e"), Container: ContainerName("e"), Alias: self.EndpointAlias("n", "e"), Bridge: b.Name, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	for range 2 {
		if err := k.EnsureBridge(b); err != nil {
			t.Fatal(err)
		}
		if err := k.CreateVeth(v); err != nil {
			t.Fatal(err)
		}
	}
	bridge := mustLink(t, k, b.Name)
	if !bridge.Up || bridge.MAC.String() != b.MAC.String() || mustLink(t, k, "nic0").Master != bridge.Index {
		t.Errorf("bridge %+v, uplink %+v", bridge, mustLink(t, k, "nic0"))
	}
	host, end := mustLink(t, k, v.Host), mustLink(t, k, v.Container)
	if host.Master != bridge.Index || !host.Up || host.Alias != v.Alias || end.Alias != v.Alias || end.MAC.String() != v.MAC.String() || end.Up {
		t.Errorf("host end %+v, container end %+v", host, end)
	}
	if err := k.CreateMacvlan(Macvlan{Name: "m", Alias: "x", Parent: "nic0", MAC: v.MAC}); err == nil {
		t.Error("a macvlan link on a bridge port")
	}
	for range 2 {
		if err := errors.Join(k.DeleteOwned(v.Host, v.Alias), release(k, b), k.DeleteOwned(b.Name, b.Alias)); err != nil {
			t.Error(err)
		}
	}
	gone(t, k, v.Container)
	gone(t, k, b.Name)
	if l := mustLink(t, k, "nic0"); l.Master != 0 {
		t.Errorf("the uplink was not given back: %+v", l)
	}
}

func release(k *Kernel, b Bridge) error {
	_, err := k.ReleasePort(b.Uplink, b.Name, b.Alias)
	return err
}

func TestABridgeOfSomebodyElseIsLeftAlone(t *testing.T) {
	k := inNamespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	if err := k.h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	if err := k.EnsureBridge(Bridge{Name: "br0", Alias: self.NetworkAlias("n")}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("got %v", err)
	}
}

func TestAddressesAndRoutes(t *testing.T) {
	k := inNamespace(t)
	host := netip.MustParsePrefix("10.9.0.1/24")
	b := Bridge{Name: "dl-b", Alias: self.NetworkAlias("n"), MAC: BridgeMAC("n"), Addrs: []netip.Prefix{host, netip.MustParsePrefix("fd09::1/64")}}
	for range 2 {
		if err := k.EnsureBridge(b); err != nil {
			t.Fatal(err)
		}
	}
	addrs, err := k.Addrs("dl-b")
	if err != nil || len(addrs) != 2 || addrs[0] != host {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	routes, err := k.Routes()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range routes {
		found = found || r.Dst == host.Masked() && r.Link == mustLink(t, k, "dl-b").Index
	}
	if !found {
		t.Errorf("routes %v", routes)
	}
}

func TestSyncPass(t *testing.T) {
	k := inNamespace(t)
	a, b := self.NetworkAlias("a"), self.NetworkAlias("b")
	if err := k.SyncPass(map[string]Pass{a: {Bridge: "dlb-a"}}, nil); err != nil {
		t.Fatalf("without the engine's chain: %v", err)
	}
	table := k.nft.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	chain := k.nft.AddChain(&nftables.Chain{Table: table, Name: "DOCKER-USER"})
	drop, ret := &expr.Verdict{Kind: expr.VerdictDrop}, &expr.Verdict{Kind: expr.VerdictReturn}
	k.nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, drop}})
	k.nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, ret}})
	if err := k.nft.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		want  map[string]Pass
		rules int
	}{
		{map[string]Pass{a: {Bridge: "dlb-a"}}, 3},
		{map[string]Pass{a: {Bridge: "dlb-a"}}, 3},
		{map[string]Pass{a: {Bridge: "dlb-a"}, b: {Bridge: "dlb-b"}}, 4},
		{map[string]Pass{b: {Bridge: "renamed"}}, 3},
		{nil, 2},
	} {
		if err := k.SyncPass(step.want, nil); err != nil {
			t.Fatal(err)
		}
		rules, err := k.nft.GetRules(table, chain)
		if err != nil || len(rules) != step.rules {
			t.Fatalf("%v: %d rules, %v, want %d", step.want, len(rules), err, step.rules)
		}
		if !isReturn(rules[len(rules)-1]) || rules[0].UserData != nil {
			t.Errorf("%v: ours are not between the user's rule and the return", step.want)
		}
	}
}
