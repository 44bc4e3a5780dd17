// Command crash does violence to the log plugin on a private engine, and counts
// what becomes of every record: containers write numbered lines while the
// plugin is killed at random moments, upgraded in the middle, the engine killed
// and started again under living containers, containers stopped and started,
// and collectors crash, hang, are cut off and come back.
//
// Half of the containers log to collectors that acknowledge (RELP, to our own
// strict server and to rsyslog), half by plain TCP. The first may lose nothing.
// The last line says how it went; the exit code is 1 if anything was lost.
//
// What the engine had read from a container and not yet written to the FIFO
// dies with it; package witness tells such records from lost ones.
package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

type config struct {
	kills      int
	time       time.Duration // bounds the violence
	containers int
	seed       uint64
	keep       bool
}

func main() {
	c := config{}
	seconds := flag.Int("seconds", 600, "how long to go on at most")
	flag.IntVar(&c.kills, "kills", 200, "how often to kill the plugin")
	flag.IntVar(&c.containers, "containers", 8, "how many containers write")
	program.Seed(&c.seed)
	flag.BoolVar(&c.keep, "keep", false, "wait before taking everything away if something is wrong")
	flag.Parse()
	c.time = time.Duration(*seconds) * time.Second
	program.Main("crash", c.time+5*time.Minute, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
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
	if err := program.Parts(ctx, w.startAll, w.violence, w.finish); err != nil {
		return nil, err
	}
	return w.judge()
}
