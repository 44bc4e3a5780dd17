package wire

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
)

// open makes a lab with a wire, and expects that nothing is left of it.
func open(t *testing.T) (context.Context, *Wire) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	before := interfaces(t)
	l, err := lab.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left, err := netns.WithPrefix(l.Namespace("")); err != nil || len(left) > 0 {
			t.Errorf("namespaces %v are left (%v)", left, err)
		}
		if diff := cmp.Diff(before, interfaces(t)); diff != "" {
			t.Errorf("the machine's own interfaces changed:\n%s", diff)
		}
	})
	w, err := New(ctx, l, "lan")
	if err != nil {
		t.Fatal(err)
	}
	return ctx, w
}

// interfaces lists the machine's physical ones and their addresses. Others come
// and go with what runs beside the test.
func interfaces(t *testing.T) map[string][]string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]string)
	for _, link := range all {
		if _, err := os.Stat("/sys/class/net/" + link.Name + "/device"); err != nil {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			found[link.Name] = append(found[link.Name], a.String())
		}
	}
	return found
}

func foreign(ctx context.Context, t *testing.T, w *Wire, name string, addresses ...string) *Station {
	t.Helper()
	s, err := w.Foreign(ctx, name, addresses...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func capture(t *testing.T, w *Wire, keep func(Frame) bool) *Capture {
	t.Helper()
	c, err := w.Capture(keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func isARP(f Frame) bool { return f.Type() == TypeARP }

// Machines on a wire talk to each other, and every frame is seen once, at the
// port where it comes in.
func TestStationsTalk(t *testing.T) {
	ctx, w := open(t)
	a := foreign(ctx, t, w, "a", "192.0.2.1/24", "2001:db8::1/64")
	foreign(ctx, t, w, "b", "192.0.2.2/24", "2001:db8::2/64")
	c := capture(t, w, func(f Frame) bool { return echo(f) >= 0 })
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		if _, err := a.Run(ctx, "busybox", "ping", "-c", "1", "-W", "10", to); err != nil {
			t.Error(err)
		}
	}
	const request, reply = 8, 0
	if _, err := c.Await(ctx, func(f Frame) bool { return echo(f) == reply }); err != nil {
		t.Fatal(err)
	}
	// An echo is sent once; who has an address is asked again where that takes long.
	all := c.Frames()
	if len(all) != 2 || all[0].Port != "a-eth0" || echo(all[0]) != request || all[1].Port != "b-eth0" {
		t.Errorf("the question and the answer are %v", all)
	}
}

// echo is the type of an ICMP message (RFC 792), -1 for what is none.
func echo(f Frame) int {
	const protocol, header, icmp = 9, 20, 1
	if p := f.Payload(); f.Type() == TypeIPv4 && len(p) > header && p[protocol] == icmp {
		return int(p[header])
	}
	return -1
}

// Frames that a test makes up arrive as they are, and are answered.
func TestSentFramesAreAnswered(t *testing.T) {
	ctx, w := open(t)
	a := foreign(ctx, t, w, "a")
	b := foreign(ctx, t, w, "b", "192.0.2.2/24")
	c := capture(t, w, isARP)
	made := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	addr := netip.MustParseAddr("192.0.2.2")
	if err := a.Send("eth0", Ask(made, netip.IPv4Unspecified(), addr).Frame(Broadcast)); err != nil {
		t.Fatal(err)
	}
	f, err := c.Await(ctx, func(f Frame) bool { return f.Port == "b-eth0" })
	if err != nil {
		t.Fatal(err)
	}
	link, err := b.Interface("eth0")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := f.ARP()
	want := Ask(made, netip.IPv4Unspecified(), addr).Answer(link.HardwareAddr)
	if diff := cmp.Diff(want.String(), got.String()); diff != "" || f.Dst().String() != made.String() {
		t.Errorf("the answer to %s: %s", f.Dst(), diff)
	}
	if probe, _ := c.Frames()[0].ARP(); !probe.Probe() || probe.Gratuitous() {
		t.Errorf("the probe was seen as %v", c.Frames()[0])
	}
}

// A gratuitous ARP makes others send to the new place at once.
func TestAnnouncementMovesAnAddress(t *testing.T) {
	ctx, w := open(t)
	a := foreign(ctx, t, w, "a")
	b := foreign(ctx, t, w, "b", "192.0.2.2/24")
	if _, err := b.Run(ctx, "ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	c := capture(t, w, func(f Frame) bool { return f.Port == "b-eth0" && f.Type() == TypeIPv4 })
	moved := net.HardwareAddr{2, 0, 0, 0, 0, 2}
	if err := a.Send("eth0", Announce(moved, netip.MustParseAddr("192.0.2.9")).Frame(Broadcast)); err != nil {
		t.Fatal(err)
	}
	_, _ = b.Run(ctx, "busybox", "ping", "-c", "1", "-W", "1", "192.0.2.9") // nobody answers
	f, err := c.Await(ctx, func(Frame) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if f.Dst().String() != moved.String() {
		t.Errorf("b sends to %s still", f.Dst())
	}
}

// VLAN tags, which the kernel hides from captures, are shown.
func TestTagsAreSeen(t *testing.T) {
	ctx, w := open(t)
	a := foreign(ctx, t, w, "a")
	c := capture(t, w, isARP)
	ask := Ask(net.HardwareAddr{2, 0, 0, 0, 0, 7}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"))
	frame := ask.Frame(Broadcast)
	if err := a.Send("eth0", slices.Insert(frame, 12, 0x81, 0, 0x20, 7)); err != nil { // priority 1
		t.Fatal(err)
	}
	f, err := c.Await(ctx, func(Frame) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := f.ARP(); f.VLAN() != 7 || !ok || p.String() != ask.String() {
		t.Errorf("captured %v", f)
	}
}

// A cut cable takes the carrier away; mended, it works again, as it does after
// a reboot.
func TestCutCable(t *testing.T) {
	ctx, w := open(t)
	a := foreign(ctx, t, w, "a", "192.0.2.1/24")
	b := foreign(ctx, t, w, "b", "192.0.2.2/24")
	ping := func(seconds string) error {
		_, err := a.Run(ctx, "busybox", "ping", "-c", "1", "-W", seconds, "192.0.2.2")
		return err
	}
	const patience = "10"
	if err := ping(patience); err != nil {
		t.Error(err)
	}
	if err := b.Cut(ctx, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := ping("1"); err == nil {
		t.Error("the ping went through a cut cable")
	}
	if err := b.Mend(ctx, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := ping(patience); err != nil {
		t.Error(err)
	}
	if err := b.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ping(patience); err != nil { // a has the address in its cache: it is the same
		t.Error(err)
	}
	if err := b.Cut(ctx, "eth1"); err == nil {
		t.Error("a cable that there is not was cut")
	}
}

func TestEveryInterfaceHasItsOwnMAC(t *testing.T) {
	seen := map[string]string{}
	for _, ns := range []string{"lab-a", "lab-b"} {
		s := &Station{NS: ns}
		for _, name := range []string{"eth0", "eth1", "eth2"} {
			mac := s.mac(name).String()
			if other, twice := seen[mac]; twice {
				t.Errorf("%s is that of %s and of %s/%s", mac, other, ns, name)
			}
			seen[mac] = ns + "/" + name
		}
	}
}
