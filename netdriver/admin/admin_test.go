package admin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/watch"
)

// table is a state table that lives as long as the test.
type table[V any] map[string]V

func (t table[V]) Put(key string, v V) error  { t[key] = v; return nil }
func (t table[V]) All() (map[string]V, error) { return maps.Clone(t), nil }
func (t table[V]) Delete(keys ...string) error {
	for _, k := range keys {
		delete(t, k)
	}
	return nil
}

// space is a network namespace.
type space struct {
	ns  netns.NsHandle
	k   *kernel.Kernel
	lib *netlink.Handle
}

func newSpace(t *testing.T) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	s := &space{}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err1, err2, err3 error
		s.ns, err1 = netns.New()
		s.k, err2 = kernel.Open("self")
		s.lib, err3 = netlink.NewHandle()
		made <- errors.Join(err1, err2, err3)
	}()
	ok(t, <-made)
	t.Cleanup(func() { s.k.Close(); s.lib.Close(); _ = s.ns.Close() })
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlugin(t *testing.T, host *space) *Plugin {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	networks, err := network.NewManager(host.k, table[network.Definition]{}, ipam.LocalSpace, log)
	ok(t, err)
	endpoints, err := endpoint.NewManager(host.k, table[endpoint.Endpoint]{}, networks, log)
	ok(t, err)
	wires := watch.New(watch.Config{Host: watch.OnKernel{Kernel: host.k}, Networks: networks, Endpoints: endpoints, Log: log})
	addresses, err := ipam.New(ipam.Config{
		Pools: table[ipam.Pool]{}, Addresses: table[ipam.Given]{}, Cursors: table[netip.Addr]{},
		Reservations: table[ipam.Reservation]{},
		Routes:       func() ([]netip.Prefix, error) { return nil, nil }, HostAddrs: host.k.HostAddrs,
		Bound:    func(p ipam.Pool) bool { return networks.OnPool(p.Prefix) },
		Reserved: networks.Reserved, Endpoints: endpoints.Addresses, Wire: wires, Now: time.Now, Log: log,
	})
	ok(t, err)
	networks.SetPools(addresses)
	networks.SetEndpoints(endpoints)
	wires.SetPools(addresses)
	return &Plugin{Host: host.k, Networks: networks, Endpoints: endpoints, IPAM: addresses, Watch: wires, Log: log}
}

// differences are those of the status, one a line.
func differences(t *testing.T, p *Plugin) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.Server().ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	var s Status
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	var all []string
	for _, n := range s.Networks {
		all = append(all, n.Difference...)
		for _, e := range n.Endpoints {
			all = append(all, e.Difference...)
		}
	}
	for _, l := range s.Strays {
		all = append(all, "stray "+l.Name)
	}
	if len(all) != s.Differences {
		t.Errorf("%d differences, but %q", s.Differences, all)
	}
	return strings.Join(all, "\n")
}

// What is meant, what there is and the difference, from a network that is made
// to links that nobody knows.
func TestStatusAndMetrics(t *testing.T) {
	host, box := newSpace(t), newSpace(t)
	p := newPlugin(t, host)
	p.PerContainer = true
	pool, err := p.IPAM.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	ok(t, err)
	d, err := network.Parse(network.Request{
		ID: "n", Options: map[string]string{"mode": "bridge"}, IPv4: true,
		Pools: []network.Pool{{Space: pool.Space, Prefix: pool.Prefix}},
	})
	ok(t, err)
	ok(t, p.Networks.Create(d))
	addr, err := p.IPAM.RequestAddress(pool.ID, ipam.AddressRequest{})
	ok(t, err)
	_, err = p.Endpoints.Create(endpoint.Endpoint{ID: "e", Network: "n", IPv4: addr})
	ok(t, err)
	want := func(when, difference string) {
		t.Helper()
		if got := differences(t, p); got != difference {
			t.Errorf("%s: differences\n%s\nwant\n%s", when, got, difference)
		}
	}
	want("created", "")
	_, _, err = p.Endpoints.Join("e")
	ok(t, err)
	want("joined, not moved", "no link of it is in a sandbox")
	move(t, host, box, addr)
	want("at work", "")
	p.Observe("NetworkDriver.Join", 2*time.Millisecond, errors.New("once"))
	p.Reconciled(reconcile.Report{Repaired: 3}, nil)
	wantMetrics(t, p)
	link, err := host.lib.LinkByName(kernel.HostName("e"))
	ok(t, err)
	ok(t, host.lib.LinkSetNoMaster(link))
	eth, err := box.lib.LinkByName("eth0")
	ok(t, err)
	ok(t, box.lib.LinkSetDown(eth))
	want("taken apart", kernel.HostName("e")+" is no port of bridge "+d.BridgeName+"\neth0 in the sandbox is down")
	bridge, err := host.lib.LinkByName(d.BridgeName)
	ok(t, err)
	ok(t, host.lib.LinkSetAlias(bridge, host.k.NetworkAlias("gone")))
	if got := differences(t, p); !strings.Contains(got, "stray "+d.BridgeName) {
		t.Errorf("a bridge of a network that is gone: %s", got)
	}
}

// move does with an endpoint's link what the engine does after Join.
func move(t *testing.T, host, box *space, addr netip.Prefix) {
	t.Helper()
	l, err := host.lib.LinkByName(kernel.ContainerName("e"))
	ok(t, err)
	ok(t, host.lib.LinkSetNsFd(l, int(box.ns)))
	l, err = box.lib.LinkByName(kernel.ContainerName("e"))
	ok(t, err)
	ok(t, box.lib.LinkSetName(l, "eth0"))
	a, err := netlink.ParseAddr(addr.String())
	ok(t, err)
	ok(t, box.lib.AddrAdd(l, a))
	ok(t, box.lib.LinkSetUp(l))
}

func wantMetrics(t *testing.T, p *Plugin) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Server().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	lines := slices.Collect(strings.Lines(w.Body.String()))
	for _, want := range []string{
		`dockline_net_call_duration_seconds_count{call="NetworkDriver.Join"} 1`,
		`dockline_net_call_errors_total{call="NetworkDriver.Join"} 1`,
		`dockline_net_reconcile_duration_seconds_count 1`,
		`dockline_net_reconcile_actions_total{action="repaired"} 3`,
		`dockline_net_endpoints{network="n",state="joined"} 1`,
		`dockline_net_differences{network="n"} 0`,
		`dockline_net_pool_addresses{network="n",pool="10.1.0.0/24",state="given"} 1`,
		`dockline_net_pool_size{network="n",pool="10.1.0.0/24"} 254`,
		`dockline_net_pool_free{network="n",pool="10.1.0.0/24"} 253`,
		`dockline_net_conflicts_total 0`,
		`dockline_net_wire_events_total{event="quarantined"} 0`,
	} {
		if !slices.Contains(lines, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, begin := range []string{`dockline_net_endpoint_rx_packets_total{endpoint="e",network="n"} `, `dockline_net_network_tx_bytes_total{link="dlb-`} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, begin) }) {
			t.Errorf("the metrics lack %s", begin)
		}
	}
}
