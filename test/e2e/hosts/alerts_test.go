package hosts_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/netns"
)

// What goes wrong with a real plugin makes the alerts fire that are for it, in a
// Prometheus on the host that has our rules (but that a minute of theirs takes less
// than half a second), and they end when it is well again.
func TestAlertsOfTheNetworkFire(t *testing.T) {
	t.Parallel()
	const at = "127.0.0.1:9742"
	folder := build(t, "dockline-net")
	l := hosts.Open(t)
	lan, backbone, leased := l.Wire(t, "lan"), l.Wire(t, "backbone"), l.Wire(t, "leased")
	stranger := lan.Foreign("stranger", "192.0.2.200/24", "192.0.2.1/24")
	db := etcdOn(t, backbone.Foreign("db", "198.51.100.9/24"))
	dhcp := leasing(t, l, leased)
	h := l.Host(t, "a", debian.Trixie, hosts.On(lan), hosts.On(backbone, "198.51.100.1/24"), hosts.On(leased))
	const password = "c4n4ry-0f-etcd"
	db.protect(t, password)
	h.Run("sh", "-c", `umask 077; mkdir -p /etc/dockline-net && echo "$1" >/etc/dockline-net/password`, "-", password)
	h.Install("dockline-net", folder, "ETCD_ENDPOINTS=http://198.51.100.9:2379", "ETCD_USER=dockline", "ETCD_PASSWORD_FILE=/config/password", "config.source=/etc/dockline-net",
		"METRICS="+at, "PROBE_INTERVAL=1s", "REQUIRE_MAC=on")
	create := func(name string, args ...string) {
		h.Docker(append(append([]string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver}, args...), name)...)
	}
	create("lan", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.0/26", "--gateway", "192.0.2.1", "-o", "parent=eth0", "--ipam-opt", "backend=etcd", "--ipam-opt", "reserve=1")
	create("small", "--subnet", "10.9.0.0/29", "-o", "mode=bridge") // six addresses, of which one is the gateway's
	h.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver, "--ipam-opt", "backend=dhcp", "--ipam-opt", "parent=eth2", "-o", "parent=eth2", "leased")
	for name, network := range map[string]string{"web": "lan", "tenant": "leased"} {
		h.Docker("run", "-d", "--name", name, "--network", network, "--stop-signal", "KILL", harness.Image, "sleep", "1000")
	}
	web := h.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", "web")

	p := promtest.Run(t, promtest.Setup{
		Rules:   []string{lapsed(t, "dockline-net")},
		Targets: map[string]string{"dockline-net": at}, Every: 200 * time.Millisecond, Address: "127.0.0.1:9090",
		Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
			return netns.Command(ctx, h.NS, name, args...)
		},
		Dial: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = h.Host.Do(func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	})
	small := h.Docker("network", "inspect", "-f", "{{.Id}}", "small")[:12]
	p.Value("dockline_net_cluster_up", 1)
	p.Value("dockline_net_cluster_reserve", 1)
	p.Value("min(dockline_net_wire_watched)", 1)
	p.Value(`sum(dockline_net_endpoints{state="joined"})`, 2)
	p.Value(`dockline_net_dhcp_leases{state="bound"}`, 1)
	p.Value(`dockline_net_pool_free{network="`+small+`"}`, 5)
	p.Clears("DocklineNetDifferences", "DocklineNetWireUnwatched")
	if got := p.Firing(); len(got) > 0 {
		t.Errorf("all is well, and there fire %q", got)
	}

	lost(t, db) // which takes an hour to be told of
	exhausted(t, h, p, small)
	stranger.Run("ip", "address", "delete", "192.0.2.1/24", "dev", "eth0") // the gateway's
	silent := unleased(t, h, dhcp)
	conflicted(h, p, stranger, web)
	repaired(t, h, p)
	p.Fires("DocklineNetPeerUnreachable", "peer", "192.0.2.1")
	stranger.Run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
	disowned(t, h, p, db, web)
	p.Fires("DocklineNetDHCPUnanswered")
	p.Fires("DocklineNetLeaseLost")
	silent()

	db.signal(t, syscall.SIGSTOP)
	p.Fires("DocklineNetEtcdAway")
	h.Docker("run", "-d", "--name", "last", "--network", "lan", "--stop-signal", "KILL", harness.Image, "sleep", "1000")
	p.Fires("DocklineNetReserveEmpty")
	db.signal(t, syscall.SIGCONT)
	p.Clears("DocklineNetEtcdAway", "DocklineNetReserveEmpty")

	h.Run("ip", "link", "set", "eth0", "down")
	p.Fires("DocklineNetWireUnwatched")
	p.Fires("DocklineNetDifferences")
	h.Run("ip", "link", "set", "eth0", "up")
	p.Clears("DocklineNetLeaseLost", "DocklineNetPeerUnreachable", "DocklineNetWireUnwatched", "DocklineNetConflict", "DocklineNetDifferences", "DocklineNetReconcileRepairs", "DocklineNetCallErrors", "DocklineNetDHCPUnanswered",
		"DocklineNetClusterConflict", "DocklineNetHostLost")

	unspoken(t, h, password, "web")
	h.Docker("plugin", "disable", "-f", "dockline-net")
	p.Fires("DocklineNetDown")
	h.Docker("plugin", "enable", "dockline-net")
	p.Clears("DocklineNetDown")
	h.Docker(append([]string{"rm", "-f"}, strings.Fields(h.Docker("ps", "-aq"))...)...)
	h.Docker("network", "rm", "lan", "small", "leased")
}

func lapsed(t *testing.T, plugin string) string {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	return promtest.Lapse(t, filepath.Join(top, "plugin-config/prometheus", plugin+".rules.yml"), 400*time.Millisecond, map[string]string{
		"dockline_net_call_errors_total[4000ms]":                              "dockline_net_call_errors_total[15s]", // an engine takes its time
		`dockline_net_dhcp_events_total{event=~"unanswered|refused"}[4000ms]`: `dockline_net_dhcp_events_total{event=~"unanswered|refused"}[30s]`,
		"for: 24000ms": "for: 2000ms", // of an hour, a scrape that is missed begins anew
	})
}

// exhausted takes all addresses of a network, and asks for more.
func exhausted(t *testing.T, h *hosts.Host, p *promtest.Prometheus, network string) {
	t.Helper()
	for i := range 5 {
		h.Docker("run", "-d", "--name", fmt.Sprint("small", i), "--network", "small", "--stop-signal", "KILL", harness.Image, "sleep", "1000")
	}
	p.Fires("DocklineNetAddressesExhausted", "network", network)
	p.Fires("DocklineNetAddressesScarce", "network", network)
	p.Value(`sum(dockline_net_endpoints{state="joined"})`, 7)
	refused := 0
	stop := repeat(t, func() {
		refused++
		if out, err := h.Engine.Run(t.Context(), "run", "--rm", "--network", "small", harness.Image, "true"); err == nil || !strings.Contains(err.Error(), "no address left") {
			t.Errorf("with no address left: %v: %s", err, out)
		}
	})
	p.Fires("DocklineNetCallErrors", "call", "IpamDriver.RequestAddress")
	stop()
	p.Value(`dockline_net_call_errors_total{call="IpamDriver.RequestAddress"}`, float64(refused))
	h.Docker("rm", "-f", "small1", "small2", "small3", "small4")
	p.Clears("DocklineNetAddressesExhausted", "DocklineNetAddressesScarce")
	p.Value(`dockline_net_pool_free{network="`+network+`"}`, 4)
}

// repeat does something again and again, until the function that it returns is called.
func repeat(t *testing.T, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			do()
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond): // so often somebody wants it
			}
		}
	}()
	return func() { cancel(); <-done }
}

// conflicted has another machine take a container's address.
func conflicted(h *hosts.Host, p *promtest.Prometheus, stranger *hosts.Station, address string) {
	stranger.Run("ip", "address", "add", address+"/32", "dev", "eth0")
	p.Fires("DocklineNetConflict")
	p.Value("dockline_net_conflicts_total", 1)
	stranger.Run("ip", "address", "delete", address+"/32", "dev", "eth0") // it clears in half a minute
}

// repaired deletes a network's bridge again and again, until somebody is told.
func repaired(t *testing.T, h *hosts.Host, p *promtest.Prometheus) {
	t.Helper()
	bridge := strings.Fields(h.Run("sh", "-c", "ls /sys/class/net | grep ^dlb-"))[0]
	stop := repeat(t, func() {
		_, _ = h.Host.Run(t.Context(), "ip", "link", "delete", bridge) // it may not be there again yet
	})
	p.Fires("DocklineNetReconcileRepairs")
	stop()
}
