package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/terminal"
	"github.com/dockline/dockline/netdriver/trace"
)

const traceUsage = `usage: dockline-net trace [-socket PATH] [-timeout DURATION] [-json] A B

Says why container A does not reach B: what links, routes, neighbours, firewalls
and counters on the way say, and a verdict in words. On the host, as root, from
the plugin's folder in the engine's data root, or with its admin socket.

A is a container on a dockline-net network of this host, named by its address or
its endpoint's id (docker inspect shows both; the first letters will do). B is
another one, or any address or host by name. Echoes, and questions by ARP or
neighbour discovery, go to B and the gateway on the way there, nowhere else.

Ends with code 0 where A reaches B, 1 where not, 2 where that could not be found out.
`

// errUnreached says that the trace succeeded and its verdict is that of a fault.
var errUnreached = errors.New("a fault was found")

// runTrace carries out the command and returns the process's exit code.
func runTrace(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := traceCommand(ctx, args, terminal.Safe(out), errs)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUnreached):
		return 1
	}
	fmt.Fprintln(terminal.Safe(errs), "dockline-net trace:", err)
	return 2
}

func traceCommand(ctx context.Context, args []string, out, errs io.Writer) error {
	f := flag.NewFlagSet("dockline-net trace", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() { fmt.Fprint(errs, traceUsage) }
	socket := f.String("socket", "", "")
	timeout := f.Duration("timeout", trace.Within, "")
	asJSON := f.Bool("json", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 2 {
		return fmt.Errorf("there are two ends to a trace, and %d were said\n%s", f.NArg(), traceUsage)
	}
	if *socket == "" {
		own, err := admin.OwnSocket()
		if err != nil {
			return err
		}
		*socket = own
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("it took longer than %v", *timeout))
	defer cancel()
	report, err := trace.Ask(ctx, *socket, f.Arg(0), f.Arg(1), progress(errs))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // whatever it was that took so long
	}
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.Print(out)
	}
	if err == nil && !report.Verdict.OK {
		err = errUnreached
	}
	return err
}

// progress says on a terminal what is being done, and when it began.
func progress(w io.Writer) func(string) {
	begun := time.Now()
	if f, is := w.(*os.File); !is || !isTerminal(f) {
		return nil
	}
	return func(what string) {
		fmt.Fprintf(terminal.Safe(w), "%4.1fs  %s\n", time.Since(begun).Seconds(), what)
	}
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
