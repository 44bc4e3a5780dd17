package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/consumer/consumertest"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/journald"
	"github.com/dockline/dockline/test/harness/otlp"
)

// What the OpenTelemetry Collector's receiver gets by gRPC, and systemd's journal
// through the mount that it takes, is what a container wrote. Without the mount
// a container does not start, and is told why.
func TestReceiverAndJournal(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	if said := newBench(t, ctx, shared.engine).wantRefused("--log-opt", "collectors=journald://localhost"); !strings.Contains(said, "journal.source=/run/systemd/journal") {
		t.Errorf("without a journal it says %s", said)
	}
	dir, err := os.MkdirTemp("", "j") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j, err := journald.New(dir)
	if err == nil {
		err = j.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	var received consumertest.LogsSink
	addr := startReceiver(t, &received)
	e := ownEngine(ctx, t, "journal.source="+j.Dir)
	const lines = 1000
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprintf("line %d", i+1))
	}
	for name, url := range map[string]string{"by-grpc": "otlp+grpc://" + addr + "?compress=gzip", "to-journal": "journald://localhost"} {
		if _, err := e.Docker.Start(ctx, name, "--log-driver", driver, "--log-opt", "collectors="+url, harness.Image, "sh", "-c", fmt.Sprintf("for i in $(seq %d); do echo line $i; done", lines)); err != nil {
			t.Fatal(err)
		}
	}
	wantLines(t, "the receiver", want, func() (got []string) {
		for _, l := range received.AllLogs() {
			for _, r := range l.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
				got = append(got, r.Body().Str())
			}
		}
		return got
	})
	wantLines(t, "the journal", want, func() (got []string) {
		entries, err := j.Read(ctx)
		if err != nil {
			return nil // it may look damaged while it is written
		}
		for _, e := range entries {
			if e["CONTAINER_NAME"] == "to-journal" && e["PRIORITY"] == "6" {
				got = append(got, e["MESSAGE"])
			}
		}
		return got
	})
	if err := e.Remove(ctx, "by-grpc", "to-journal"); err != nil {
		t.Error(err)
	}
}

// wantLines waits until as many lines have come as are wanted, and compares them.
func wantLines(t *testing.T, who string, want []string, read func() []string) {
	t.Helper()
	end := time.Now().Add(settleTime)
	for {
		got := read()
		if len(got) >= len(want) || time.Now().After(end) {
			if !slices.Equal(got, want) {
				t.Errorf("%s has %d lines, not the %d that were written, or others: %.300q", who, len(got), len(want), got)
			}
			return
		}
		time.Sleep(100 * time.Millisecond) // neither announces anything
	}
}

// startReceiver runs the OpenTelemetry Collector's receiver.
func startReceiver(t *testing.T, to *consumertest.LogsSink) string {
	t.Helper()
	addr := testport.Of(t)
	otlp.Receive(t, map[string]any{"protocols": map[string]any{"grpc": map[string]any{"endpoint": addr}}}, to)
	return addr
}
