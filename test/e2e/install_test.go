package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
)

func TestBadOptionsAreRefused(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	for name, c := range map[string]struct{ opt, says string }{
		"unknown key":     {"colectors=relp://127.0.0.1:1", `unknown log-opt "colectors": did you mean "collectors"?`},
		"unknown scheme":  {"collectors=gopher://127.0.0.1:1", "gopher"},
		"no address":      {"collectors=127.0.0.1:1", "127.0.0.1:1"},
		"bad hash":        {"hash=colour", `hash="colour"`},
		"bad size":        {"max-size=big", `max-size="big"`},
		"bad weight":      {"collectors=relp://127.0.0.1:1?weight=x", `weight="x"`},
		"the same twice":  {"collectors=relp://127.0.0.1:1?name=a,relp://127.0.0.1:2?name=a", `"a" is listed twice`},
		"unknown setting": {"collectors=relp://127.0.0.1:1?colour=red", "colour"},
	} {
		t.Run(name, func(t *testing.T) {
			said := b.wantRefused("--log-opt", c.opt)
			if !strings.Contains(said, "failed to initialize logging driver") || !strings.Contains(said, c.says) {
				t.Errorf("%s was refused with %q, without %q", c.opt, said, c.says)
			}
		})
	}
}

// The plugin goes to a registry and comes back from it under an alias.
func TestInstallFromRegistry(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	// Engines refuse to create a plugin of the same content as one they have.
	e := bareEngine(ctx, t)
	r, err := harness.StartRegistry(ctx, shared.lab, "registry")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	remote, err := r.Push(ctx, e.Docker, "dockline/dockline-log:1", shared.build)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(ctx, "plugin", "install", "--grant-all-permissions", "--alias", "lines", remote); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.RemovePlugin(context.WithoutCancel(ctx), "lines"); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t, ctx, e)
	b.collector("c1", "json+tcp")
	b.start("aliased", []string{"--log-driver", "lines"}, "echo", "hello")
	b.finish("aliased")
	b.settle()
	// The plugin cannot be removed while a container uses it.
	if err := e.Remove(ctx, b.names...); err != nil {
		t.Fatal(err)
	}
}

// asOperator runs commands in the source tree, for an engine; home is the docker
// command's, with its plugins.
func asOperator(ctx context.Context, t *testing.T, e *harness.Engine, home string) func(...string) (string, error) {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = top
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Addr, "MAKEFLAGS=", "DOCKER_CONFIG="+home, "CLI_DIR="+filepath.Join(home, "cli-plugins"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// make install and make uninstall can be repeated, upgrade what is there, and
// leave nothing.
func TestMakeInstall(t *testing.T) {
	ctx := testContext(t)
	e := bareEngine(ctx, t)
	home := t.TempDir()
	run := asOperator(ctx, t, e, home)
	want := func(says string, args ...string) {
		t.Helper()
		out, err := run(append([]string{"make", "-s"}, args...)...)
		if err != nil {
			t.Fatalf("make %v: %v\n%s", args, err, out)
		}
		if !strings.Contains(out, says) {
			t.Errorf("make %v says %q, without %q", args, out, says)
		}
	}
	want("is not installed", "uninstall")
	want("creating dockline-log", "install")
	want("creating dockline-net", "uninstall", "install") // in this order, once more from nothing
	want("this very build", "install", "SETTINGS=LOG_LEVEL=debug HOST_NAME=here")
	for name, has := range map[string][]string{"dockline-log": {"LOG_LEVEL=debug", "HOST_NAME=here"}, "dockline-net": {"LOG_LEVEL=debug"}} {
		settings, err := e.Run(ctx, "plugin", "inspect", "--format", "{{.Settings.Env}}", name)
		for _, s := range has {
			if err != nil || !strings.Contains(settings, s) {
				t.Errorf("%s is set to %s, without %s (%v)", name, settings, s, err)
			}
		}
	}
	upgradeUnderLoad(newBench(t, ctx, e), func() { want("upgrading dockline-log", "install", "VERSION=next") })
	drainBeforeRemoval(newBench(t, ctx, e), func(args ...string) (string, error) {
		return run(append([]string{"scripts/plugin.sh"}, args...)...)
	})
	want("docker dockline stays", "uninstall", "PLUGINS=dockline-net")
	want("docker dockline is removed", "uninstall")
	if left, err := os.ReadDir(filepath.Join(home, "cli-plugins")); err != nil || len(left) > 0 {
		t.Errorf("of docker dockline is left: %v %v", left, err)
	}
	out, err := e.Run(ctx, "plugin", "ls", "-q")
	if err != nil || out != "" {
		t.Errorf("plugins are left: %q %v", out, err)
	}
}

// drainBeforeRemoval tries to remove the plugin while its records cannot be
// delivered, and drains it when they can.
func drainBeforeRemoval(b *bench, script func(...string) (string, error)) {
	b.Helper()
	s := b.collector("c1", "relp")
	if err := s.Reset(); err != nil {
		b.Fatal(err)
	}
	b.start("late", nil, "workload", "seq", "-n", "300")
	b.finish("late")
	for _, args := range [][]string{{"drain", driver, "TIMEOUT=1500ms"}, {"uninstall", driver, "TIMEOUT=1500ms"}} {
		out, err := script(args...)
		if err == nil || !strings.Contains(out, "of 1 containers are not delivered yet; collectors that cannot be reached: c1") {
			b.Errorf("plugin.sh %v with its collector down: %v\n%s", args, err, out)
		}
	}
	b.restart("c1", "relp", s.Addr())
	if out, err := script("drain", driver); err != nil || !strings.Contains(out, "everything is delivered") {
		b.Errorf("plugin.sh drain: %v\n%s", err, out)
	}
	b.settle()
	if err := b.engine.Remove(b.ctx, b.names...); err != nil {
		b.Error(err)
	}
}

// upgradeUnderLoad replaces the plugin while a container writes: nothing is
// lost, and what was set stays.
func upgradeUnderLoad(b *bench, upgrade func()) {
	b.Helper()
	disk := b.TempDir()
	for _, args := range [][]string{
		{"plugin", "disable", driver}, {"plugin", "set", driver, "HOST_NAME=somewhere", "spool.source=" + disk}, {"plugin", "enable", driver},
	} {
		if _, err := b.engine.Run(b.ctx, args...); err != nil {
			b.Fatal(err)
		}
	}
	b.collector("c1", "relp")
	b.start("upgraded", nil, "workload", "seq", "-n", "30000", "-rate", "5000")
	b.await("upgraded", 5000)
	upgrade()
	b.finish("upgraded")
	b.settle()
	settings, err := b.engine.Run(b.ctx, "plugin", "inspect", "--format", "{{.Settings.Env}} {{json .Settings.Mounts}}", driver)
	if err != nil || !strings.Contains(settings, "HOST_NAME=somewhere") || !strings.Contains(settings, disk) || !holdsSegments(disk) {
		b.Errorf("the settings after the upgrade are %s, %v", settings, err)
	}
	if err := b.engine.Remove(b.ctx, b.names...); err != nil {
		b.Error(err)
	}
}
