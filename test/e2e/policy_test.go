package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// configure disables the plugin, applies settings and enables it again.
func configure(b *bench, settings ...string) {
	b.Helper()
	for _, args := range [][]string{{"plugin", "disable", driver}, append([]string{"plugin", "set", driver}, settings...), {"plugin", "enable", driver}} {
		if _, err := b.engine.Run(b.ctx, args...); err != nil {
			b.Fatal(err)
		}
	}
}

// The spool on another disk: put there, drained, and moved away from.
func TestSpoolOnAnotherDisk(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	disk, other := filepath.Join(shared.lab.Dir, "disk-a"), filepath.Join(shared.lab.Dir, "disk-b")
	for _, dir := range []string{disk, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e := ownEngine(ctx, t, "spool.source="+disk)
	b := newBench(t, ctx, e)
	s := b.collector("c1", "relp")
	if err := s.Reset(); err != nil { // down
		t.Fatal(err)
	}
	b.start("placed", nil, "workload", "seq", "-n", "2000")
	b.finish("placed")
	if !holdsSegments(disk) {
		t.Fatal("the spool is not where it was put")
	}
	// Away from records that wait, to where they would not be seen: refused.
	for _, source := range []string{other, "rootfs"} {
		configure(b, "spool.source="+source)
		if said := b.wantRefused(); !strings.Contains(said, "set spool.source back and drain it") {
			t.Errorf("to %s: %s", source, said)
		}
	}
	configure(b, "spool.source="+disk)
	b.restart("c1", "relp", s.Addr())
	b.settle()
	if got := adminGet(ctx, t, e, "/drain"); !strings.Contains(got, "true") {
		t.Fatalf("drain: %s", got)
	}
	configure(b, "spool.source="+other)
	b.start("moved", nil, "echo", "there")
	b.finish("moved")
	b.settle()
	if !holdsSegments(other) {
		t.Error("the spool is not where it was moved to")
	}
	if out, err := e.Run(ctx, "logs", "moved"); err != nil || out != "there" {
		t.Errorf("docker logs: %q, %v", out, err)
	}
}

// holdsSegments reports whether a spool with records is below a directory.
func holdsSegments(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "dockline-log/streams/*/*.seg"))
	return len(found) > 0
}

// Containers of all policies fill a small spool while their collector is down.
// All go on, all stop when they are told to, and what was lost is counted.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	e := ownEngine(ctx, t, "SPOOL_MAX=16MiB", "ON_FULL=drop-newest")
	b := newBench(t, ctx, e)
	s := b.collector("c1", "json+tcp")
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	policies := map[string]string{"oldest": "drop-oldest", "newest": "", "slow": "throttle"} // by name
	for name, policy := range policies {
		opts := []string{"--log-driver", driver, "--log-opt", "collectors=" + s.URL()}
		if policy != "" {
			opts = append(opts, "--log-opt", "on-full="+policy)
		}
		b.names = append(b.names, name)
		if _, err := e.Docker.Start(ctx, name, append(opts, harness.Image, "workload", "seq", "-n", "100000000", "-rate", "5000", "-size", "1000")...); err != nil {
			t.Fatal(err)
		}
	}
	// Both that protect what they have come to the point where they give way.
	for _, want := range []string{`streams_giving_way{on_full="drop-newest"} 1`, `streams_giving_way{on_full="throttle"} 1`, `dropped_bytes_total{reason="drop-oldest"} `} {
		awaitMetric(b, want)
	}
	began := time.Now()
	if _, err := e.Run(ctx, "kill", "oldest", "newest", "slow"); err != nil {
		t.Fatal(err)
	}
	for name := range policies {
		if _, err := e.Wait(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("all have ended %v after they were killed", time.Since(began).Round(100*time.Millisecond))
	lost := map[string]int{}
	done := make(chan struct{})
	both := sync.OnceFunc(func() { close(done) })
	again, err := collector.Start(collector.Options{Name: "c1", Proto: "json+tcp", Addr: s.Addr(), Each: func(r collector.Record) {
		// One lane, so one goroutine at a time.
		if strings.HasPrefix(string(r.Line), "[dockline] ") {
			n, _ := strconv.Atoi(strings.Fields(string(r.Line))[1])
			if lost[r.Container] += n; len(lost) == 2 {
				both() // and what else was dropped may come later
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	select {
	case <-done:
	case <-ctx.Done():
		t.Errorf("the marks of what was dropped have not come: %v", lost)
	}
	if got := adminGet(ctx, t, e, "/drain"); !strings.Contains(got, "true") {
		t.Errorf("drain: %s", got)
	}
	if got := adminGet(ctx, t, e, "/metrics"); !strings.Contains(got, `dropped_bytes_total{reason="throttle"} 0`) {
		t.Errorf("a throttled container lost something:\n%s", got)
	}
}

// awaitMetric polls, as Prometheus does: there is nothing to subscribe to.
func awaitMetric(b *bench, want string) {
	b.Helper()
	for b.ctx.Err() == nil {
		for line := range strings.Lines(adminGet(b.ctx, b.T, b.engine, "/metrics")) {
			if strings.Contains(line, want) && !strings.HasSuffix(strings.TrimSpace(line), "} 0") {
				return
			}
		}
		time.Sleep(lookAgain)
	}
	b.Fatalf("no metric says %s", want)
}
