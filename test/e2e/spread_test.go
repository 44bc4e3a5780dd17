package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A container whose records are spread one by one loses none when a collector is
// killed, and then the plugin, and the collector gets its share when it is back.
func TestSpreadRecordsSurviveKills(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := newBench(t, ctx, ownEngine(ctx, t))
	b.collector("c0", "relp")
	c1 := b.collector("c1", "relp")
	b.collector("c2", "relp")
	b.start("spread", []string{"--log-opt", "hash=record"}, "workload", "seq", "-n", endless, "-rate", "6000", "-stderr-every", "10")
	b.until("each gets its share", func() bool {
		at := b.check.Where("spread")
		return min(at["c0"], at["c1"], at["c2"]) >= 1000
	})
	if err := c1.Reset(); err != nil {
		t.Fatal(err)
	}
	b.await("spread", b.check.Count("spread")+6000)
	before := b.check.Where("spread")["c1"]
	old, err := b.engine.KillPlugin(ctx, driver)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.AwaitPlugin(ctx, driver, old); err != nil {
		t.Fatal(err)
	}
	b.restart("c1", "relp", c1.Addr())
	b.until("it gets its share again", func() bool { return b.check.Where("spread")["c1"] >= before+2000 })
	b.stop("spread")
	b.finish("spread")
	b.settleSomewhere()
}

// A loud container is spread over collectors in time slices, and a collector that
// stops reading sheds containers for as long as it does; all in order.
func TestLoadIsBalanced(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := newBench(t, ctx, ownEngine(ctx, t))
	b.collector("c0", "relp")
	c1 := b.collector("c1", "relp")
	b.collector("c2", "relp")
	b.start("loud", []string{"--log-opt", "hash=name", "--log-opt", "split-above=100KiB/s"}, "workload", "seq", "-n", endless, "-rate", "2000")
	names := []string{"loud"}
	for i := range 8 {
		name := fmt.Sprint("quiet-", i)
		names = append(names, name)
		b.start(name, []string{"--log-opt", "hash=name"}, "workload", "seq", "-n", endless, "-rate", "20")
	}
	b.until("it is spread", func() bool { return len(b.check.Where("loud")) > 1 })
	c1.Pause()
	b.awaitMetric(`collector_shed_ratio{collector="c1"}`, func(v float64) bool { return v > 0 })
	c1.Resume()
	b.stop(names...)
	b.finish(names...)
	b.settle()
}

// awaitMetric waits until a metric of the plugin is as it should be.
func (b *bench) awaitMetric(name string, good func(float64) bool) {
	b.Helper()
	for b.ctx.Err() == nil {
		if v, there := b.metric(name); there && good(v) {
			return
		}
		time.Sleep(lookAgain) // a metric is no event
	}
	b.Fatalf("%s is not as it should be: %v", name, context.Cause(b.ctx))
}

// metric reads one of the plugin's, which may not be there yet.
func (b *bench) metric(name string) (value float64, there bool) {
	b.Helper()
	for line := range strings.Lines(adminGet(b.ctx, b.T, b.engine, "/metrics")) {
		if rest, ok := strings.CutPrefix(line, "dockline_log_"+name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				b.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}
