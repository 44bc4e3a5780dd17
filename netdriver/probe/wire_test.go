package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/watch"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/wire"
)

// site is a host with a network, and its gateway on the same wire.
type site struct {
	*testing.T
	ctx      context.Context
	wire     *wire.Wire
	host, gw *wire.Station
	k        *kernel.Kernel
	def      network.Definition
	m        *Manager
	wires    *watch.Manager
	ends     ends
}

type ends []endpoint.Endpoint

func (e ends) List() []endpoint.Endpoint { return e }

// nobody has no pools.
type nobody struct{}

func (nobody) Candidates(netip.Prefix, int, func(netip.Addr) bool) (none []netip.Addr) { return none }
func (nobody) Foreign(netip.Prefix, netip.Addr, net.HardwareAddr)                      {}

type one struct{ network.Definition }

func (o one) List() []network.Definition { return []network.Definition{o.Definition} }

func newSite(t *testing.T, mode network.Mode) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &site{T: t, ctx: ctx}
	l, err := lab.Open(t.TempDir())
	s.must(err)
	t.Cleanup(func() { s.must(l.Close()) })
	s.wire, err = wire.New(ctx, l, "lan")
	s.must(err)
	s.host, err = wire.NewStation(ctx, l, "host")
	s.must(err)
	s.must(s.host.Plug(ctx, s.wire, "eth0"))
	s.gw, err = s.wire.Foreign(ctx, "gw", "10.7.0.1/24", "fd00:7::1/64")
	s.must(err)
	s.k, err = kernel.OpenAt(netns.Path(s.host.NS), "test")
	s.must(err)
	t.Cleanup(s.k.Close)
	s.def = network.Definition{ID: "n", Mode: mode, Parent: "eth0", Complete: true, Pools: []network.Pool{
		{Prefix: netip.MustParsePrefix("10.7.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1")},
		{Prefix: netip.MustParsePrefix("fd00:7::/64"), Gateway: netip.MustParseAddr("fd00:7::1")},
	}}
	switch mode {
	case network.Bridge:
		s.def.BridgeName = "br-n"
		s.must(s.k.EnsureBridge(kernel.Bridge{Name: "br-n", Alias: s.k.NetworkAlias("n"), MAC: kernel.BridgeMAC("n"), Uplink: "eth0"}))
		s.ip(s.host, "address", "add", "10.7.0.5/24", "dev", "br-n")
		s.ip(s.host, "address", "add", "fd00:7::5/64", "dev", "br-n", "nodad")
	case network.Macvlan:
		s.ip(s.host, "address", "add", "10.7.0.5/24", "dev", "eth0")
	}
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) ip(at *wire.Station, args ...string) {
	s.Helper()
	s.must(netns.IP(s.ctx, append([]string{"-n", at.NS}, args...)...))
}

// probe asks until the function that it returns is called.
func (s *site) probe() (stop func()) {
	log := slog.New(slog.NewTextHandler(s.Output(), nil))
	wires := watch.New(watch.Config{Host: watch.OnKernel{Kernel: s.k}, Networks: one{s.def}, Endpoints: s.ends, Log: log})
	s.wires = wires
	wires.SetPools(nobody{})
	s.m = New(Config{Every: MinEvery, Networks: one{s.def}, Wires: wires, Host: s.k, Log: log})
	wires.SetHeard(s.m.Heard)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	wires.Sync()
	go func() { done <- wires.Run(ctx) }()
	go func() { done <- s.m.Run(ctx) }()
	return func() {
		cancel()
		s.must(errors.Join(<-done, <-done))
	}
}

// await waits for what the counts of a target say.
func (s *site) await(addr string, p Protocol, what string, is func(Stats) bool) (last Stats) {
	s.Helper()
	for {
		for _, t := range s.m.Stats().Targets {
			if t.Addr.String() == addr && t.Protocol == p {
				last = t
			}
		}
		if is(last) {
			return last
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("%s by %s: never: %s; %+v", addr, p, what, last)
		case <-time.After(20 * time.Millisecond): // nothing tells of a count
		}
	}
}

// A gateway that answers, answers late behind a queue, dies, and is back, by every
// protocol; and nothing on the wire names an address that is not the host's own.
func TestGateway(t *testing.T) {
	for _, tc := range []struct {
		mode      network.Mode
		protocols map[Protocol]string
	}{
		{network.Bridge, map[Protocol]string{ARP: "10.7.0.1", ND: "fd00:7::1", ICMP: "10.7.0.1"}},
		{network.Macvlan, map[Protocol]string{ARP: "10.7.0.1", ND: "fd00:7::1", ICMP: "10.7.0.1"}},
	} {
		t.Run(string(tc.mode), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tc.mode)
			frames, err := s.wire.Capture(func(f wire.Frame) bool { return f.Type() == wire.TypeARP && f.Port == "host-eth0" })
			s.must(err)
			defer func() { s.must(frames.Close()) }()
			defer s.probe()()
			each := func(what string, is func(Stats) bool) {
				t.Helper()
				for p, addr := range tc.protocols {
					s.await(addr, p, what, is)
				}
			}
			each("answers", func(s Stats) bool { return s.Below[1] >= 3 && s.Jitters >= 1 })
			// Its answers wait behind others' in a queue that is always full.
			s.must(s.run(s.gw, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "100kbit", "burst", "1600", "limit", "1800"))
			end := s.flood()
			each("answers late", func(s Stats) bool { return s.Below[0.025] < s.Answered && s.Jitter > 0 })
			end()
			s.ip(s.gw, "link", "set", "eth0", "down")
			lost := s.await(tc.protocols[ARP], ARP, "is dead", func(s Stats) bool { return s.Lost > 0 }).Lost
			each("is dead", func(s Stats) bool { return s.Lost >= 2 })
			at := s.await(tc.protocols[ARP], ARP, "is dead for long", func(s Stats) bool { return s.Lost >= lost+2 })
			s.must(s.run(s.gw, "tc", "qdisc", "del", "dev", "eth0", "root"))
			s.ip(s.gw, "link", "set", "eth0", "up")
			s.ip(s.gw, "address", "replace", "fd00:7::1/64", "dev", "eth0", "nodad") // which went with the link
			s.await(tc.protocols[ARP], ARP, "is back", func(s Stats) bool { return s.Success.After(at.Success) })
			begun := s.m.Stats()
			for p, addr := range tc.protocols {
				var then uint64
				for _, b := range begun.Targets {
					if b.Addr.String() == addr && b.Protocol == p {
						then = b.Answered
					}
				}
				s.await(addr, p, "is back", func(s Stats) bool { return s.Answered > then })
			}
			own := []byte{10, 7, 0, 5} // the host's, of its echoes
			for _, f := range frames.Frames() {
				if sender := f.Payload()[14:18]; !bytes.Equal(sender, []byte{0, 0, 0, 0}) && !bytes.Equal(sender, own) {
					t.Errorf("a frame of the host's says that %v is its address", sender)
				}
			}
		})
	}
}

// A wire without a cable loses, and says so; without a host's address there is no
// echo, and the host does not ask itself.
func TestWithoutAWire(t *testing.T) {
	t.Parallel()
	s := newSite(t, network.Macvlan)
	s.ip(s.host, "address", "delete", "10.7.0.5/24", "dev", "eth0")
	s.def.ProbePeers = []netip.Addr{netip.MustParseAddr("10.7.0.77")}
	defer s.probe()()
	s.await("10.7.0.1", ARP, "answers", func(s Stats) bool { return s.Answered >= 1 })
	s.await("10.7.0.77", ARP, "is silent", func(s Stats) bool { return s.Lost >= 1 && s.Answered == 0 && s.Success.IsZero() })
	for _, t := range s.m.Stats().Targets {
		if t.Protocol == ICMP {
			s.Errorf("%+v", t)
		}
	}
	s.must(s.host.Cut(s.ctx, "eth0"))
	lost := s.await("10.7.0.1", ARP, "is cut off", func(s Stats) bool { return s.Lost >= 2 })
	s.must(s.host.Mend(s.ctx, "eth0"))
	s.await("10.7.0.1", ARP, "is back", func(s Stats) bool { return s.Answered > lost.Answered })
}

// A peer that is one of the host's own containers is asked by its wire's watch as
// well, and is not two machines for that.
func TestOwnContainer(t *testing.T) {
	t.Parallel()
	s := newSite(t, network.Macvlan)
	gw, err := s.gw.Interface("eth0")
	s.must(err)
	s.ends = ends{{ID: "e", Network: "n", IPv4: netip.MustParsePrefix("10.7.0.1/24"), MAC: gw.HardwareAddr, Joined: true}}
	defer s.probe()()
	s.await("10.7.0.1", ARP, "answers for two checks", func(s Stats) bool { return s.Answered >= 14 })
	if n := s.wires.Stats.Conflicts.Load(); n != 0 {
		t.Errorf("%d conflicts", n)
	}
}

func (s *site) run(at *wire.Station, name string, args ...string) error {
	if out, err := netns.Command(s.ctx, at.NS, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// flood has the gateway send more than its queue takes.
func (s *site) flood() (end func()) {
	s.ip(s.gw, "neighbour", "replace", "10.7.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
	cmd := netns.Command(s.ctx, s.gw.NS, "ping", "-q", "-i", "0.02", "-s", "300", "10.7.0.99")
	s.must(cmd.Start())
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
