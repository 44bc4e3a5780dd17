package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

const settleTime = 90 * time.Second

// result is the last line.
type result struct {
	kills                       int64
	records, lost               uint64
	duplicated, reordered       uint64
	plainLost, engineLost, held uint64
}

// Bad implements program.Result.
func (r *result) Bad() bool { return r.lost > 0 }

func (r *result) String() string {
	return fmt.Sprintf("kills=%d records=%d lost=%d duplicated=%d reordered=%d plain_tcp_lost=%d",
		r.kills, r.records, r.lost, r.duplicated, r.reordered, r.plainLost)
}

// finish stops the containers and waits until everything is acknowledged, and
// has come where the collectors acknowledge.
func (w *world) finish(ctx context.Context) error {
	program.Say("the violence is over; stopping the containers")
	for _, c := range w.containers {
		if err := w.stop(ctx, c); err != nil {
			return err
		}
	}
	program.Say("waiting for the last records")
	late, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("not everything is acknowledged in time"))
	defer cancel()
	return proc.Await(late, func(context.Context) error {
		return errors.Join(w.spool.Acked(), w.complete())
	})
}

// complete returns an error as long as a collector that acknowledges has not
// shown all that it acknowledged: rsyslog's file is read a moment later.
func (w *world) complete() error {
	for _, c := range w.containers {
		if a := w.book.Account(c.name); c.acks || a.Records == 0 {
			if err := w.spool.Complete(c.name, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge compares what was written with what came.
func (w *world) judge() (program.Result, error) {
	for _, s := range w.servers {
		if err := s.Close(); err != nil { // reads what the kernel still holds
			return nil, err
		}
	}
	r := &result{kills: w.killed.Load()}
	problems := w.book.Problems()
	for _, c := range w.containers {
		problems = append(problems, w.compare(r, c)...)
	}
	for _, s := range w.servers {
		if st := s.Stats(); st.Errors > 0 {
			problems = append(problems, fmt.Sprintf("collector %s was sent something wrong: %s", s.Name(), st.LastError))
		}
		if s.proto != "relp" {
			r.held += uint64(s.held)
		}
	}
	problems = append(problems, w.explain(r)...)
	if len(problems) > 0 {
		return r, errors.New(strings.Join(problems[:min(len(problems), 30)], "\n  "))
	}
	return r, nil
}

// explain says what the figures mean that are not in the last line, and checks
// that plain TCP has lost no more than it can.
func (w *world) explain(r *result) (problems []string) {
	program.Say("%d records were in the engine's memory when it was killed: read from the container, not yet written to the FIFO", r.engineLost)
	program.Say("plain TCP lost %d records: acknowledged by the kernels of collectors that crashed before they read them, which held up to %d bytes", r.plainLost, r.held)
	if least := r.plainLost * 100; least > r.held {
		problems = append(problems, fmt.Sprintf("plain TCP lost at least %d bytes, more than the %d that collectors can have held", least, r.held))
	}
	return problems
}

// compare judges one container.
func (w *world) compare(r *result, c *writer) (problems []string) {
	v := w.book.Judge(c.name, c.runs, w.spool, c.acks)
	r.records += v.Wrote
	r.duplicated += v.Duplicated
	r.reordered += v.Reordered
	r.engineLost += v.Engine
	if c.acks {
		r.lost += v.Lost
	} else {
		r.plainLost += v.Lost
	}
	program.Say("%-4s %s, runs %d: wrote %d, lost %d, with the engine %d, duplicated %d, reordered %d",
		c.name, protocols(c.acks), len(c.runs), v.Wrote, v.Lost, v.Engine, v.Duplicated, v.Reordered)
	return v.Problems
}

func protocols(acks bool) string {
	if acks {
		return "acknowledged"
	}
	return "plain TCP   "
}
