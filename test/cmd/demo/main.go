// Command demo shows both plugins at work.
//
// The log plugin, on the engine that the docker command talks to: a dozen
// containers with the output of real programs, three collectors as processes of
// their own, a plugin that is killed and a collector that crashes in the middle.
//
// The network plugin, and the log plugin beside it, on two hosts that the demo
// makes of namespaces, with an engine each and a wire between them: containers
// reach each other from host to host, and log to collectors on the wire. The
// machine's own interfaces are left alone.
//
// In both, docker dockline shows what an operator sees.
//
// It checks every byte that arrives, takes away all that it made, and ends with
// one line that says how it went.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// demoTime bounds everything but the clean-up.
const demoTime = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, demoTime, errors.New("the demo takes too long"))
	defer cancel()
	result, err := run(ctx)
	if err != nil {
		fmt.Println("demo: failed:", err)
		os.Exit(1)
	}
	fmt.Println("demo: ok", result)
}

// run is the whole demo. What it began is taken away before it returns.
func run(ctx context.Context) (result string, err error) {
	d, err := newDemo()
	if err != nil {
		return "", err
	}
	defer func() {
		step("taking everything away again")
		err = errors.Join(err, d.close(context.WithoutCancel(ctx)))
	}()
	for _, part := range []func(context.Context) error{
		d.prepare, d.startCollectors, d.startContainers, d.disturb, d.lookAtLogs, d.finish, d.showLogs, d.showNetworks,
	} {
		if err := part(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return "", err
		}
	}
	return d.result()
}

func step(format string, args ...any) { fmt.Printf("\n==> "+format+"\n", args...) }

func note(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
