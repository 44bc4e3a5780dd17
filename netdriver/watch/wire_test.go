package watch

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// space is a network namespace.
type space struct {
	t   *testing.T
	ns  netns.NsHandle
	lib *netlink.Handle
	k   *kernel.Kernel
}

func newSpace(t *testing.T) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	s := &space{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		if s.ns, err = netns.New(); err == nil {
			s.k, err = kernel.Open("first")
		}
		if err == nil {
			s.lib, err = netlink.NewHandle()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.k.Close(); s.lib.Close(); _ = s.ns.Close() })
	return s
}

func (s *space) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.lib.LinkByName(name)
	s.ok(err)
	return l
}

func (s *space) up(name string, addrs ...string) {
	s.t.Helper()
	for _, a := range addrs {
		s.address(name, a)
	}
	s.ok(s.lib.LinkSetUp(s.link(name)))
}

// address gives a link an address, without a word to anybody.
func (s *space) address(name, a string) {
	s.t.Helper()
	addr, err := netlink.ParseAddr(a)
	s.ok(err)
	if addr.IP.To4() == nil {
		addr.Flags = 0x02 // IFA_F_NODAD
	}
	s.ok(s.lib.AddrAdd(s.link(name), addr))
}

// cable joins an interface of each of two namespaces.
func cable(a, b *space, nameA, nameB string) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerNamespace = nameB, netlink.NsFd(int(b.ns))
	a.ok(a.lib.LinkAdd(v))
	a.ok(a.lib.LinkSetUp(v))
	b.up(nameB)
}

// site is a host with a network on nic0, and a foreign machine at the cable's
// other end, that has eth0.
type site struct {
	*testing.T
	host, foreign *space
	m             *Manager
	ipam          *ipam.Manager
	backends      map[string]ipam.Backend
	def           network.Definition

	mu        sync.Mutex
	endpoints []endpoint.Endpoint
}

var (
	subnet4 = netip.MustParsePrefix("192.0.2.0/24")
	subnet6 = netip.MustParsePrefix("2001:db8::/64")
)

func (s *site) List() []endpoint.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.endpoints)
}

type networks []network.Definition

func (n networks) List() []network.Definition { return n }

type table[V any] struct{}

func (table[V]) Put(string, V) error        { return nil }
func (table[V]) Delete(...string) error     { return nil }
func (table[V]) All() (map[string]V, error) { return nil, nil }
func none[V any]() ([]V, error)             { return nil, nil }
func holders(s *site) func() map[netip.Addr]bool {
	return func() map[netip.Addr]bool {
		held := map[netip.Addr]bool{}
		for _, e := range s.List() {
			for _, a := range e.Addrs() {
				held[a] = e.Joined
			}
		}
		return held
	}
}

// joined is a bridge that the host's owner made, with nic0 as a port.
const joined network.Mode = "a bridge that exists"

func newSite(t *testing.T, mode network.Mode) *site {
	t.Helper()
	s := &site{T: t, host: newSpace(t), foreign: newSpace(t)}
	cable(s.host, s.foreign, "nic0", "eth0")
	s.def = network.Definition{ID: "n", Mode: mode, Parent: "nic0", Complete: true, IfPrefix: "eth", Pools: []network.Pool{
		{Space: ipam.LocalSpace, Prefix: subnet4}, {Space: ipam.LocalSpace, Prefix: subnet6},
	}}
	switch mode {
	case joined:
		s.def.Mode, s.def.Foreign, s.def.Parent, s.def.BridgeName = network.Bridge, true, "", "br0"
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		br0 := &netlink.Bridge{LinkAttrs: attrs}
		s.host.ok(s.host.lib.LinkAdd(br0))
		s.host.ok(s.host.lib.LinkSetMaster(s.host.link("nic0"), br0))
		s.host.up("br0", "192.0.2.250/24")
	case network.Bridge:
		s.def.BridgeName = kernel.BridgeName("n")
		s.host.ok(s.host.k.EnsureBridge(kernel.Bridge{Name: s.def.BridgeName, Alias: s.host.k.NetworkAlias("n"), MAC: kernel.BridgeMAC("n"), Uplink: "nic0"}))
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s.m = New(Config{Host: OnKernel{s.host.k}, Networks: networks{s.def}, Endpoints: s, Log: log})
	s.backends = map[string]ipam.Backend{ipam.SplitName: ipam.Split{}}
	var err error
	s.ipam, err = ipam.New(ipam.Config{
		Pools: table[ipam.Pool]{}, Addresses: table[ipam.Given]{}, Cursors: table[netip.Addr]{},
		Routes: none[netip.Prefix], HostAddrs: none[netip.Addr], Bound: func(ipam.Pool) bool { return true },
		Reserved: func() []netip.Addr { return nil }, Endpoints: holders(s), Wire: s.m, Now: time.Now, Log: log,
		Backends: s.backends,
	})
	s.host.ok(err)
	s.m.SetPools(s.ipam)
	return s
}

// watch begins to watch.
func (s *site) watch() {
	s.Helper()
	s.m.Sync()
	s.Cleanup(func() { s.host.ok(s.m.close()) })
	if st := s.m.Status(); len(st) != 1 || st[0].Fault != "" {
		s.Fatalf("status %+v", st)
	}
}

func (s *site) pool(p netip.Prefix) string {
	s.Helper()
	pool, err := s.ipam.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: p})
	s.host.ok(err)
	return pool.ID
}

// container joins an endpoint and puts it into a sandbox, as the engine does.
func (s *site) container(id, addr4, addr6 string) (endpoint.Endpoint, *space) {
	s.Helper()
	e := endpoint.Endpoint{ID: id, Network: "n", IPv4: netip.MustParsePrefix(addr4), IPv6: netip.MustParsePrefix(addr6), Joined: true}
	e.MAC = kernel.EndpointMAC(e.IPv4.Addr(), e.IPv6.Addr(), id)
	s.mu.Lock()
	s.endpoints = append(s.endpoints, e)
	s.mu.Unlock()
	name, alias := kernel.ContainerName(id), s.host.k.EndpointAlias("n", id)
	if s.def.Mode == network.Macvlan {
		s.host.ok(s.host.k.CreateMacvlan(kernel.Macvlan{Name: name, Alias: alias, Parent: "nic0", MAC: e.MAC}))
	} else {
		s.host.ok(s.host.k.CreateVeth(kernel.Veth{Host: kernel.HostName(id), Container: name, Alias: alias, Bridge: s.def.BridgeName, MAC: e.MAC}))
	}
	s.m.Sync()
	box := newSpace(s.T)
	s.host.ok(s.host.lib.LinkSetNsFd(s.host.link(name), int(box.ns)))
	box.up(name, addr4, addr6)
	return e, box
}

// await waits for a condition that the wire brings about.
func (s *site) await(what string, cond func() bool) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) { // nothing tells of it but time
		if time.Now().After(deadline) {
			s.Fatalf("never: %s; status %+v", what, s.m.Status())
		}
	}
}

func eachMode(t *testing.T, test func(*testing.T, *site)) {
	for _, mode := range []network.Mode{network.Macvlan, network.Bridge, joined} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			test(t, newSite(t, mode))
		})
	}
}

func TestAnAddressThatAnswersIsNotGivenOut(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		for _, a := range []string{"192.0.2.1/24", "192.0.2.2/24", "192.0.2.9/24", "2001:db8::1/64", "2001:db8::9/64"} {
			s.foreign.address("eth0", a)
		}
		p4, p6 := s.pool(subnet4), s.pool(subnet6)
		s.watch()
		for pool, want := range map[string]string{p4: "192.0.2.3/24", p6: "2001:db8::2/64"} {
			if got, err := s.ipam.RequestAddress(pool, ipam.AddressRequest{}); err != nil || got.String() != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		}
		for pool, a := range map[string]string{p4: "192.0.2.9", p6: "2001:db8::9"} {
			_, err := s.ipam.RequestAddress(pool, ipam.AddressRequest{Addr: netip.MustParseAddr(a)})
			if mac := s.foreign.link("eth0").Attrs().HardwareAddr.String(); !errors.Is(err, ipam.ErrInUse) || !contains(err, mac) {
				t.Errorf("asked for %s: %v", a, err)
			}
		}
		if got, err := s.ipam.RequestAddress(p4, ipam.AddressRequest{Addr: netip.MustParseAddr("192.0.2.10")}); err != nil {
			t.Errorf("a free one by name: %v, %v", got, err)
		}
		s.await("a reserve", func() bool {
			free, _ := s.m.Reserve(subnet4)
			return len(free) >= slotBurst
		})
		begin := time.Now()
		got, err := s.ipam.RequestAddress(p4, ipam.AddressRequest{})
		t.Logf("out of the reserve: %v, %v in %v", got, err, time.Since(begin))
		st := s.m.Status()[0]
		if err != nil || len(st.Used) < 3 || st.Used[0].MAC == "" {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}

func TestAnEndpointIsAnnouncedAndAConflictIsSeen(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.foreign.address("eth0", "192.0.2.1/24")
		s.foreign.address("eth0", "2001:db8::1/64")
		s.watch()
		e, box := s.container("e", "192.0.2.7/24", "2001:db8::7/64")
		// The foreign machine had an old entry, which the announcement puts right.
		for _, a := range e.Addrs() {
			s.foreign.ok(s.foreign.lib.NeighSet(&netlink.Neigh{
				LinkIndex: s.foreign.link("eth0").Attrs().Index, IP: a.AsSlice(), State: netlink.NUD_STALE,
				HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x99},
			}))
		}
		s.await("announcements", func() bool {
			for _, a := range e.Addrs() {
				if s.foreign.neighbour(a) != e.MAC.String() {
					return false
				}
			}
			return true
		})
		if c := s.m.Status()[0].Conflicts; len(c) != 0 {
			t.Errorf("conflicts %+v before there are any", c)
		}
		began := time.Now()
		s.foreign.address("eth0", "192.0.2.7/24")
		s.foreign.address("eth0", "2001:db8::7/64")
		s.await("both conflicts", func() bool { return len(s.m.Status()[0].Conflicts) == 2 })
		t.Logf("reported after %v", time.Since(began))
		for _, c := range s.m.Status()[0].Conflicts {
			if c.MAC != s.foreign.link("eth0").Attrs().HardwareAddr.String() || c.Endpoint != "e" {
				t.Errorf("conflict %+v", c)
			}
		}
		if l := box.link(kernel.ContainerName("e")); l.Attrs().OperState != netlink.OperUp {
			t.Errorf("the container's link is %v", l.Attrs().OperState)
		}
	})
}

// Two hosts that give out the same address give it the same MAC.
func TestATwinIsAConflict(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.watch()
		e, _ := s.container("e", "192.0.2.7/24", "2001:db8::7/64")
		twin := s.foreign.link("eth0")
		s.foreign.ok(s.foreign.lib.LinkSetHardwareAddr(twin, e.MAC))
		s.foreign.address("eth0", "192.0.2.7/24")
		s.await("the conflict", func() bool {
			c := s.m.Status()[0].Conflicts
			return len(c) > 0 && c[0].MAC == e.MAC.String()
		})
	})
}

// While the wire is cut, silence says nothing.
func TestTheWireIsCut(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		s.pool(subnet4)
		s.watch()
		asking := func() bool {
			free, asking := s.m.Reserve(subnet4)
			return asking && len(free) > 0
		}
		s.await("a reserve", asking)
		s.foreign.ok(s.foreign.lib.LinkSetDown(s.foreign.link("eth0")))
		s.await("that nobody is asked", func() bool {
			free, asking := s.m.Reserve(subnet4)
			return !asking && len(free) == 0 && strings.Contains(s.m.Status()[0].Fault, "no carrier")
		})
		s.foreign.up("eth0")
		s.await("a reserve again", asking)
	})
}

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// neighbour is the MAC that a namespace believes an address to be at.
func (s *space) neighbour(a netip.Addr) string {
	s.t.Helper()
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	all, err := s.lib.NeighList(s.link("eth0").Attrs().Index, family)
	s.ok(err)
	for _, n := range all {
		if got, _ := netip.AddrFromSlice(n.IP); got.Unmap() == a {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// A port that somebody removed is made again; one that an earlier process left,
// and that of a network that is gone, are removed.
func TestThePortComesAndGoes(t *testing.T) {
	s := newSite(t, network.Macvlan)
	if _, err := s.host.k.EnsurePort("old", "nic0"); err != nil {
		t.Fatal(err)
	}
	s.watch()
	if ports, err := s.host.k.Ports(); err != nil || len(ports) != 1 || ports["n"] == "" {
		t.Errorf("ports %v, %v", ports, err)
	}
	first := s.host.link(kernel.PortName("n"))
	s.host.ok(s.host.lib.LinkDel(first))
	s.await("another port", func() bool {
		l, err := s.host.lib.LinkByName(kernel.PortName("n"))
		return err == nil && l.Attrs().Index != first.Attrs().Index && s.m.Status()[0].Fault == ""
	})
	s.m.cfg.Networks = networks{}
	s.m.Sync()
	if ports, err := s.host.k.Ports(); err != nil || len(ports) != 0 {
		t.Errorf("ports of no network: %v, %v", ports, err)
	}
}
