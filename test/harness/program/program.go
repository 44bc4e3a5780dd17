// Package program is the frame of the programs below test/cmd that run for
// minutes and then judge, or measure: signals and a limit of time end them early,
// what they do is said with the time since their start, and the last line and the
// exit code say how it went.
package program

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

// Result is what the last line says. A bad one ends the program with exit code 1.
type Result interface {
	fmt.Stringer
	Bad() bool
}

// Figures are the result of who measures, which none is bad for.
type Figures string

// Bad implements Result.
func (Figures) Bad() bool { return false }

func (f Figures) String() string { return string(f) }

// Seed defines the flag of what everything random comes from.
func Seed(seed *uint64) {
	flag.Uint64Var(seed, "seed", uint64(time.Now().UnixNano()), "of everything random")
}

// Main runs a program until it returns, which takes it at most the limit: then,
// and when a signal comes, the context ends. It does not return.
func Main(name string, limit time.Duration, run func(context.Context) (Result, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the run takes too long"))
	result, err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Printf("%s: failed: %v\n", name, err)
	}
	if result != nil {
		fmt.Println(result)
	}
	if err != nil || result == nil || result.Bad() {
		os.Exit(1)
	}
	os.Exit(0)
}

// Parts runs the parts of a program in turn, and says why ctx ended where it did.
func Parts(ctx context.Context, parts ...func(context.Context) error) error {
	for _, part := range parts {
		if err := part(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
				err = errors.Join(cause, err)
			}
			return err
		}
	}
	return nil
}

// Stay waits until ctx ends, with everything as it is, for whoever looks for the
// cause of err.
func Stay(ctx context.Context, err error, folder string) {
	Say("something is wrong (%v); everything stays in %s until ^C", err, folder)
	<-ctx.Done()
}

var begun = time.Now()

// Say prints a line of progress.
func Say(format string, args ...any) {
	fmt.Printf("%6.1f s  "+format+"\n", append([]any{time.Since(begun).Seconds()}, args...)...)
}

// Print prints a line of what was measured.
func Print(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// Pause waits, and reports whether ctx goes on.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
