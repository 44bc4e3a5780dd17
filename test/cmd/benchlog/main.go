// Command benchlog measures the log plugin on a private engine, against what
// else there is, in one run: a container that writes as fast as it can, to a
// plugin that discards (the floor), to the engine's own drivers, and to
// dockline-log with each of its protocols; then memory and throughput with many
// streams, and the time from writing to receiving at a moderate rate.
//
// All of it shares one machine with the collectors, so figures are to be
// compared within a run. The last line holds the ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

type config struct {
	lines, rounds int
	streams       bool // measure many streams
	only          string
}

func main() {
	var c config
	flag.IntVar(&c.lines, "lines", 2_000_000, "lines of 120 bytes from one container")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each variant is measured; medians count")
	flag.BoolVar(&c.streams, "streams", true, "also measure 100 and 1,000 streams")
	flag.StringVar(&c.only, "only", "", "variants to measure, parted by commas; all without it")
	flag.Parse()
	program.Main("benchlog", 30*time.Minute, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r program.Result, err error) {
	b, err := newBench(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	parts := []func(context.Context) error{b.prepare, b.measureVariants, b.measureLatency}
	if c.streams {
		parts = append(parts, b.measureStreams)
	}
	if err := program.Parts(ctx, parts...); err != nil {
		return nil, err
	}
	return b.report(), nil
}
