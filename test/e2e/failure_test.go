package e2e

import (
	"fmt"
	"testing"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// A plugin that is killed while records pour in loses none, whatever the protocol.
func TestKilledPluginLosesNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	e := ownEngine(ctx, t)
	b := newBench(t, ctx, e)
	var names []string
	for i, proto := range []string{"json+tcp", "relp", "syslog+tcp"} {
		b.urls = nil // each container has a collector to itself
		b.collector(fmt.Sprintf("c%d", i), proto)
		name := fmt.Sprintf("kill-%d", i)
		names = append(names, name)
		b.start(name, nil, "workload", "seq", "-n", "40000", "-rate", "8000")
	}
	for kill := range uint64(3) {
		b.await(names[0], 8000*(kill+1))
		old, err := e.KillPlugin(ctx, driver)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.AwaitPlugin(ctx, driver, old); err != nil {
			t.Fatal(err)
		}
	}
	b.finish(names...)
	b.settle()
	for i, name := range names { // nor does it forget where it had sent them
		if c := b.where(name); len(c.Collectors) != 1 || c.Collectors[0] != fmt.Sprint("c", i) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// A collector that is down does not keep a container from starting or ending;
// its records arrive when it is there.
func TestCollectorDownAtStart(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	s := b.collector("c1", "relp")
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	b.start("down", nil, "workload", "seq", "-n", "5000")
	b.finish("down")
	if n := b.check.Count("down"); n != 0 {
		t.Errorf("%d records came though the collector was down", n)
	}
	b.restart("c1", "relp", s.Addr())
	b.settle()
}

// A collector that goes away in the middle and comes back misses nothing. What
// it may lose by itself, without acknowledgements in the protocol, is only
// what it had not read; so those are closed in order.
func TestCollectorRestarts(t *testing.T) {
	for proto, stop := range map[string]func(*collector.Server) error{
		"relp":       (*collector.Server).Reset,
		"json+tcp":   (*collector.Server).Close,
		"syslog+tcp": (*collector.Server).Close,
	} {
		t.Run(proto, func(t *testing.T) {
			b := newBench(t, testContext(t), shared.engine)
			s := b.collector("c1", proto)
			name := "restart-" + proto[:4]
			b.start(name, nil, "workload", "seq", "-n", "30000", "-rate", "10000")
			for round := range uint64(2) {
				b.await(name, 8000*(round+1))
				if err := stop(s); err != nil {
					t.Fatal(err)
				}
				s = b.restart("c1", proto, s.Addr())
			}
			b.finish(name)
			b.settle()
		})
	}
}

// A collector that stops reading holds nobody up, and gets everything later.
func TestCollectorThatDoesNotRead(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	s := b.collector("c1", "syslog+tcp")
	s.Pause()
	b.start("paused", nil, "workload", "seq", "-n", "100000")
	b.finish("paused") // though most of it cannot have been taken
	s.Resume()
	b.settle()
}

// await waits until so many records of a container have come.
func (b *bench) await(name string, records uint64) {
	b.Helper()
	b.until(fmt.Sprintf("%d records of %s", records, name), func() bool { return b.check.Count(name) >= records })
}

// wantRefused runs a container that must not start, and returns what is said.
func (b *bench) wantRefused(opts ...string) string {
	b.Helper()
	args := append([]string{"run", "--rm", "--network", "none", "--log-driver", driver}, opts...)
	_, err := b.engine.Run(b.ctx, append(args, harness.Image, "true")...)
	if err == nil {
		b.Errorf("%v was not refused", opts)
		return ""
	}
	return err.Error()
}
