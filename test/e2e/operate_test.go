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

// dockline-log as the engine's default driver, over a crash of the engine.
func TestDefaultDriverSurvivesTheEngine(t *testing.T) {
	ctx := testContext(t)
	e := ownEngine(ctx, t)
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	conf := []byte(`{"log-driver": "` + driver + `", "log-opts": {"max-size": "5m", "max-file": "2"}}`)
	if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	const name = "always"
	loop := "while true; do echo run $$; sleep 1; done"
	if _, err := e.Run(ctx, "run", "-d", "--name", name, "--restart", "always", "--network", "none", harness.Image, "sh", "-c", loop); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Remove(context.WithoutCancel(ctx), name) })
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// Its second run logs: what -f shows from now on comes from there.
	follow, stop := context.WithCancel(ctx)
	defer stop()
	cmd := e.Command(follow, "logs", "-f", "--tail", "0", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "run " {
		t.Errorf("docker logs after the engine's crash: %q, %v", line, err)
	}
	stop()
	_ = cmd.Wait()
}
