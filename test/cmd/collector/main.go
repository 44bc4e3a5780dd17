// Command collector is one counting collector as a process of its own: it
// receives records, writes each down in a journal before acknowledging it, and
// serves its counts as JSON on a loopback HTTP port or prints them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockline/dockline/test/harness/collector"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("collector: ")
	opts := collector.Options{}
	flag.StringVar(&opts.Name, "name", "c1", "the collector's name")
	flag.StringVar(&opts.Proto, "proto", "json+tcp", "json+tcp, syslog+tcp or relp")
	flag.StringVar(&opts.Addr, "listen", "127.0.0.1:0", "where to receive records")
	journal := flag.String("journal", "", "file to write the records received to, one a line")
	stats := flag.String("stats", "", "serve the counts over HTTP at this address")
	every := flag.Duration("print", 0, "print the counts every so often")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, opts, *journal, *stats, *every); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, opts collector.Options, journal, stats string, every time.Duration) error {
	if journal != "" {
		j, err := collector.OpenJournal(journal)
		if err != nil {
			return err
		}
		defer j.Close()
		opts.Each = func(r collector.Record) {
			if err := j.Add(r); err != nil {
				log.Fatal(err) // nothing that is not written down may be acknowledged
			}
		}
	}
	fail := make(chan error, 1)
	err := collector.Run(ctx, opts, func(s *collector.Server) {
		fmt.Println(s.URL())
		if stats != "" {
			go func() { fail <- serveStats(s, stats) }()
		}
		if every > 0 {
			go printStats(ctx, s, every)
		}
	})
	select {
	case bad := <-fail:
		return errors.Join(err, bad)
	default:
		return err
	}
}

func serveStats(s *collector.Server, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("serve the counts: %w", err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.Stats())
	})}
	return srv.Serve(l)
}

func printStats(ctx context.Context, s *collector.Server, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = json.NewEncoder(os.Stdout).Encode(s.Stats())
		}
	}
}
