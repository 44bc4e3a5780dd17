package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
)

// adminGet asks the socket that the manual names.
func adminGet(ctx context.Context, t *testing.T, e *harness.Engine, path string) string {
	t.Helper()
	id, err := e.Run(ctx, "plugin", "inspect", "-f", "{{.ID}}", driver)
	if err != nil {
		t.Fatal(err)
	}
	// Engines up to 20.10 have their plugins' sockets there whatever their exec root.
	sock := filepath.Join("/run/docker/plugins", strings.TrimSpace(id), "admin.sock")
	if _, err := os.Stat(sock); err != nil {
		sock = filepath.Join(e.ExecRoot, "plugins", strings.TrimSpace(id), "admin.sock")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://plugin"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s, %v", path, res.StatusCode, body, err)
	}
	return string(body)
}

// What the manual says of looking into the plugin and of emptying it.
func TestMetricsStatusAndDrain(t *testing.T) {
	ctx := testContext(t)
	b := newBench(t, ctx, shared.engine)
	b.collector("c1", "relp")
	b.start("looked-at", nil, "workload", "seq", "-n", "500")
	b.finish("looked-at")
	if got := adminGet(ctx, t, b.engine, "/drain"); !strings.Contains(got, "true") {
		t.Errorf("drain: %s", got)
	}
	b.settle()
	if got := adminGet(ctx, t, b.engine, "/status"); !strings.Contains(got, `"name": "looked-at"`) || !strings.Contains(got, `"backlog_bytes": 0`) {
		t.Errorf("status: %s", got)
	}
	if got := adminGet(ctx, t, b.engine, "/metrics"); !strings.Contains(got, "dockline_log_records_acknowledged_total") {
		t.Errorf("metrics: %s", got)
	}
}
