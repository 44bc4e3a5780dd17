package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A container whose records are spread one by one loses none when a collector is
// killed, and then the plugin, and the collector gets its share when it is back.
func TestSpreadRecordsSurviveKills(t *testing.T) {
	ctx := testContext(t)
	b := newBench(t, ctx, ownEngine(ctx, t))
	b.collector("c0", "relp")
	c1 := b.collector("c1", "relp")
	b.collector("c2", "relp")
	b.start("spread", []string{"--log-opt", "hash=record"}, "workload", "seq", "-n", "72000", "-rate", "6000", "-stderr-every", "10")
	b.await("spread", 6000)
	if err := c1.Reset(); err != nil {
		t.Fatal(err)
	}
	before := b.check.Where("spread")
	b.await("spread", 12000)
	old, err := b.engine.KillPlugin(ctx, driver)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.AwaitPlugin(ctx, driver, old); err != nil {
		t.Fatal(err)
	}
	b.restart("c1", "relp", c1.Addr())
	b.finish("spread")
	wait, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not everything has come in time"))
	defer cancel()
	if err := b.check.Wait(wait, b.check.Complete); err != nil {
		t.Error(err)
	}
	rep := b.check.Report()
	if rep.Lost > 0 || len(rep.Problems) > 1 || len(rep.Problems) == 1 && rep.Reordered == 0 {
		t.Errorf("lost=%d: %q", rep.Lost, rep.Problems) // what c1 had not acknowledged came to others behind newer records
	}
	t.Logf("records=%d lost=%d duplicated=%d reordered=%d at %v", rep.Delivered, rep.Lost, rep.Duplicated, rep.Reordered, rep.Collectors)
	for name, n := range before {
		if n < 1000 {
			t.Errorf("%s had %d of 6,000 records", name, n)
		}
	}
	if rep.Collectors["c1"] < before["c1"]+2000 {
		t.Errorf("c1 had %d records before it was killed, and %d in the end", before["c1"], rep.Collectors["c1"])
	}
}

// A loud container is spread over collectors in time slices, and a collector that
// stops reading sheds containers for as long as it does; all in order.
func TestLoadIsBalanced(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	b.collector("c0", "relp")
	c1 := b.collector("c1", "relp")
	b.collector("c2", "relp")
	b.start("loud", []string{"--log-opt", "hash=name", "--log-opt", "split-above=100KiB/s"}, "workload", "seq", "-n", "50000", "-rate", "2000")
	names := []string{"loud"}
	for i := range 8 {
		name := fmt.Sprint("quiet-", i)
		names = append(names, name)
		b.start(name, []string{"--log-opt", "hash=name"}, "workload", "seq", "-n", "400", "-rate", "20")
	}
	b.await("loud", 20000)
	c1.Pause()
	b.awaitMetric(`collector_shed_ratio{collector="c1"}`, func(v float64) bool { return v > 0 })
	c1.Resume()
	b.finish(names...)
	b.settle()
	if at := b.check.Where("loud"); len(at) < 2 {
		t.Errorf("the loud container's records are at %v", at)
	}
}

// awaitMetric waits until a metric of the plugin is as it should be.
func (b *bench) awaitMetric(name string, good func(float64) bool) {
	b.Helper()
	for b.ctx.Err() == nil {
		for line := range strings.Lines(adminGet(b.ctx, b.T, b.engine, "/metrics")) {
			if rest, ok := strings.CutPrefix(line, "dockline_log_"+name+" "); ok {
				if v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil && good(v) {
					return
				}
			}
		}
		time.Sleep(200 * time.Millisecond) // between two looks: a metric is no event
	}
	b.Fatalf("%s is not as it should be: %v", name, context.Cause(b.ctx))
}
