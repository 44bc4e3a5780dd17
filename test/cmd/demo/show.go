package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/tally"
)

const (
	collectEvery = 200 * time.Millisecond
	lineEvery    = time.Second
)

// show reads the journals of the collectors and prints a line every second
// until ctx ends; then it reads what is left.
func (d *demo) show(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	last := make([]uint64, len(d.collectors))
	for printed := time.Now(); ; {
		done := ctx.Err() != nil
		for _, c := range d.collectors {
			if err := c.collect(d.check); err != nil {
				d.fail(err)
				return
			}
		}
		if time.Since(printed) >= lineEvery || done {
			d.line(last, time.Since(printed))
			printed = time.Now()
		}
		if done {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (d *demo) line(last []uint64, since time.Duration) {
	var b strings.Builder
	for i, c := range d.collectors {
		n := c.records.Load()
		state := fmt.Sprintf("%+6.0f/s", float64(n-last[i])/since.Seconds())
		if !c.up.Load() {
			state = "    down"
		}
		fmt.Fprintf(&b, "  %s %-10s %7d %s", c.name, c.proto, n, state)
		last[i] = n
	}
	running, _ := d.state()
	note("%3.0f s%s  containers running: %d", time.Since(d.begun).Seconds(), b.String(), running)
}

// table says which container went where.
func (d *demo) table() {
	for _, c := range containers {
		where := d.check.Where(c.name)
		var to []string
		for _, name := range slices.Sorted(maps.Keys(where)) {
			to = append(to, fmt.Sprintf("%s: %d", name, where[name]))
		}
		note("%-14s %-40s %s", c.name, c.what, strings.Join(to, ", "))
	}
	rep := d.check.Report()
	note("written %d, delivered %d, lost %d, duplicated %d (sent again after a failure, same record id), out of order %d",
		rep.Expected, rep.Delivered, rep.Lost, rep.Duplicated, rep.Reordered)
	note("from writing to receiving: half within %v, 99%% within %v (failures included)",
		rep.P50.Round(time.Millisecond), rep.P99.Round(time.Millisecond))
}

// showLogs shows that docker logs gives the same bytes back.
func (d *demo) showLogs(ctx context.Context) error {
	const name = "demo-traces"
	step("docker logs --tail 12 %s", name)
	wrote, err := d.docker.Tally(ctx, name)
	if err != nil {
		return err
	}
	out, errs, err := d.docker.Output(ctx, nil, "logs", name)
	if err != nil {
		return fmt.Errorf("docker logs %s: %w: %s", name, err, errs)
	}
	for source, got := range map[string][]byte{"stdout": out, "stderr": errs} {
		var w tally.Writer
		_, _ = w.Write(got)
		_ = w.Close()
		if want := *wrote.Of(source); w.Lines != want {
			return fmt.Errorf("docker logs %s gives %d lines of %s, not the %d that were written, or others", name, w.Count, source, want.Count)
		}
	}
	tail, terr, err := d.docker.Output(ctx, nil, "logs", "--tail", "12", name)
	if err != nil {
		return fmt.Errorf("docker logs --tail: %w: %s", err, terr)
	}
	for line := range bytes.Lines(append(terr, tail...)) {
		note("%s", bytes.TrimRight(line, "\n"))
	}
	return nil
}
