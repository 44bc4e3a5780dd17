// Command benchnet measures the network plugin against the host's own network
// and the engine's own drivers, in one run on one wire: throughput, latency, how
// long it takes to start a container, and, through the plugin's protocol, how
// long an endpoint takes when there are many, and a reconcile of all of them.
//
// Rounds of all variants follow each other, so that what else the machine does
// hits them alike, and a ratio is made of figures of one round. The last line is
// of medians.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/program"
)

type config struct {
	rounds, seconds int
	runs, trips     int
	endpoints       int
	suite           debian.Suite
	only            string
}

func main() {
	c := config{}
	flag.IntVar(&c.rounds, "rounds", 5, "rounds of throughput and latency")
	flag.IntVar(&c.seconds, "seconds", 3, "how long each measurement of throughput takes")
	flag.IntVar(&c.trips, "trips", 5000, "round trips per measurement of latency")
	flag.IntVar(&c.runs, "runs", 12, "containers run with each driver")
	flag.IntVar(&c.endpoints, "endpoints", 500, "endpoints in the end")
	flag.StringVar(&c.only, "only", "", "wire, run or protocol: that part alone")
	flag.StringVar((*string)(&c.suite), "suite", string(debian.Bookworm), "the Debian release whose engine it is: bookworm, trixie or sid")
	flag.Parse()
	program.Main("benchnet", 30*time.Minute, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r program.Result, err error) {
	b, err := newBench(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := program.Parts(ctx, b.prepare, b.part("wire", b.wire), b.part("run", b.containers), b.part("protocol", b.protocol)); err != nil {
		return nil, err
	}
	return b.report(), nil
}

// part is one that -only may leave out.
func (b *bench) part(name string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if b.only != "" && b.only != name {
			return nil
		}
		if err := run(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
}
