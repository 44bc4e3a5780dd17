package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness"
)

// configFile is the configuration in a directory of the host.
type configFile struct {
	*bench
	dir string
}

func (c configFile) put(text string) {
	c.Helper()
	file := filepath.Join(c.dir, "dockline-log.yaml")
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		c.Fatal(err)
	}
}

// says polls the status until it has something in it: it tells nobody that it changed.
func (c configFile) says(want string) {
	c.Helper()
	said := ""
	for c.ctx.Err() == nil {
		if said = adminGet(c.ctx, c.T, c.engine, "/status"); strings.Contains(said, want) {
			return
		}
		time.Sleep(lookAgain)
	}
	c.Fatalf("the status never says %s:\n%s", want, said)
}

// Pools, routes and defaults from a directory of the host: two pools for a
// container, a version that is refused, one that moves a container which runs,
// and a plugin that begins when the configuration is gone.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	e := bareEngine(ctx, t)
	b, audit := newBench(t, ctx, e), newBench(t, ctx, e) // audit checks what comes to the pool of that name
	file := configFile{b, filepath.Join(shared.lab.Dir, "conf")}
	if err := os.Mkdir(file.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	one, two, second := b.collector("one", "relp"), b.collector("two", "relp"), audit.collector("audit", "relp")
	b.urls = nil // they are the pools'
	version := func(pool string) string {
		return fmt.Sprintf(`pools:
  one: {collectors: '%s'}
  two: {collectors: '%s'}
  audit: {private: true, collectors: '%s', on-full: throttle}
routes:
- match: {label: {keep: "tw*"}}
  pools: [%[4]s, audit]
- match: {image: "nothing*"}
  pools: []
- match: {image: "%[5]s*", name: "by-*"}
  pools: [two]
defaults: {pools: [%[4]s]}
`, one.URL(), two.URL(), second.URL(), pool, harness.Image[:len(harness.Image)-1])
	}
	file.put(version("one"))
	address := testport.Of(t)
	if err := e.InstallPlugin(ctx, driver, shared.build, "config.source="+file.dir, "METRICS="+address, "METRICS_PER_CONTAINER=on", "PPROF=on"); err != nil {
		t.Fatal(err)
	}
	file.says(`"version"`)
	for pool, want := range map[string]string{"audit": "containers may not choose", "nowhere": "those that they may are one, two"} {
		_, err := e.Docker.Start(ctx, "wants-"+pool, "--log-driver", driver, "--log-opt", "pool="+pool, harness.Image, "true")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pool %s: %v", pool, err)
		}
		b.names = append(b.names, "wants-"+pool)
	}
	slow := []string{"workload", "seq", "-n", endless, "-rate", "600"}
	b.start("kept-twice", []string{"--label", "keep=twice"}, slow...)
	b.start("by-image", nil, "workload", "seq", "-n", "500")
	b.start("by-choice", []string{"--log-opt", "pool=one"}, slow...)
	come := func(container, at string) {
		t.Helper()
		before := b.check.Where(container)[at]
		if err := b.check.Wait(ctx, func() bool { return b.check.Where(container)[at] >= before+50 }); err != nil {
			t.Fatalf("%s does not come to %s: %v", container, at, err)
		}
	}
	come("kept-twice", "one")
	b.serves(address)
	file.put(strings.Replace(version("two"), "relp://", "rlep://", 1))
	file.says(`dockline-log.yaml:2: pools.one.collectors: collector`)
	awaitMetric(b, "config_refusals_total 1")
	come("kept-twice", "one")
	file.put(version("two"))
	come("kept-twice", "two")
	come("by-choice", "one")
	if rep := b.check.Report(); rep.Duplicated > 0 {
		t.Errorf("%d records came twice, and nothing has been killed yet", rep.Duplicated)
	}

	if err := os.Remove(filepath.Join(file.dir, "dockline-log.yaml")); err != nil {
		t.Fatal(err)
	}
	killed, err := e.KillPlugin(ctx, driver)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.AwaitPlugin(ctx, driver, killed); err != nil {
		t.Fatal(err)
	}
	file.says("no such file")
	b.start("by-default", nil, "workload", "seq", "-n", "500")
	b.stop("kept-twice", "by-choice")
	b.finish("kept-twice", "by-image", "by-choice", "by-default")
	wrote, err := e.Tally(ctx, "kept-twice")
	if err != nil {
		t.Fatal(err)
	}
	audit.check.Expect("kept-twice", wrote)
	b.settle()
	audit.settle()
	if got := b.check.Where("by-image"); got["two"] != 500 || got["one"] > 0 {
		t.Errorf("by-image went to %v", got)
	}
	if said, err := e.Run(ctx, "inspect", "by-choice", "kept-twice"); err != nil || strings.Contains(said, "relp://") {
		t.Errorf("docker inspect tells where collectors are, or nothing: %v", err)
	}
}
