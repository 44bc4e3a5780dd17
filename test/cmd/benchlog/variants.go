package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/program"
)

// variant is one way for a container's lines.
type variant struct {
	name   string
	plugin string // "" where the engine does it itself
	sinks  []*counter
	opts   []string
}

// sample is what one run of a variant took: seconds, and MiB.
type sample struct {
	container, done      float64
	pluginCPU, engineCPU float64
	rss                  float64
	lost                 int64
}

// jsonLines is the variant that the ratios are of.
const jsonLines = "dockline-log json+tcp"

const doneTime = 2 * time.Minute // for one run

func (b *bench) allVariants() []variant {
	all := []variant{
		{null, null, nil, nil},
		{jsonLines, ours, b.sinks["json+tcp"], []string{"collectors=" + b.urls("json+tcp")}},
		{"dockline-log syslog+tcp", ours, b.sinks["syslog+tcp"], []string{"collectors=" + b.urls("syslog+tcp")}},
		{"dockline-log relp", ours, b.sinks["relp"], []string{"collectors=" + b.urls("relp")}},
		{"none", "", nil, nil},
		{"local", "", nil, nil},
		{"json-file", "", nil, nil},
		{"syslog", "", b.sinks["tcp"], []string{"syslog-address=tcp://" + b.sinks["tcp"][0].addr()}},
		{"fluentd", "", b.sinks["tcp"], []string{"fluentd-address=" + b.sinks["tcp"][0].addr()}},
	}
	if b.only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(v variant) bool { return !slices.Contains(strings.Split(b.only, ","), v.name) })
}

// driver is what docker run calls it.
func (v variant) driver() string {
	if v.plugin != "" {
		return v.plugin
	}
	return v.name
}

// measureVariants runs each in turn, round after round, so that what changes
// on the machine meanwhile meets them all.
func (b *bench) measureVariants(ctx context.Context) error {
	for round := range b.rounds {
		for _, v := range b.variants {
			s, err := b.measure(ctx, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			b.results[v.name] = append(b.results[v.name], s)
			program.Print("round %d  %-30s container %6.2f s, delivered %6.2f s, CPU of plugin %5.2f s, of engine %5.2f s, plugin's memory %4.0f MiB, lost %d",
				round+1, v.name, s.container, s.done, s.pluginCPU, s.engineCPU, s.rss, s.lost)
		}
	}
	return nil
}

// measure runs one container.
func (b *bench) measure(ctx context.Context, v variant) (s sample, err error) {
	unix.Sync() // what others wrote is none of this one's business
	pid := 0
	if v.plugin != "" {
		p, err := b.engine.Plugin(ctx, v.plugin)
		if err != nil {
			return s, err
		}
		pid = p.PID
	}
	got := newTally(int64(b.lines), v.sinks)
	u := watch(ctx, pid, b.engine.PID())
	defer func() { err = errors.Join(err, b.engine.Remove(context.WithoutCancel(ctx), "bench")) }()
	args := []string{"--log-driver", v.driver()}
	for _, o := range v.opts {
		args = append(args, "--log-opt", o)
	}
	args = append(args, harness.Image, "workload", "blast", "-n", fmt.Sprint(b.lines), "-size", "120")
	if _, err = b.engine.Docker.Start(ctx, "bench", args...); err == nil {
		_, err = b.engine.Wait(ctx, "bench")
	}
	if err != nil {
		return s, errors.Join(err, u.discard())
	}
	ended := got.wait(ctx, v.sinks)
	s.pluginCPU, s.engineCPU, s.rss = u.end()
	began, finished, err := b.times(ctx)
	s.container = finished.Sub(began).Seconds()
	s.done = s.container
	if len(v.sinks) > 0 {
		s.done, s.lost = ended.Sub(began).Seconds(), got.missing()
	}
	return s, err
}

// times are when the container began and ended.
func (b *bench) times(ctx context.Context) (began, ended time.Time, err error) {
	out, err := b.engine.Run(ctx, "inspect", "--format", "{{.State.StartedAt}} {{.State.FinishedAt}}", "bench")
	if err != nil {
		return began, ended, err
	}
	first, second, _ := strings.Cut(out, " ")
	began, err1 := time.Parse(time.RFC3339Nano, first)
	ended, err2 := time.Parse(time.RFC3339Nano, second)
	return began, ended, errors.Join(err1, err2)
}
