// Command chaos does to the log plugin in minutes what operators and networks do
// to it in a month, on a real engine on a host of its own, and counts what
// becomes of every record: containers write numbered records at a bounded rate
// to five collectors that acknowledge, which six pools know from six kinds of
// places (the configuration, a file, the DNS, SRV records, Consul and etcd).
// Meanwhile collectors join, leave, change their weights, are drained, crash,
// hang, are slow, and are cut off by a network that drops packets; sources of
// collectors fail and go empty; the configuration changes for good and for bad;
// pools take each other's place, routes change; and the plugin is killed.
//
// A container's records have numbers. None may be lost, whatever has become of
// the collectors that hold them, and each container's have to come in order
// across all collectors, except where hash=record spreads them. The placement
// history has to name every collector that alone holds a record. The last line
// says how it went; the exit code is 1 if anything is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

type config struct {
	events     int
	records    uint64
	containers int
	rate       int           // records a second of each
	pause      time.Duration // from one event to the next
	seed       uint64
	keep       bool
}

func main() {
	c := config{}
	flag.IntVar(&c.events, "events", 40, "how many events at least")
	flag.Uint64Var(&c.records, "records", 1_000_000, "how many records at least")
	flag.IntVar(&c.containers, "containers", 30, "how many containers write")
	flag.IntVar(&c.rate, "rate", 150, "records a second of each container")
	flag.DurationVar(&c.pause, "pause", 4*time.Second, "from one event to the next")
	program.Seed(&c.seed)
	flag.BoolVar(&c.keep, "keep", false, "wait before taking everything away if something is wrong")
	flag.Parse()
	program.Main("chaos", 30*time.Minute, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r program.Result, err error) {
	w, err := newWorld(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && c.keep {
			program.Stay(ctx, err, w.lab.Dir)
		}
		program.Say("taking everything away again")
		err = errors.Join(err, w.close())
	}()
	if err := program.Parts(ctx, w.startAll, w.chaos, w.finish); err != nil {
		if w.host != nil && w.host.Engine != nil {
			program.Say("the engine's log ends in:\n%s", w.host.Engine.LogTail(15))
		}
		return nil, err
	}
	return w.judge(ctx)
}
