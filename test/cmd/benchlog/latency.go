package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/program"
)

const (
	latencyRate  = 1000 // lines a second
	latencyLines = 8 * latencyRate
)

// latency is from the writing of a line to its receiving, in milliseconds.
type latency struct{ p50, p99 float64 }

// measureLatency lets a container write at a moderate rate, one protocol after
// the other, to collectors that read the time that each line carries.
func (b *bench) measureLatency(ctx context.Context) error {
	for _, proto := range []string{"json+tcp", "syslog+tcp", "relp"} {
		l, err := b.latencyOf(ctx, proto)
		if err != nil {
			return fmt.Errorf("latency of %s: %w", proto, err)
		}
		b.latency[proto] = l
		program.Print("%d lines/s, %-10s from writing to receiving: p50 %.1f ms, p99 %.1f ms", latencyRate, proto, l.p50, l.p99)
	}
	return nil
}

func (b *bench) latencyOf(ctx context.Context, proto string) (l latency, err error) {
	unix.Sync() // what was written before is none of this one's business
	check := collector.NewChecker()
	s, err := collector.Start(collector.Options{Name: "c1", Proto: proto, Each: check.Record})
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, b.engine.Remove(context.WithoutCancel(ctx), "bench"), s.Reset()) }()
	_, err = b.engine.Docker.Start(ctx, "bench", "--log-driver", ours, "--log-opt", "collectors="+s.URL(),
		harness.Image, "workload", "tally", "workload", "seq", "-n", fmt.Sprint(latencyLines), "-rate", fmt.Sprint(latencyRate))
	if err != nil {
		return l, err
	}
	late, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not everything has come in time"))
	defer cancel()
	if err := check.Wait(late, func() bool { return check.Count("bench") >= latencyLines }); err != nil {
		return l, err
	}
	if _, err := b.engine.Wait(ctx, "bench"); err != nil {
		return l, err
	}
	wrote, err := b.engine.Tally(ctx, "bench")
	if err != nil {
		return l, err
	}
	check.Expect("bench", wrote)
	rep := check.Report()
	return latency{ms(rep.P50), ms(rep.P99)}, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
