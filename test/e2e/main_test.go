// Package e2e tests the plugins as their users see them: on a real engine of
// its own, with real containers, and collectors of several protocols.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
)

const (
	driver    = "dockline-log"
	testTime  = 8 * time.Minute // for one test, on a machine that has much else to do
	startTime = 4 * time.Minute // for what all of them share

	settleTime = 3 * time.Minute // until all has come that was written
)

// shared is what the tests have in common. Those that do violence to an engine
// or change the plugin's settings start one of their own.
var shared struct {
	lab    *lab.Lab
	engine *harness.Engine
	build  string // the plugin's build folder
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	top, err := harness.ModuleDir()
	if err != nil {
		return 1, err
	}
	shared.build = filepath.Join(top, "build/plugins", driver)
	if _, err := os.Stat(filepath.Join(shared.build, "config.json")); err != nil {
		return 1, fmt.Errorf("find the plugin's build (make plugins): %w", err)
	}
	if shared.lab, err = lab.Open(lab.Base()); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.lab.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if shared.engine, err = startEngine(ctx, "shared"); err != nil {
		return 1, err
	}
	// With defaults, as a user's first try would.
	if err := shared.engine.InstallPlugin(ctx, driver, shared.build); err != nil {
		return 1, err
	}
	return m.Run(), shared.engine.Stop()
}

// startEngine starts an engine with the test image.
func startEngine(ctx context.Context, name string) (*harness.Engine, error) {
	e, err := harness.StartEngine(ctx, shared.lab, name, harness.EngineOptions{})
	if err != nil {
		return nil, err
	}
	return e, e.LoadImage(ctx, shared.lab.Dir)
}

// bareEngine is an engine for one test, without the plugin.
func bareEngine(ctx context.Context, t *testing.T) *harness.Engine {
	t.Helper()
	e, err := startEngine(ctx, strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// ownEngine is an engine for one test, with the plugin and its settings.
func ownEngine(ctx context.Context, t *testing.T, settings ...string) *harness.Engine {
	t.Helper()
	e := bareEngine(ctx, t)
	if err := e.InstallPlugin(ctx, driver, shared.build, settings...); err != nil {
		t.Fatal(err)
	}
	return e
}

// testContext ends with the test, or before it takes too long.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), testTime, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	return ctx
}

// bench is an engine, a set of collectors and what they received.
type bench struct {
	*testing.T
	ctx    context.Context
	engine *harness.Engine
	check  *collector.Checker
	urls   []string
	names  []string // of containers
}

func newBench(t *testing.T, ctx context.Context, e *harness.Engine) *bench {
	b := &bench{T: t, ctx: ctx, engine: e, check: collector.NewChecker()}
	t.Cleanup(func() {
		// What went wrong on the plugin's side is in the engine's log.
		if t.Failed() {
			t.Logf("the engine's log ends in:\n%s", e.LogTail(25))
		}
		if err := e.Remove(context.WithoutCancel(ctx), b.names...); err != nil {
			t.Error(err)
		}
	})
	return b
}

// collector starts one, on a port that stays its own when it goes away.
func (b *bench) collector(name, proto string) *collector.Server {
	b.Helper()
	s := b.restart(name, proto, testport.Of(b))
	b.urls = append(b.urls, s.URL())
	return s
}

// restart starts one at an address that containers may know already.
func (b *bench) restart(name, proto, addr string) *collector.Server {
	b.Helper()
	s, err := collector.Start(collector.Options{Name: name, Proto: proto, Addr: addr, Each: b.check.Record})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = s.Reset()
		if st := s.Stats(); st.Errors > 0 {
			b.Errorf("collector %s was sent something wrong: %s", name, st.LastError)
		}
	})
	return s
}

// start runs a container that logs to the bench's collectors. args are docker
// run's options; what it runs is tallied.
func (b *bench) start(name string, opts []string, workload ...string) {
	b.Helper()
	args := []string{"--log-driver", driver}
	if len(b.urls) > 0 {
		args = append(args, "--log-opt", "collectors="+strings.Join(b.urls, ","))
	}
	args = append(append(args, opts...), harness.Image, "workload", "tally")
	b.names = append(b.names, name)
	if _, err := b.engine.Docker.Start(b.ctx, name, append(args, workload...)...); err != nil {
		b.Fatal(err)
	}
}

// finish waits for the containers' ends and expects what they wrote.
func (b *bench) finish(names ...string) {
	b.Helper()
	for _, name := range names {
		code, err := b.engine.Wait(b.ctx, name)
		if err != nil || code != "0" {
			b.Fatalf("%s ended with code %s: %v", name, code, err)
		}
		wrote, err := b.engine.Tally(b.ctx, name)
		if err != nil {
			b.Fatal(err)
		}
		b.check.Expect(name, wrote)
	}
}

// endless is how many lines a container writes that goes on until it is stopped.
const endless = "100000000"

// stop ends containers that would go on, each after a whole line.
func (b *bench) stop(names ...string) {
	b.Helper()
	if _, err := b.engine.Run(b.ctx, append([]string{"stop", "-t", "120"}, names...)...); err != nil {
		b.Fatal(err)
	}
}

// until waits for something that records bring about.
func (b *bench) until(what string, done func() bool) {
	b.Helper()
	if err := b.check.Wait(b.ctx, done); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// settle waits until everything expected has come, and fails on any fault.
func (b *bench) settle() collector.Report {
	b.Helper()
	rep := b.settleSomewhere()
	if rep.Reordered > 0 {
		b.Errorf("%d records came after later ones", rep.Reordered)
	}
	return rep
}

// settleSomewhere is settle for records that are spread over collectors which fail:
// what one had not acknowledged comes to others, behind newer ones.
func (b *bench) settleSomewhere() collector.Report {
	b.Helper()
	ctx, cancel := context.WithTimeoutCause(b.ctx, settleTime, errors.New("not everything has come in time"))
	defer cancel()
	if err := b.check.Wait(ctx, b.check.Complete); err != nil {
		b.Error(err)
	}
	rep := b.check.Report()
	for _, p := range rep.Problems {
		if !strings.HasSuffix(p, collector.Late) {
			b.Error(p)
		}
	}
	b.Logf("delivered %d of %d, duplicated %d, reordered %d, latency p50 %v p99 %v, at %v",
		rep.Delivered, rep.Expected, rep.Duplicated, rep.Reordered, rep.P50, rep.P99, rep.Collectors)
	return rep
}
