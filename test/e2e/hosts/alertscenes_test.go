package hosts_test

import (
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/hosts"
)

// leasing runs a DHCP server whose leases do not last.
func leasing(t *testing.T, l *hosts.Lab, on *hosts.Wire) *dhcpd.Server {
	t.Helper()
	site := on.Foreign("site", "203.0.113.1/24")
	server, err := dhcpd.New(l.Lab, dhcpd.Kea, site.Station, dhcpd.Settings{
		Subnet: netip.MustParsePrefix("203.0.113.0/24"), Router: netip.MustParseAddr("203.0.113.1"),
		First: netip.MustParseAddr("203.0.113.100"), Last: netip.MustParseAddr("203.0.113.150"),
		Renew: 2 * time.Second, Rebind: 8 * time.Second, Lease: 12 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

// unleased ends the DHCP server, while containers are to start that need it. The
// function that it returns runs it again.
func unleased(t *testing.T, h *hosts.Host, server *dhcpd.Server) (again func()) {
	t.Helper()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	var starts sync.WaitGroup
	for range 4 {
		starts.Go(func() {
			out, err := h.Engine.Run(t.Context(), "run", "--rm", "--network", "leased", harness.Image, "true")
			if err == nil || !strings.Contains(err.Error(), "no DHCP server answered") {
				t.Errorf("without a DHCP server: %v: %s", err, out)
			}
		})
	}
	return func() {
		t.Helper()
		starts.Wait()
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

const goneHost = "00000000000000000000000000000000" // its id

// lost is a host of the cluster that was there, and is not alive any more.
func lost(t *testing.T, db *etcd) {
	t.Helper()
	db.put(t, "host/"+goneHost, fmt.Sprintf(`{"host": %q, "host_name": "gone", "since": "2026-01-01T00:00:00Z", "id": "x", "boot": "x"}`, goneHost))
}

// disowned has that host own a container's address in etcd, as after etcd was
// restored from a copy. To take back what it has puts both
// right, at the next comparison.
func disowned(t *testing.T, h *hosts.Host, p *promtest.Prometheus, db *etcd, address string) {
	t.Helper()
	db.put(t, "address/default/"+address, fmt.Sprintf(`{"host": %q, "host_name": "gone", "network": "n", "pool": "p", "key": "web", "since": "2026-01-01T00:00:00Z", "id": "y"}`, goneHost))
	p.Fires("DocklineNetClusterConflict")
	p.Value("dockline_net_cluster_conflicts", 1)
	p.Fires("DocklineNetHostLost")
	p.Value(`dockline_net_cluster_hosts{state="lost"}`, 1)
	(&operated{h, t}).says(0, "^"+strings.ReplaceAll(address, ".", `\.`)+"$", "addr", "reclaim", "gone")
}

// put writes a key below the folder of ours.
func (e *etcd) put(t *testing.T, key, value string) {
	t.Helper()
	text := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	out := e.ask("kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, text("/dockline/addresses/"+key), text(value)))
	if !strings.Contains(out, "revision") {
		t.Fatal(errors.New(out))
	}
}

// unspoken wants a secret in nothing that anybody sees of the plugins and the engine.
func unspoken(t *testing.T, h *hosts.Host, secret, container string) {
	t.Helper()
	archive, errs, code := (&operated{h, t}).typesAny("bug-report", "--output", "-")
	if code != 0 {
		t.Fatalf("bug-report: %s", errs)
	}
	zipped, err := gzip.NewReader(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	report, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := h.Engine.Plugin(t.Context(), "dockline-net")
	if err != nil {
		t.Fatal(err)
	}
	var served strings.Builder
	for _, path := range []string{"/status", "/cluster", "/claims", "/metrics", "/log", "/events"} {
		if err := admin.Get(t.Context(), fmt.Sprintf("/proc/%d/root/run/docker/plugins/admin.sock", plugin.PID), path, &served); err != nil {
			t.Error(err)
		}
	}
	for what, text := range map[string]string{
		"docker plugin inspect": h.Docker("plugin", "inspect", "dockline-net"), "docker inspect": h.Docker("inspect", container), "docker network inspect": h.Docker("network", "inspect", "lan"),
		"the engine's log": h.Engine.LogTail(1 << 20), "docker info": h.Docker("info"), "bug-report": string(report),
		"what it serves": served.String(),
	} {
		if strings.Contains(text, secret) || len(text) < 200 {
			t.Errorf("%s shows the secret, or nothing: %d bytes", what, len(text))
		}
	}
}
