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
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockline/dockline/test/harness/debian"
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
	suite := flag.String("suite", string(debian.Bookworm), "the Debian release whose engine it is: bookworm, trixie or sid")
	flag.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()), "of everything random")
	flag.Parse()
	c.suite, c.time = debian.Suite(*suite), time.Duration(*seconds)*time.Second
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	limit := 15*time.Minute + time.Duration(c.kills)*20*time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the run takes too long"))
	defer cancel()
	result, err := run(ctx, c)
	if err != nil {
		fmt.Println("crashnet: failed:", err)
	}
	if result != nil {
		fmt.Println(result)
	}
	if err != nil || result == nil || result.bad() {
		os.Exit(1)
	}
}

// result is what the last line says.
type result struct{ kills, starts, leaked, duplicates, broken int }

func (r *result) bad() bool { return r.leaked+r.duplicates+r.broken > 0 }

func (r *result) String() string {
	return fmt.Sprintf("kills=%d starts=%d leaked=%d duplicates=%d broken=%d", r.kills, r.starts, r.leaked, r.duplicates, r.broken)
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (r *result, err error) {
	w, err := newWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		say("taking everything away again")
		err = errors.Join(err, w.close())
	}()
	for _, part := range []func(context.Context) error{w.start, w.violence, w.settle, w.leftovers} {
		if err := part(ctx); err != nil {
			w.keepLog()
			if cause := context.Cause(ctx); cause != nil {
				err = errors.Join(cause, err)
			}
			return nil, fmt.Errorf("%w\nthe engine's log ends in:\n%s", err, w.logTail())
		}
	}
	r = w.result()
	if r.bad() {
		w.keepLog()
	}
	return r, nil
}

var begun = time.Now()

func say(format string, args ...any) {
	fmt.Printf("%6.1f s  "+format+"\n", append([]any{time.Since(begun).Seconds()}, args...)...)
}
