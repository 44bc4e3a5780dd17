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
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockline/dockline/test/harness/debian"
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
	suite := flag.String("suite", string(debian.Bookworm), "the Debian release whose engine it is: bookworm, trixie or sid")
	flag.Parse()
	c.suite = debian.Suite(*suite)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Minute, errors.New("the run takes too long"))
	defer cancel()
	line, err := run(ctx, c)
	if err != nil {
		fmt.Println("benchnet: failed:", err)
		os.Exit(1)
	}
	fmt.Println(line)
}

// run is the whole of it. What it began is taken away before it returns.
func run(ctx context.Context, c config) (line string, err error) {
	b, err := newBench(ctx, c)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return "", err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"wire", b.wire}, {"run", b.containers}, {"protocol", b.protocol}} {
		if c.only != "" && c.only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			return "", fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.report(), nil
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
