package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// What a container's options ask for is done to what collectors get, and to
// nothing that docker logs shows.
func TestRecordsAreProcessed(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	trace, err := os.ReadFile(filepath.Join(top, "logdriver/process/testdata/outputs/java.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []collector.Record
	var ended, lines, left int
	came := make(chan struct{})
	s, err := collector.Start(collector.Options{Name: "c1", Proto: "json+tcp", Each: func(r collector.Record) {
		mu.Lock()
		defer mu.Unlock()
		if slices.ContainsFunc(got, func(o collector.Record) bool { return o.ID == r.ID }) {
			return
		}
		got = append(got, r)
		n := 0
		if _, err := fmt.Sscanf(string(r.Line), "[dockline] %d records", &n); err != nil {
			lines++
		}
		if left += n; lines+left == 9+3001 {
			if ended++; ended == 1 {
				close(came)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	b.urls = []string{s.URL()}
	opts := []string{"-e", "TRACE=" + strings.TrimSuffix(string(trace), "\n")}
	for _, o := range []string{"multiline=java", "redact=email", "rate=200", "burst=50"} {
		opts = append(opts, "--log-opt", o)
	}
	// It sleeps because the engine reads the two pipes at its own pace, and nothing
	// of the trace is to be over the rate.
	b.start("processed", opts, "sh", "-c", `printf '%s\n' "$TRACE" >&2; sleep 1; echo mail to eve@example.org; for i in $(seq 3000); do echo line $i; done`)
	if code, err := b.engine.Wait(b.ctx, "processed"); err != nil || code != "0" {
		t.Fatalf("ended with code %s: %v", code, err)
	}
	ctx, cancel := context.WithTimeoutCause(b.ctx, settleTime, errors.New("not everything has come in time"))
	defer cancel()
	select {
	case <-came:
	case <-ctx.Done():
		t.Error(context.Cause(ctx))
	}
	mu.Lock()
	defer mu.Unlock()
	first, _, _ := strings.Cut(string(trace[bytes.IndexByte(trace, '\n')+1:]), "\nGET ")
	for _, want := range []string{"begins", first, "mail to [redacted:email]"} {
		if !slices.ContainsFunc(got, func(r collector.Record) bool { return string(r.Line) == want }) {
			t.Errorf("did not come: %q", want)
		}
	}
	if left == 0 || left > 3000-50 {
		t.Errorf("%d records came, %d were left out", lines, left)
	}
	out, errs := b.logs("processed")
	if !bytes.Equal(errs, trace) || !bytes.HasPrefix(out, []byte("mail to eve@example.org\nline 1\n")) || bytes.Count(out, []byte("\n")) != 3001 {
		t.Errorf("docker logs does not show what was written: %.100q, %.100q", out, errs)
	}
	b.awaitMetric("redactions_total", func(v float64) bool { return v >= 1 })
	b.awaitMetric("records_over_rate_total", func(v float64) bool { return v >= float64(left) })
	if said := b.wantRefused("--log-opt", "multiline=perl"); !strings.Contains(said, `log-opt multiline="perl": "perl" is not one of auto, go, java, node, python`) {
		t.Errorf("refused with %q", said)
	}
}
