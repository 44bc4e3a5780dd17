package engine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/kernel"
)

// box is a sandbox: a namespace that an endpoint's link is moved into.
type box struct {
	ns  netns.NsHandle
	lib *netlink.Handle
}

// join makes an endpoint, joins it and does what the engine then does.
func (h *host) join(network, endpoint, addr string) *box {
	h.t.Helper()
	ep := `{"NetworkID":"` + network + `","EndpointID":"` + endpoint + `"`
	h.ok("NetworkDriver.CreateEndpoint", ep+`,"Interface":{"Address":"`+addr+`"}}`)
	h.ok("NetworkDriver.Join", ep+`}`)
	return h.carry(endpoint, addr)
}

func (h *host) carry(endpoint, addr string) *box {
	h.t.Helper()
	b := h.newBox()
	name := kernel.ContainerName(endpoint)
	if err := h.lib.LinkSetNsFd(h.link(name), int(b.ns)); err != nil {
		h.t.Fatal(err)
	}
	l := must[netlink.Link](h.t)(b.lib.LinkByName(name))
	if err := b.lib.AddrAdd(l, must[*netlink.Addr](h.t)(netlink.ParseAddr(addr))); err != nil {
		h.t.Fatal(err)
	}
	if err := b.lib.LinkSetUp(l); err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *host) newBox() *box {
	h.t.Helper()
	b := &box{}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		if b.ns, err = netns.New(); err == nil {
			b.lib, err = netlink.NewHandle()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(b.close)
	return b
}

// close ends the sandbox, and with it the link in it. It may be closed twice.
func (b *box) close() {
	if b.lib != nil {
		b.lib.Close()
		_ = b.ns.Close()
		b.lib = nil
	}
}

// leave does what the engine does when a container stops.
func (h *host) leave(network, endpoint string, b *box) {
	h.t.Helper()
	ids := `{"NetworkID":"` + network + `","EndpointID":"` + endpoint + `"}`
	h.ok("NetworkDriver.Leave", ids)
	l := must[netlink.Link](h.t)(b.lib.LinkByName(kernel.ContainerName(endpoint)))
	if err := b.lib.LinkSetNsFd(l, int(h.ns)); err != nil {
		h.t.Fatal(err)
	}
	h.ok("NetworkDriver.DeleteEndpoint", ids)
	b.close()
}

// within runs fn where the sockets that it opens belong to a namespace.
func within(t *testing.T, ns netns.NsHandle, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := netns.Set(ns)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// reaches reports whether a TCP connection is answered, be it by a refusal.
func (b *box) reaches(t *testing.T, addr string, patience time.Duration) (ok bool) {
	t.Helper()
	within(t, b.ns, func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "9"), patience)
		if err == nil {
			_ = c.Close()
		}
		ok = err == nil || isRefused(err)
		return nil
	})
	return ok
}

func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Err.Error() == "connect: connection refused"
}

// A running flow loses nothing while members come and go.
func TestAFlowSurvivesWhoComesAndGoes(t *testing.T) {
	t.Parallel()
	const members = 100
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	from, to := h.join("n", "from", "10.1.0.2/24"), h.join("n", "to", "10.1.0.3/24")
	flow := startFlow(t, from, to, "10.1.0.3")
	mac := h.link(kernel.BridgeName("n")).Attrs().HardwareAddr.String()
	var boxes []*box
	for i := range members {
		boxes = append(boxes, h.join("n", fmt.Sprint("m", i), fmt.Sprintf("10.1.0.%d/24", 10+i)))
	}
	for i, b := range boxes {
		h.leave("n", fmt.Sprint("m", i), b)
	}
	sent, received := flow.stop()
	if sent != received || sent < members {
		t.Errorf("of %d packets %d arrived, %d are lost", sent, received, sent-received)
	}
	if now := h.link(kernel.BridgeName("n")).Attrs().HardwareAddr.String(); now != mac {
		t.Errorf("the bridge's MAC was %s and is %s", mac, now)
	}
	t.Logf("%d packets sent while %d members came and went, %d lost", sent, members, sent-received)
}

// flow is numbered packets, one a millisecond.
type flow struct {
	t       *testing.T
	in, out *net.UDPConn
	end     chan struct{}
	sent    chan int
	got     chan int
	last    atomic.Int64 // the number sent last, once there is no more to come
}

func startFlow(t *testing.T, from, to *box, addr string) *flow {
	t.Helper()
	f := &flow{t: t, end: make(chan struct{}), sent: make(chan int, 1), got: make(chan int, 1)}
	within(t, to.ns, func() (err error) {
		f.in, err = net.ListenUDP("udp4", &net.UDPAddr{})
		return err
	})
	// A receiver that has to wait for a CPU is no loss on the way.
	raw := must[syscall.RawConn](t)(f.in.SyscallConn())
	if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) }); err != nil {
		t.Fatal(err)
	}
	within(t, from.ns, func() (err error) {
		f.out, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(addr), Port: f.in.LocalAddr().(*net.UDPAddr).Port})
		return err
	})
	go f.receive()
	// Until the first packet arrives the neighbour is asked for, and a port that
	// has just come up may still be without its carrier.
	first := make([]byte, 8)
	for {
		if _, err := f.out.Write(first); err != nil {
			t.Fatal(err)
		}
		select {
		case <-f.got:
			go f.send()
			return f
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (f *flow) send() {
	tick := time.NewTicker(time.Millisecond) // it is the pace of the flow
	defer tick.Stop()
	b := make([]byte, 8)
	for n := 1; ; n++ {
		binary.BigEndian.PutUint64(b, uint64(n))
		if _, err := f.out.Write(b); err != nil {
			f.t.Error(err)
		}
		select {
		case <-f.end:
			f.sent <- n
			return
		case <-tick.C:
		}
	}
}

// receive counts the numbers that arrive, each once; the first without a number
// is told at once. When all is sent, what is on its way has some time to arrive.
func (f *flow) receive() {
	b := make([]byte, 64)
	seen := map[uint64]bool{}
	var late time.Time
	for {
		n, err := f.in.Read(b)
		switch last := f.last.Load(); {
		case err == nil:
			number := binary.BigEndian.Uint64(b[:n])
			if number == 0 && !seen[0] {
				f.got <- 0
			}
			seen[number] = true
		case last > 0 && late.IsZero():
			late = time.Now().Add(10 * time.Second)
			_ = f.in.SetReadDeadline(late)
		default:
			delete(seen, 0)
			f.got <- len(seen)
			return
		}
		if last := f.last.Load(); last > 0 && !late.IsZero() && seen[uint64(last)] {
			_ = f.in.SetReadDeadline(time.Now()) // they come in order
		}
	}
}

func (f *flow) stop() (sent, received int) {
	close(f.end)
	sent = <-f.sent
	f.last.Store(int64(sent))
	_ = f.in.SetReadDeadline(time.Now()) // the receiver is to look how far it is
	received = <-f.got
	_, _ = f.in.Close(), f.out.Close()
	return sent, received
}

// Frames between ports pass an engine's firewall that drops what it is not told
// about, with the bridges' frames sent through it (br_netfilter).
func TestBridgedFramesPassTheEnginesFirewall(t *testing.T) {
	h := newHost(t)
	h.dropForwarded()
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge))
	a := h.join("n", "a", "10.1.0.2/24")
	h.join("n", "b", "10.1.0.3/24")
	if !a.reaches(t, "10.1.0.3", 5*time.Second) {
		t.Error("the firewall drops what goes from port to port")
	}
	// The engine makes its chains anew.
	h.flushTable()
	if a.reaches(t, "10.1.0.3", 300*time.Millisecond) {
		t.Fatal("without our rule frames pass too: this test shows nothing")
	}
	h.reconcile()
	if !a.reaches(t, "10.1.0.3", 5*time.Second) {
		t.Error("the rule does not come back")
	}
}

func TestALegacyFirewallIsNamed(t *testing.T) {
	h := newHost(t)
	want := map[string]kernel.Pass{h.k.NetworkAlias("n"): {Bridge: "br0"}}
	sync := func() (err error) {
		within(t, h.ns, func() error { err = h.k.SyncPass(want, nil); return nil })
		return err
	}
	if err := sync(); err != nil {
		t.Errorf("without a firewall: %v", err)
	}
	h.command("iptables-legacy", "-N", "DOCKER-USER")
	if err := sync(); !errors.Is(err, kernel.ErrLegacy) || !strings.Contains(err.Error(), "iptables-legacy -I DOCKER-USER -i br0 -o br0 -j ACCEPT") {
		t.Errorf("with one of the legacy form: %v", err)
	}
	h.dropForwarded() // and one of the engine's that is not
	if err := sync(); err != nil {
		t.Errorf("with both: %v", err)
	}
}

// A bridge that is somebody's is joined, and otherwise what it was.
func TestAnExistingBridge(t *testing.T) {
	for name, option := range map[string]string{"by our option": `"bridge":"br0"`, "by the built-in driver's": `"com.docker.network.bridge.name":"br0"`} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.addBridge("br0")
			h.addAddr("br0", "10.1.0.1/24")
			if err := h.lib.LinkSetMaster(h.link("nic1"), h.link("br0")); err != nil {
				t.Fatal(err)
			}
			if err := h.k.SetUp("br0"); err != nil {
				t.Fatal(err)
			}
			before := h.describe("br0")
			h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"mode":"bridge","mtu":"1400",`+option))
			h.ok("NetworkDriver.CreateNetwork", create("m", "10.2.0.0/24", `"mode":"bridge",`+option))
			a := h.join("n", "a", "10.1.0.2/24")
			if !a.reaches(t, "10.1.0.1", 5*time.Second) {
				t.Error("the host is not reached on its own bridge")
			}
			if after := h.describe("br0"); after != before {
				t.Errorf("the bridge was\n%s\nand is\n%s", before, after)
			}
			h.gone("br0", a)
			h.leave("n", "a", a)
			h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
			h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"m"}`)
			h.wantOurs(0, "after the networks")
			if after := h.describe("br0"); after != before {
				t.Errorf("the bridge was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// gone has the bridge deleted and made again by its owner.
func (h *host) gone(name string, member *box) {
	h.t.Helper()
	mac := h.link(name).Attrs().HardwareAddr
	if err := h.lib.LinkDel(h.link(name)); err != nil {
		h.t.Fatal(err)
	}
	h.reconcile()
	started := h.join("n", "without", "10.1.0.9/24") // it starts all the same
	h.addBridge(name)
	h.addAddr(name, "10.1.0.1/24")
	if err := h.lib.LinkSetMaster(h.link("nic1"), h.link(name)); err != nil {
		h.t.Fatal(err)
	}
	if h.link(name).Attrs().HardwareAddr.String() != mac.String() {
		h.t.Errorf("%s has the MAC %s, which was %s, the uplink's", name, h.link(name).Attrs().HardwareAddr, mac)
	}
	if err := h.k.SetUp(name); err != nil {
		h.t.Fatal(err)
	}
	h.reconcile()
	for _, b := range []*box{member, started} {
		if !b.reaches(h.t, "10.1.0.1", 5*time.Second) {
			h.t.Error("a port was not added again")
		}
	}
	h.leave("n", "without", started)
}

// describe is what a bridge's owner made of it.
func (h *host) describe(name string) string {
	h.t.Helper()
	b := h.link(name).(*netlink.Bridge)
	addrs := must[[]netlink.Addr](h.t)(h.lib.AddrList(b, netlink.FAMILY_V4))
	return fmt.Sprint(b.Name, b.HardwareAddr, b.MTU, b.Flags&net.FlagUp, b.Alias, addrs, *b.VlanFiltering, *b.AgeingTime, h.link("nic1").Attrs().MasterIndex == b.Index)
}

func TestAnExistingBridgeIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ options, with string }{
		"not there":   {`"bridge":"br7"`, "no such bridge; this host has br0"},
		"no bridge":   {`"bridge":"nic1"`, "no bridge"},
		"an uplink":   {`"bridge":"br0","uplink":"nic1"`, "its owner gave it"},
		"host access": {`"bridge":"br0","host_access":"true"`, "its owner's"},
		"two":         {`"bridge":"br0","com.docker.network.bridge.name":"br1"`, "one of the two"},
		"too big":     {`"bridge":"br0","mtu":"9000"`, "1500"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.addBridge("br0")
			h.refused("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"mode":"bridge",`+tc.options), tc.with)
			h.wantOurs(0, "after a refusal")
		})
	}
}

func TestHowPortsBehave(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge+`,"hairpin":"true","com.docker.network.bridge.enable_icc":"false","learning":"false","unicast_flood":"false"`))
	a := h.join("n", "a", "10.1.0.2/24")
	h.join("n", "b", "10.1.0.3/24")
	port := kernel.HostName("a")
	wanted := func(when string) {
		t.Helper()
		p := must[netlink.Protinfo](t)(h.lib.LinkGetProtinfo(h.link(port)))
		if !p.Hairpin || !p.Isolated || p.Learning || p.Flood {
			t.Errorf("%s: the port is %+v", when, p)
		}
	}
	wanted("at first")
	// What is on the uplink reaches them, and they do not reach each other.
	h.addAddr("nic1-peer", "10.1.0.200/24")
	if err := h.k.SetUp("nic1-peer"); err != nil {
		t.Fatal(err)
	}
	if !a.reaches(t, "10.1.0.200", 5*time.Second) {
		t.Error("the wire is not reached")
	}
	if a.reaches(t, "10.1.0.3", 300*time.Millisecond) {
		t.Error("isolated ports reach each other")
	}
	if err := h.lib.LinkSetNoMaster(h.link(port)); err != nil {
		t.Fatal(err)
	}
	h.reconcile()
	wanted("after it was taken out")
	for _, change := range []func(netlink.Link, bool) error{h.lib.LinkSetHairpin, h.lib.LinkSetIsolated, h.lib.LinkSetLearning, h.lib.LinkSetFlood} {
		for _, on := range []bool{true, false} {
			if err := change(h.link(port), on); err != nil {
				t.Fatal(err)
			}
			h.reconcile()
			wanted("after somebody changed it")
		}
	}
	if !a.reaches(t, "10.1.0.200", 5*time.Second) {
		t.Error("the wire is not reached after that")
	}
}

// What a container says of itself as a router does not come to the host, by a
// bridge that the host uses; what a router on the wire says does.
func TestRouterAdvertisements(t *testing.T) {
	h := newHost(t)
	h.addBridge("br0")
	if err := h.lib.LinkSetMaster(h.link("nic1"), h.link("br0")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"br0", "nic1-peer"} {
		if err := h.k.SetUp(name); err != nil {
			t.Fatal(err)
		}
	}
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", `"mode":"bridge","bridge":"br0"`))
	h.ok("NetworkDriver.CreateNetwork", create("alone", "10.2.0.0/24", `"mode":"bridge"`))
	a, b := h.join("n", "a", "10.1.0.2/24"), h.join("alone", "b", "10.2.0.2/24")
	a.advertise(t, kernel.ContainerName("a"), "2001:db8:a::")
	b.advertise(t, kernel.ContainerName("b"), "2001:db8:b::")
	wire := &box{ns: h.ns}
	wire.advertise(t, "nic1-peer", "2001:db8:c::")
	// The last one arrives, and so have the others, or never.
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if heard := h.heard(); heard["2001:db8:c::/64"] || time.Now().After(deadline) {
			if len(heard) != 1 || !heard["2001:db8:c::/64"] {
				t.Errorf("the host took %v", heard)
			}
			return
		}
	}
}

// heard are the prefixes that advertisements gave the host by its bridges. The
// other end of the wire is the host's too, in this test, and no concern of it.
func (h *host) heard() map[string]bool {
	h.t.Helper()
	heard := map[string]bool{}
	for _, a := range must[[]netlink.Addr](h.t)(h.lib.AddrList(nil, netlink.FAMILY_V6)) {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.IsGlobalUnicast() && a.LinkIndex != h.link("nic1-peer").Attrs().Index {
			heard[netip.PrefixFrom(ip, 64).Masked().String()] = true
		}
	}
	return heard
}

// advertise sends a router's advertisement (RFC 4861, 4.2) of a prefix.
func (b *box) advertise(t *testing.T, link, prefix string) {
	t.Helper()
	within(t, b.ns, func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		frame := advertisement(l.Attrs().HardwareAddr, netip.MustParseAddr(prefix))
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Protocol: 0xdd86})
	})
}
