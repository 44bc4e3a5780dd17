package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/probe"
	"github.com/dockline/dockline/netdriver/reconcile"
)

// atWork is a plugin with a container on a wire, a cluster and a lease.
func atWork(t *testing.T) *Plugin {
	t.Helper()
	host, box := newSpace(t), newSpace(t)
	p := newPlugin(t, host)
	p.PerContainer = true
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nic0"
	nic := netlink.NewVeth(attrs)
	nic.PeerName = "nic0-peer"
	ok(t, host.lib.LinkAdd(nic))
	gateway := newSpace(t)
	peer, err := host.lib.LinkByName("nic0-peer")
	ok(t, err)
	ok(t, host.lib.LinkSetNsFd(peer, int(gateway.ns)))
	ok(t, gateway.lib.AddrAdd(peer, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, 0, 1), Mask: net.CIDRMask(24, 32)}}))
	ok(t, gateway.lib.LinkSetUp(peer))
	ok(t, host.lib.LinkSetUp(nic))
	pool, err := p.IPAM.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	ok(t, err)
	d, err := network.Parse(network.Request{
		ID: "n", Options: map[string]string{"mode": "bridge", "uplink": "nic0"}, IPv4: true,
		Pools: []network.Pool{{Space: pool.Space, Prefix: pool.Prefix, Gateway: netip.MustParseAddr("10.1.0.1")}},
	})
	ok(t, err)
	ok(t, p.Networks.Create(d))
	_, err = p.IPAM.RequestAddress(pool.ID, ipam.AddressRequest{Addr: netip.MustParseAddr("10.1.0.1"), Gateway: true})
	ok(t, err)
	addr, err := p.IPAM.RequestAddress(pool.ID, ipam.AddressRequest{})
	ok(t, err)
	_, err = p.Endpoints.Create(endpoint.Endpoint{ID: "e", Network: "n", IPv4: addr})
	ok(t, err)
	_, _, err = p.Endpoints.Join("e")
	ok(t, err)
	move(t, host, box, addr)
	p.Cluster, err = etcd.New(etcd.Config{
		Settings: etcd.Settings{Endpoints: []string{"http://192.0.2.1:2379"}, Prefix: etcd.DefaultPrefix}, Host: "h", HostName: "box",
		Reserve: table[netip.Addr]{}, Log: slog.New(slog.DiscardHandler),
	})
	ok(t, err)
	p.Leases, err = dhcp.New(dhcp.Config{
		Host: dhcp.OnKernel{Kernel: host.k, Networks: p.Networks}, Leases: table[dhcp.Lease]{"l": {
			Pool: dhcp.Pool{ID: "l", Prefix: pool.Prefix}, Addr: netip.MustParseAddr("10.1.0.9"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Boot: "boot", State: dhcp.Bound,
			Terms: dhcp.Terms{Server: netip.MustParseAddr("10.1.0.2"), Obtained: time.Now(), Lasts: 4 * time.Hour, Renew: 2 * time.Hour, Rebind: 3 * time.Hour},
		}},
		Endpoints: func() map[netip.Addr]dhcp.Holder { return nil }, Ours: p.Networks.OnPool, Instance: "i", Boot: "boot", Log: p.Log,
	})
	ok(t, err)
	t.Cleanup(p.Leases.Close)
	watching(t, p)
	p.Observe("NetworkDriver.Join", 2*time.Millisecond, errors.New("once"))
	p.Reconciled(reconcile.Report{Repaired: 3}, nil)
	return p
}

// watching has the wires looked at until the test ends.
func watching(t *testing.T, p *Plugin) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	p.Probe = probe.New(probe.Config{Every: probe.MinEvery, Networks: p.Networks, Wires: p.Watch, Host: kernelOf(t, p), Log: p.Log})
	p.Watch.SetHeard(p.Probe.Heard)
	p.Watch.Sync()
	go func() { done <- p.Watch.Run(ctx) }()
	go func() { done <- p.Probe.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; <-done })
	answered := func() bool {
		all := p.Probe.Stats().Targets
		return len(all) > 0 && all[0].Answered > 0
	}
	for len(p.Watch.Status()) == 0 || !answered() {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond): // nothing tells of a status
		}
	}
}

func kernelOf(t *testing.T, p *Plugin) *kernel.Kernel {
	t.Helper()
	k, is := p.Host.(*kernel.Kernel)
	if !is {
		t.Fatal("the plugin is not on a kernel")
	}
	return k
}

// What a plugin at work serves is what the table says, all of it, as Prometheus
// wants it; every query of the dashboard finds series, and every rule is
// evaluated.
func TestMetricsAndDashboard(t *testing.T) {
	p := atWork(t)
	server := p.Server()
	seen := promtest.Scrape(t, server, Metrics)
	for name := range Metrics.All() {
		if !seen[name] {
			t.Errorf("%s is in the table only", name)
		}
	}
	rules, err := filepath.Abs("../../plugin-config/prometheus/dockline-net.rules.yml")
	ok(t, err)
	prometheus := promtest.Start(t, []string{rules}, "dockline-net", server)
	prometheus.CheckRules()
	prometheus.CheckDashboard("../../plugin-config/grafana/dashboards/dockline-net.json", Metrics)
}

// Metrics of containers are there where they are asked for only.
func TestMetricsPerEndpoint(t *testing.T) {
	p := atWork(t)
	p.PerContainer = false
	for name := range promtest.Scrape(t, p.Server(), Metrics) {
		if strings.HasPrefix(name, "dockline_net_endpoint_") {
			t.Errorf("%s is there", name)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	p := newPlugin(t, newSpace(t))
	s := p.Server()
	want := func(path string, code int, says string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != code || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s; want %d with %q", path, w.Code, w.Body, code, says)
		}
	}
	want("/healthz", http.StatusOK, "ok: reconciles go on\nok: the kernel answers\nok\n")
	want("/readyz", http.StatusServiceUnavailable, "no: the last reconcile: none has ended")
	p.Reconciled(reconcile.Report{}, errors.New("no parent"))
	want("/readyz", http.StatusServiceUnavailable, "no: the last reconcile: the last one ended in an error: no parent")
	p.Reconciled(reconcile.Report{}, nil)
	want("/readyz", http.StatusOK, "ok: the last reconcile\n")
	p.at = time.Now().Add(-time.Hour)
	want("/healthz", http.StatusServiceUnavailable, "no: reconciles go on: no reconcile has ended for 1h0m0s")
	want("/readyz", http.StatusServiceUnavailable, "ok: the last reconcile")

	s = Refusing(errors.New("the journal is damaged"), p.Log)
	want("/healthz", http.StatusOK, "ok\n") // a restart would not help
	want("/readyz", http.StatusServiceUnavailable, "the journal is damaged")
	want("/status", http.StatusInternalServerError, "the journal is damaged")
	if seen := promtest.Scrape(t, s, Metrics); !seen["dockline_net_refusing"] {
		t.Errorf("%v", seen)
	}
}
