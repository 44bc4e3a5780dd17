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
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
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
	flag.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()), "of everything random")
	flag.BoolVar(&c.keep, "keep", false, "wait before taking everything away if something is wrong")
	flag.Parse()
	c.time = time.Duration(*seconds) * time.Second
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, c.time+5*time.Minute, errors.New("the run takes too long"))
	defer cancel()
	result, err := run(ctx, c)
	if err != nil {
		fmt.Println("crash: failed:", err)
	}
	if result != nil {
		fmt.Println(result)
	}
	if err != nil || result == nil || result.lost > 0 {
		os.Exit(1)
	}
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (result *result, err error) {
	w, err := newWorld(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && c.keep {
			say("something is wrong (%v); everything stays in %s until ^C", err, w.lab.Dir)
			<-ctx.Done()
		}
		say("taking everything away again")
		err = errors.Join(err, w.close())
	}()
	for _, part := range []func(context.Context) error{w.startAll, w.violence, w.finish} {
		if err := part(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = errors.Join(cause, err)
			}
			return nil, err
		}
	}
	return w.judge()
}

var begun = time.Now()

func say(format string, args ...any) {
	fmt.Printf("%6.1f s  "+format+"\n", append([]any{time.Since(begun).Seconds()}, args...)...)
}
