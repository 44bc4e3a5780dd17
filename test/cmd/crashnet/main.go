// Command crashnet kills the network plugin at every step of every call while
// containers start and stop, on a host of its own with a real engine, and looks
// at what becomes of links, addresses and connections.
//
// The plugin is the build that ships, with one variable more in its config.json:
// with that, it dies where it is told to (see internal/failpoint), which is at
// every step that the run has seen it pass, in random order. Some of the kills
// come while the plugin starts, some from outside at a random moment.
//
// The last line says how it went; the exit code is 1 if anything was leaked, an
// address given twice, or a running container cut off.
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
	kills      int
	time       time.Duration // bounds the violence; 0: as long as it takes
	containers int
	workers    int
	suite      debian.Suite
	seed       uint64
}

func main() {
	c := config{}
	flag.IntVar(&c.kills, "n", 300, "how often to kill the plugin")
	seconds := flag.Int("seconds", 0, "how long to go on killing at most; 0: as long as it takes")
	flag.IntVar(&c.containers, "containers", 20, "how many containers start and stop")
	flag.IntVar(&c.workers, "workers", 5, "how many of them at once")
	flag.StringVar((*string)(&c.suite), "suite", string(debian.Bookworm), "the Debian release whose engine it is: bookworm, trixie or sid")
	program.Seed(&c.seed)
	flag.Parse()
	c.time = time.Duration(*seconds) * time.Second
	limit := 15*time.Minute + time.Duration(c.kills)*20*time.Second
	program.Main("crashnet", limit, func(ctx context.Context) (program.Result, error) { return run(ctx, c) })
}

// result is what the last line says.
type result struct{ kills, starts, leaked, duplicates, broken int }

// Bad implements program.Result.
func (r *result) Bad() bool { return r.leaked+r.duplicates+r.broken > 0 }

func (r *result) String() string {
	return fmt.Sprintf("kills=%d starts=%d leaked=%d duplicates=%d broken=%d", r.kills, r.starts, r.leaked, r.duplicates, r.broken)
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r program.Result, err error) {
	w, err := newWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		program.Say("taking everything away again")
		err = errors.Join(err, w.close())
	}()
	if err := program.Parts(ctx, w.start, w.violence, w.settle, w.leftovers); err != nil {
		w.keepLog()
		return nil, fmt.Errorf("%w\nthe engine's log ends in:\n%s", err, w.logTail())
	}
	r = w.result()
	if r.Bad() {
		w.keepLog()
	}
	return r, nil
}
