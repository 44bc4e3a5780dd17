package trace

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/wire"
)

// lan is a host with containers, and machines on the same wire that it does not
// know: far (.9) and the gateway (.1), which has a second subnet behind it.
type lan struct {
	t        *testing.T
	ctx      context.Context
	lab      *lab.Lab
	wire     *wire.Wire
	host     *wire.Station
	far, gw  *wire.Station
	k        *kernel.Kernel
	network  Network
	ends     map[string]*Endpoint
	isolated bool
}

const instance = kernel.Instance("test")

func newLAN(t *testing.T, mode string) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	l := &lan{t: t, ctx: ctx, ends: map[string]*Endpoint{}}
	var err error
	l.lab, err = lab.Open(t.TempDir())
	l.must(err)
	t.Cleanup(func() {
		if err := l.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	l.wire, err = wire.New(ctx, l.lab, "lan")
	l.must(err)
	l.host, err = wire.NewStation(ctx, l.lab, "host")
	l.must(err)
	l.must(l.host.Plug(ctx, l.wire, "eth0", "10.6.0.2/24"))
	l.far, err = l.wire.Foreign(ctx, "far", "10.7.0.9/24", "fd00:7::9/64")
	l.must(err)
	l.gw, err = l.wire.Foreign(ctx, "gw", "10.7.0.1/24")
	l.must(err)
	l.k, err = kernel.OpenAt(netns.Path(l.host.NS), instance)
	l.must(err)
	t.Cleanup(l.k.Close)
	l.network = Network{ID: "n", Mode: mode, Parent: "eth0"}
	if mode == "bridge" {
		l.network.Bridge = "br-n"
		l.must(l.k.EnsureBridge(kernel.Bridge{Name: "br-n", Alias: l.k.NetworkAlias("n"), MAC: kernel.BridgeMAC("n"), Uplink: "eth0"}))
	}
	// What comes back from a sandbox gives the host's namespace an id in itself.
	l.must(netns.Add(ctx, l.box("gone")))
	l.ip(l.box("gone"), "link", "add", "v", "type", "veth", "peer", "name", "w")
	l.ip(l.box("gone"), "link", "set", "v", "netns", l.host.NS)
	l.ip(l.host.NS, "link", "set", "v", "netns", l.box("gone"))
	l.container("a", "10.7.0.2/24", "fd00:7::2/64")
	l.container("b", "10.7.0.3/24", "fd00:7::3/64")
	return l
}

func (l *lan) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// ip runs the ip command in a namespace.
func (l *lan) ip(ns string, args ...string) {
	l.t.Helper()
	l.must(netns.IP(l.ctx, append([]string{"-n", ns}, args...)...))
}

func (l *lan) box(name string) string { return l.lab.Namespace(name) }

// run runs a command in a namespace.
func (l *lan) run(ns, name string, args ...string) {
	l.t.Helper()
	if out, err := netns.Command(l.ctx, ns, name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// sysctl sets one of a namespace, of which /proc shows the one of who looks.
func (l *lan) sysctl(ns, name, value string) {
	l.t.Helper()
	l.must(netns.Do(ns, func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
	}))
}

// container makes an endpoint as the plugin does, and a sandbox as the engine does.
func (l *lan) container(name string, v4, v6 string) {
	l.t.Helper()
	e := &Endpoint{
		ID: name, Joined: true, IPv4: netip.MustParsePrefix(v4), IPv6: netip.MustParsePrefix(v6),
		Alias: l.k.EndpointAlias("n", name), Differences: []string{},
	}
	mac := kernel.EndpointMAC(e.IPv4.Addr(), netip.Addr{}, name)
	e.MAC = mac.String()
	link := kernel.ContainerName(name)
	if l.network.Mode == "bridge" {
		e.HostLink = kernel.HostName(name)
		l.must(l.k.CreateVeth(kernel.Veth{Host: e.HostLink, Container: link, Alias: e.Alias, Bridge: "br-n", MAC: mac}))
	} else {
		l.must(l.k.CreateMacvlan(kernel.Macvlan{Name: link, Alias: e.Alias, Parent: "eth0", MAC: mac}))
	}
	l.ends[name] = e
	l.must(netns.Add(l.ctx, l.box(name)))
	l.ip(l.host.NS, "link", "set", link, "netns", l.box(name), "name", "eth0")
	l.ip(l.box(name), "address", "add", v4, "dev", "eth0")
	l.ip(l.box(name), "address", "add", v6, "dev", "eth0", "nodad")
	l.ip(l.box(name), "link", "set", "eth0", "up")
	l.ip(l.box(name), "route", "add", "default", "via", "10.7.0.1")
}

// known is what the plugin knows of container a and another one or an address.
func (l *lan) known(to string) Known {
	known := Known{From: l.end("a"), To: Intended{Asked: to}}
	if l.ends[to] != nil {
		known.To = l.end(to)
	} else {
		known.To.Addr = netip.MustParseAddr(to)
		for name, e := range l.ends {
			if e.IPv4.Addr() == known.To.Addr || e.IPv6.Addr() == known.To.Addr {
				addr := known.To.Addr
				known.To = l.end(name)
				known.To.Addr = addr
			}
		}
	}
	return known
}

// trace traces from container a to another one or an address.
func (l *lan) trace(to string) *Report {
	l.t.Helper()
	known := l.known(to)
	r, err := Run(l.ctx, Config{Known: known, HostNS: netns.Path(l.host.NS)})
	l.must(err)
	l.t.Cleanup(func() {
		if l.t.Failed() || testing.Verbose() {
			var text strings.Builder
			_ = r.Print(&text)
			l.t.Log("\n" + text.String())
		}
	})
	return r
}

func (l *lan) end(name string) Intended {
	e, n := l.ends[name], l.network
	n.Isolated = l.isolated
	return Intended{Asked: name, Addr: e.IPv4.Addr(), Endpoint: e, Network: &n}
}

// drop puts a rule into a namespace's firewall.
func (l *lan) drop(ns, family, hook, rule string) {
	l.t.Helper()
	l.run(ns, "nft", "add table "+family+" t; add chain "+family+" t c { type filter hook "+hook+" priority 0; policy accept; }; add rule "+family+" t c "+rule)
}
