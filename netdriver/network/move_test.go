package network_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/state"
)

// space is a network namespace: a host, or a router on its LAN.
type space struct {
	t   *testing.T
	ns  netns.NsHandle
	lib *netlink.Handle
	k   *kernel.Kernel
}

func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			s.ns = ns
			s.lib, err = netlink.NewHandle()
		}
		if err == nil {
			s.k, err = kernel.Open("test")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.k.Close(); s.lib.Close(); _ = s.ns.Close() })
	s.check(s.k.SetUp("lo"))
	return s
}

func (s *space) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// within runs fn where the sockets that it opens belong to the namespace.
func (s *space) within(fn func() error) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := netns.Set(s.ns)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	s.check(<-done)
}

func (s *space) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.lib.LinkByName(name)
	s.check(err)
	return l
}

func (s *space) addr(link, addr string, flags int) {
	s.t.Helper()
	a, err := netlink.ParseAddr(addr)
	s.check(err)
	a.Flags = flags | unix.IFA_F_NODAD
	s.check(s.lib.AddrAdd(s.link(link), a))
}

// route adds one in the words of ip(8), as far as they are needed here.
func (s *space) route(link, dst, via string, table, metric int) {
	s.t.Helper()
	_, to, err := net.ParseCIDR(dst)
	s.check(err)
	s.check(s.lib.RouteAdd(&netlink.Route{
		LinkIndex: s.link(link).Attrs().Index, Dst: to, Gw: net.ParseIP(via), Table: table, Priority: metric, Protocol: unix.RTPROT_STATIC, MTU: 1400,
	}))
}

// listen takes TCP connections on every address.
func (s *space) listen() (port int) {
	s.t.Helper()
	var l net.Listener
	s.within(func() (err error) {
		l, err = net.Listen("tcp", ":0")
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	s.t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

// reaches makes a TCP connection.
func (s *space) reaches(addr string, port int) (err error) {
	s.within(func() error {
		const patience = 5 * time.Second // the kernel asks again for a neighbour, and sends again
		var c net.Conn
		if c, err = net.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String(), patience); err == nil {
			_ = c.Close()
		}
		return nil
	})
	return err
}

// lan is a host with a NIC, whose addresses and routes are of every kind, and a
// router on its wire with the world behind it.
type lan struct {
	t                 *testing.T
	host, router      *space
	hostPort, farPort int
	before            []string
	dir               string
	boot              string
	kept              *state.Dir
	m                 *network.Manager
	world             *mortal
	definition        network.Definition
}

const (
	hostV4, hostV6 = "192.0.2.2", "2001:db8:0:1::2"
	farV4, farV6   = "203.0.113.1", "2001:db8:ffff::1"
)

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, host: newSpace(t), router: newSpace(t), dir: t.TempDir(), boot: "1"}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nic0"
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerNamespace = "lan0", netlink.NsFd(l.router.ns)
	l.host.check(l.host.lib.LinkAdd(v))
	for s, nic := range map[*space]string{l.host: "nic0", l.router: "lan0"} {
		s.check(s.k.SetUp(nic))
	}
	l.router.addr("lan0", "192.0.2.1/24", 0)
	l.router.addr("lan0", "2001:db8:0:1::1/64", 0)
	l.router.addr("lo", farV4+"/32", 0)
	l.router.addr("lo", farV6+"/128", 0)
	l.configure()
	l.before = l.config("nic0")
	l.hostPort, l.farPort = l.host.listen(), l.router.listen()
	l.definition = network.Definition{
		ID: "net1", Mode: network.Bridge, Parent: "nic0", BridgeName: kernel.BridgeName("net1"), IfPrefix: "eth", IPv4: true,
		MoveHost: true, ConfirmWithin: time.Hour, Pools: []network.Pool{{Space: "ours", Prefix: netip.MustParsePrefix("192.0.2.0/24")}},
	}
	l.start()
	t.Cleanup(l.kill)
	return l
}

// configure is what the host's own configuration does.
func (l *lan) configure() {
	for _, a := range []string{hostV4 + "/24", "192.0.2.3/24", "198.51.100.7/25", hostV6 + "/64"} {
		l.host.addr("nic0", a, 0)
	}
	l.host.addr("nic0", "192.0.2.4/24", unix.IFA_F_NOPREFIXROUTE)
	l.host.route("nic0", "0.0.0.0/0", "192.0.2.1", 0, 100)
	l.host.route("nic0", "::/0", "2001:db8:0:1::1", 0, 512)
	l.host.route("nic0", "203.0.113.128/25", "192.0.2.1", 77, 3)
	l.host.route("nic0", "192.0.2.200/32", "", 0, 7)
	l.host.check(l.host.lib.NeighSet(&netlink.Neigh{
		LinkIndex: l.host.link("nic0").Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP("192.0.2.66"), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x66},
	}))
}

// config is what the host has on a link, without what says where that is.
func (l *lan) config(link string) []string {
	l.t.Helper()
	at := l.host.link(link)
	addrs, err := l.host.lib.AddrList(at, netlink.FAMILY_ALL)
	l.host.check(err)
	var all []string
	for _, a := range addrs {
		all = append(all, fmt.Sprintf("address %s flags %x scope %d broadcast %s", a.IPNet, a.Flags&^unix.IFA_F_NODAD&^unix.IFA_F_TENTATIVE, a.Scope, a.Broadcast))
	}
	routes, err := l.host.lib.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: at.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	l.host.check(err)
	for _, r := range routes {
		if r.Type == unix.RTN_UNICAST && r.Table != unix.RT_TABLE_LOCAL {
			all = append(all, fmt.Sprintf("route %s via %s src %s table %d metric %d protocol %d scope %d mtu %d", r.Dst, r.Gw, r.Src, r.Table, r.Priority, r.Protocol, r.Scope, r.MTU))
		}
	}
	neighs, err := l.host.lib.NeighList(at.Attrs().Index, netlink.FAMILY_ALL)
	l.host.check(err)
	for _, n := range neighs {
		if n.State&netlink.NUD_PERMANENT != 0 {
			all = append(all, fmt.Sprintf("neighbour %s %s", n.IP, n.HardwareAddr))
		}
	}
	slices.Sort(all)
	return all
}

// start starts a plugin process, as far as networks go.
func (l *lan) start() {
	l.t.Helper()
	kept, err := state.Open(l.dir, "boot")
	l.host.check(err)
	table, err := state.Durable[network.Definition](kept, "networks")
	l.host.check(err)
	l.kept, l.world = kept, &mortal{Kernel: l.host.k, table: table, steps: -1}
	l.m, err = network.NewManager(l.world, l.world, "ours", slog.New(slog.DiscardHandler))
	l.host.check(err)
	l.m.SetBoot(l.boot)
	l.m.SetPools(nobody{})
	l.m.SetEndpoints(nobody{})
}

// recover is what a process does at its start.
func (l *lan) recover() error {
	err := l.m.Discard()
	for _, d := range l.m.List() {
		err = errors.Join(err, l.m.Ensure(d.ID))
	}
	return err
}

func (l *lan) kill() { _ = l.kept.Close() }

func (l *lan) restart() {
	l.kill()
	l.start()
}

// connected fails unless the host is reached by its addresses and reaches the
// world behind its default routes.
func (l *lan) connected(when string) {
	l.t.Helper()
	for _, err := range []error{
		l.router.reaches(hostV4, l.hostPort), l.router.reaches("192.0.2.3", l.hostPort), l.router.reaches(hostV6, l.hostPort),
		l.host.reaches(farV4, l.farPort), l.host.reaches(farV6, l.farPort),
	} {
		if err != nil {
			l.t.Errorf("%s: the host is cut off: %v", when, err)
		}
	}
}

// asBefore fails unless the NIC has what it had, and is a NIC.
func (l *lan) asBefore(when string) {
	l.t.Helper()
	if diff := cmp.Diff(l.before, l.config("nic0")); diff != "" {
		l.t.Errorf("%s: the NIC is not what it was (-before +after):\n%s", when, diff)
	}
	if master := l.host.link("nic0").Attrs().MasterIndex; master != 0 {
		l.t.Errorf("%s: the NIC is a port", when)
	}
	l.connected(when)
}

// onBridge fails unless the bridge has what the NIC had, and the NIC nothing.
func (l *lan) onBridge(when string) {
	l.t.Helper()
	if diff := cmp.Diff(l.before, l.config(l.definition.BridgeName)); diff != "" {
		l.t.Errorf("%s: the bridge has not what the NIC had (-NIC +bridge):\n%s", when, diff)
	}
	if left := slices.DeleteFunc(l.config("nic0"), func(s string) bool { return strings.HasPrefix(s, "neighbour") }); len(left) > 0 {
		l.t.Errorf("%s: the NIC still has %q", when, left)
	}
	if nic, bridge := l.host.link("nic0").Attrs(), l.host.link(l.definition.BridgeName).Attrs(); nic.MasterIndex != bridge.Index || nic.HardwareAddr.String() != bridge.HardwareAddr.String() {
		l.t.Errorf("%s: the NIC %s is no port of the bridge, or that has another MAC, %s", when, nic.HardwareAddr, bridge.HardwareAddr)
	}
	l.connected(when)
}

func (l *lan) move() network.Move {
	l.t.Helper()
	for _, d := range l.m.List() {
		if d.Move != nil {
			return *d.Move
		}
	}
	return network.Move{}
}

// mortal is the kernel and the store to a process that dies before one of its
// steps: none after that has an effect.
type mortal struct {
	*kernel.Kernel
	table *state.Table[network.Definition]
	steps int    // until it dies; negative: it does not
	done  int    // steps so far
	fails string // a step that fails, once
}

var (
	errDead  = errors.New("the process is dead")
	errFault = errors.New("fault")
)

func (w *mortal) step(name string) error {
	if w.steps >= 0 && w.done >= w.steps {
		return errDead
	}
	w.done++
	if name == w.fails {
		w.fails = ""
		return errFault
	}
	return nil
}

func step(w *mortal, name string, do func() error) error {
	if err := w.step(name); err != nil {
		return err
	}
	return do()
}

func (w *mortal) EnsureBridge(b kernel.Bridge) error {
	return step(w, "bridge", func() error { return w.Kernel.EnsureBridge(b) })
}

func (w *mortal) SetMaster(p, b string) error {
	return step(w, "master", func() error { return w.Kernel.SetMaster(p, b) })
}

func (w *mortal) ReleasePort(p, b, alias string) (did bool, err error) {
	err = step(w, "release", func() error { did, err = w.Kernel.ReleasePort(p, b, alias); return err })
	return did, err
}

func (w *mortal) DeleteOwned(name, alias string) error {
	return step(w, "delete", func() error { return w.Kernel.DeleteOwned(name, alias) })
}

func (w *mortal) SetUp(name string) error {
	return step(w, "up", func() error { return w.Kernel.SetUp(name) })
}

func (w *mortal) AddHostAddr(l string, a kernel.HostAddr) error {
	return step(w, "add "+a.Prefix.String(), func() error { return w.Kernel.AddHostAddr(l, a) })
}

func (w *mortal) RemoveHostAddr(l string, a kernel.HostAddr) error {
	return step(w, "remove "+a.Prefix.String(), func() error { return w.Kernel.RemoveHostAddr(l, a) })
}

func (w *mortal) AddHostRoute(l string, r kernel.HostRoute) error {
	return step(w, "add "+r.Dst, func() error { return w.Kernel.AddHostRoute(l, r) })
}

func (w *mortal) RemoveHostRoute(l string, r kernel.HostRoute) error {
	return step(w, "remove "+r.Dst, func() error { return w.Kernel.RemoveHostRoute(l, r) })
}

func (w *mortal) AddHostNeigh(l string, n kernel.HostNeigh) error {
	return step(w, "add "+n.IP.String(), func() error { return w.Kernel.AddHostNeigh(l, n) })
}

func (w *mortal) Put(key string, d network.Definition) error {
	return step(w, "put", func() error { return w.table.Put(key, d) })
}

func (w *mortal) Delete(keys ...string) error {
	return step(w, "forget", func() error { return w.table.Delete(keys...) })
}

func (w *mortal) All() (map[string]network.Definition, error) { return w.table.All() }

// nobody has pools and endpoints of no consequence.
type nobody struct{}

func (nobody) Forsaken(netip.Prefix) bool                  { return false }
func (nobody) LetGo(netip.Prefix) bool                     { return false }
func (nobody) NetworkRemoved([]netip.Prefix) error         { return nil }
func (nobody) Agree(netip.Prefix, map[string]string) error { return nil }
func (nobody) ReplayOver()                                 {}
func (nobody) Joined(string) bool                          { return false }
func (nobody) Forget(string) error                         { return nil }
func (nobody) JoinedAddrs(string) []netip.Addr             { return nil }

func (nobody) ReserveForHost(netip.Prefix, netip.Addr) (netip.Addr, error) {
	return netip.Addr{}, errors.New("there are no pools")
}

func cidr(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

// bare makes a NIC without addresses.
func (s *space) bare() {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bare0"
	v := netlink.NewVeth(attrs)
	v.PeerName = "bare1"
	s.check(s.lib.LinkAdd(v))
}
