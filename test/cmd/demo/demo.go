package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
)

const (
	plugin = "dockline-log"
	label  = "io.dockline.demo=yes" // on every container
)

// demo holds what has been begun and has to be taken away.
type demo struct {
	docker     harness.Docker
	lab        *lab.Lab
	site       *site // nil until showNetworks
	begun      time.Time
	check      *collector.Checker
	collectors []*process
	image      bool // loaded by us
	installed  bool // the plugin, by us
	stopShow   context.CancelFunc
	wg         sync.WaitGroup // waits for containers, the display

	mu      sync.Mutex // guards the rest
	running int        // containers
	failed  []error    // of goroutines
}

func newDemo() (*demo, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	return &demo{lab: l, begun: time.Now(), check: collector.NewChecker(), stopShow: func() {}}, nil
}

// prepare removes what a demo that was killed left, and makes sure of image and plugin.
func (d *demo) prepare(ctx context.Context) error {
	version, err := d.docker.Run(ctx, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return err
	}
	step("engine %s", version)
	if err := d.removeContainers(ctx); err != nil {
		return err
	}
	note("making the image %s from busybox and the workload program", harness.Image)
	d.image = true
	if err := d.docker.LoadImage(ctx, d.lab.Dir); err != nil {
		return err
	}
	return d.install(ctx)
}

// ours is where the demo writes down the id of the plugin that it installs, so
// that the next one can tell it from a user's if this one is killed.
func ours() string { return filepath.Join(lab.Base(), "demo-plugin") }

// install uses a plugin that is there already, and leaves it there.
func (d *demo) install(ctx context.Context) error {
	if err := d.removeOurs(ctx); err != nil {
		return err
	}
	enabled, err := d.docker.Run(ctx, "plugin", "inspect", "--format", "{{.Enabled}}", plugin)
	switch {
	case err == nil && enabled == "true":
		note("%s is installed already and stays", plugin)
		return nil
	case err == nil:
		return fmt.Errorf("%s is installed but disabled: enable it or run make uninstall", plugin)
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	note("installing %s", plugin)
	d.installed = true
	if err := d.docker.InstallPlugin(ctx, plugin, filepath.Join(top, "build/plugins", plugin)); err != nil {
		return err
	}
	id, err := d.docker.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	if err != nil {
		return err
	}
	if err := os.WriteFile(ours(), []byte(id), 0o644); err != nil {
		return fmt.Errorf("write down which plugin is the demo's: %w", err)
	}
	return nil
}

// removeOurs removes the plugin of a demo that was killed.
func (d *demo) removeOurs(ctx context.Context) error {
	id, err := os.ReadFile(ours())
	if err != nil {
		return nil //nolint:nilerr // no demo was killed
	}
	now, err := d.docker.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	if err == nil && now == string(id) {
		err = d.docker.RemovePlugin(ctx, plugin)
	} else {
		err = nil
	}
	return errors.Join(err, os.Remove(ours()))
}

// disturb kills the plugin once, and lets a collector crash and come back.
func (d *demo) disturb(ctx context.Context) error {
	marker := containers[0].name
	if err := d.check.Wait(ctx, func() bool { return d.check.Count(marker) >= containers[0].lines/4 }); err != nil {
		return err
	}
	step("killing the plugin (SIGKILL) while records pour in")
	killed, err := d.docker.KillPlugin(ctx, plugin)
	if err != nil {
		return err
	}
	now, err := d.docker.AwaitPlugin(ctx, plugin, killed)
	if err != nil {
		return err
	}
	note("process %d is gone, the engine has started %d", killed.PID, now.PID)
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	c := d.collectors[len(d.collectors)-1]
	step("collector %s crashes (SIGKILL)", c.name)
	if err := c.kill(); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	step("collector %s comes back", c.name)
	return c.start(ctx)
}

// pause lets people watch.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// finish waits until all containers have ended and all that they wrote has come.
func (d *demo) finish(ctx context.Context) error {
	all := func() bool {
		running, failed := d.state()
		return running == 0 || len(failed) > 0
	}
	if err := d.check.Wait(ctx, all); err != nil {
		return err
	}
	if _, failed := d.state(); len(failed) > 0 {
		return errors.Join(failed...)
	}
	step("all containers have ended; waiting for the last records")
	late, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not everything has come within a minute"))
	defer cancel()
	_ = d.check.Wait(late, d.check.Complete) // what is missing is in the report
	d.stopShow()
	d.wg.Wait()
	step("who received what")
	d.table()
	return ctx.Err()
}

func (d *demo) state() (running int, failed []error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running, d.failed
}

func (d *demo) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = append(d.failed, err)
}

// result says how it went, or what is wrong.
func (d *demo) result() (string, error) {
	rep := d.check.Report()
	if _, failed := d.state(); len(failed) > 0 {
		return "", errors.Join(failed...)
	}
	if len(rep.Problems) > 0 {
		return "", errors.New(strings.Join(rep.Problems, "; "))
	}
	return fmt.Sprintf("records=%d delivered=%d lost=%d duplicated=%d reordered=%d collectors=%d containers=%d plugin_killed=1 collector_crashed=1 p50=%v seconds=%.0f endpoints=%d hosts=%d",
		rep.Expected, rep.Delivered, rep.Lost, rep.Duplicated, rep.Reordered, len(d.collectors)+len(d.site.collectors), len(containers)+d.site.endpoints,
		rep.P50.Round(time.Millisecond), time.Since(d.begun).Seconds(), d.site.endpoints, len(d.site.hosts)), nil
}

// close takes everything away, whatever there is.
func (d *demo) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the clean-up takes too long"))
	defer cancel()
	errs := []error{d.removeContainers(ctx)} // which ends the goroutines that wait for them
	d.stopShow()
	d.wg.Wait()
	if d.site != nil {
		errs = append(errs, d.site.close())
	}
	if d.installed {
		errs = append(errs, d.docker.RemovePlugin(ctx, plugin))
		_ = os.Remove(ours())
	}
	if d.image {
		if _, err := d.docker.Run(ctx, "image", "rm", "-f", harness.Image); err != nil && !strings.Contains(err.Error(), "No such image") {
			errs = append(errs, err)
		}
	}
	for _, c := range d.collectors {
		errs = append(errs, c.kill())
	}
	return errors.Join(append(errs, d.lab.Close())...)
}
