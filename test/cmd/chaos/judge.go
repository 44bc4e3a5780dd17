package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

const settleTime = 3 * time.Minute

// result is the last line.
type result struct {
	events                             int
	records, lost                      uint64
	duplicated, reordered              uint64
	spread, spreadReordered, auditLost uint64
	unnamed                            int
	refused                            int
}

// Bad implements program.Result. What is wrong is an error that says it in words.
func (r *result) Bad() bool { return false }

func (r *result) String() string {
	return fmt.Sprintf("events=%d records=%d lost=%d duplicated=%d reordered=%d audit_lost=%d hash_record=%d hash_record_reordered=%d history_missing=%d configurations_refused=%d",
		r.events, r.records, r.lost, r.duplicated, r.reordered, r.auditLost, r.spread, r.spreadReordered, r.unnamed, r.refused)
}

// finish ends all trouble, stops the containers and waits until everything has come.
func (w *world) finish(ctx context.Context) error {
	program.Say("no more events; stopping the containers")
	if err := w.apply(ctx); err != nil { // a bad configuration may be there
		return err
	}
	names := []string{"stop", "-t", "30"}
	for _, c := range w.containers {
		names = append(names, c.name)
	}
	if _, err := w.host.Engine.Run(ctx, names...); err != nil {
		return err
	}
	for _, c := range w.containers {
		wrote, err := w.host.Engine.Tally(ctx, c.name)
		if err != nil {
			return err
		}
		c.wrote = wrote.Stdout.Count
	}
	program.Say("waiting for the last records")
	late, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("not everything came in time"))
	defer cancel()
	err := proc.Await(late, func(context.Context) error { return w.complete() })
	if err != nil && ctx.Err() == nil {
		program.Say("%v", err) // what is missing is for the judge
		if status, err := w.ask(ctx, "status"); err == nil {
			program.Say("the plugin's status:\n%s", status)
		}
		return nil
	}
	return err
}

// complete returns an error as long as something is missing.
func (w *world) complete() error {
	for _, c := range w.containers {
		if n := w.ledger.count(c.name, false); n < c.wrote {
			return fmt.Errorf("of %s %d of %d have come", c.name, n, c.wrote)
		}
		if n := w.ledger.count(c.name, true); c.group == audited && n < c.wrote {
			return fmt.Errorf("of %s %d of %d have come to the pool audit", c.name, n, c.wrote)
		}
	}
	return nil
}

// judge compares what was written with what came, and with what the plugin knows.
func (w *world) judge(ctx context.Context) (program.Result, error) {
	r := &result{events: w.done, refused: w.refused}
	problems := w.ledger.problems
	var mu sync.Mutex // guards r and problems
	limit := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for _, c := range w.containers {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			wrong, err := w.history(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problems = append(problems, err.Error())
			}
			r.unnamed += len(wrong)
			problems = append(append(problems, wrong...), w.compare(r, c)...)
		})
	}
	wg.Wait()
	for _, s := range w.servers {
		s.noteErrors()
		for _, e := range s.errors {
			problems = append(problems, fmt.Sprintf("collector %s was sent something wrong: %s", nameOf(s.i), e))
		}
	}
	problems = append(problems, w.counters(ctx)...)
	if len(problems) > 0 {
		return r, errors.New(strings.Join(problems[:min(len(problems), 40)], "\n  "))
	}
	return r, nil
}

// compare judges one container by its numbers.
func (w *world) compare(r *result, c *writer) (problems []string) {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	f := w.ledger.flows[flowKey{c.name, false}]
	lost, first := f.missing(c.wrote)
	r.records += c.wrote
	r.lost += lost
	if lost > 0 {
		problems = append(problems, fmt.Sprintf("%s (%s): %d of %d records are lost, the first is %d", c.name, c.group, lost, c.wrote, first))
	}
	if f == nil {
		return problems
	}
	if f.next > int(c.wrote) {
		problems = append(problems, fmt.Sprintf("%s: record %d came, %d were written", c.name, f.next-1, c.wrote))
	}
	r.duplicated += f.duplicated
	if c.group == spread {
		r.spread += c.wrote
		r.spreadReordered += f.locally
	} else if r.reordered += f.reordered; f.reordered > 0 {
		problems = append(problems, fmt.Sprintf("%s (%s): %d records came behind later ones, %d of them at the same collector", c.name, c.group, f.reordered, f.locally))
	}
	if c.group == audited {
		a := w.ledger.flows[flowKey{c.name, true}]
		if lost, first := a.missing(c.wrote); lost > 0 {
			r.auditLost += lost
			problems = append(problems, fmt.Sprintf("%s: the pool audit lacks %d of %d records, the first is %d", c.name, lost, c.wrote, first))
		}
		if a != nil {
			r.reordered += a.reordered
			r.duplicated += a.duplicated
		}
	}
	return problems
}

// history asks the plugin where a container's records are. It has to name every
// collector that alone holds one, with an interval of time that has the record in it.
func (w *world) history(ctx context.Context, c *writer) (wrong []string, err error) {
	text, err := w.ask(ctx, "where", c.name)
	if err != nil {
		return nil, err
	}
	var where admin.Where
	if err := json.Unmarshal([]byte(text), &where); err != nil {
		return nil, fmt.Errorf("read where %s's records are: %w", c.name, err)
	}
	if n := len(where.Containers); n != 1 {
		return nil, fmt.Errorf("where knows %d containers called %s", n, c.name)
	}
	var from, to [maxCollectors][]time.Time
	for _, i := range where.Containers[0].Intervals {
		n := collectorOf(i.Collector)
		if n < 0 {
			return nil, fmt.Errorf("where names a collector %q", i.Collector)
		}
		from[n], to[n] = append(from[n], i.From), append(to[n], i.To)
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for _, audit := range []bool{false, true} {
		f := w.ledger.flows[flowKey{c.name, audit}]
		if f == nil {
			continue
		}
		for i, times := range f.alone() {
			out := 0
			for _, at := range times {
				if !covered(at, from[i], to[i]) {
					out++
				}
			}
			if out > 0 {
				wrong = append(wrong, fmt.Sprintf("%s: where does not name %s for %d records that only it has", c.name, nameOf(i), out))
			}
			if len(from[i]) == 0 && f.holders()&only[i] != 0 && len(times) == 0 && (i == auditor) == audit {
				program.Say("%s: %s has copies of which no acknowledgement came back, and where does not name it", c.name, nameOf(i))
			}
		}
	}
	return wrong, nil
}

// counters looks at what the plugin says it lost.
func (w *world) counters(ctx context.Context) (problems []string) {
	for _, name := range []string{"lost_bytes_total", "given_up_bytes_total", "quarantined_bytes_total", "config_refused", "backlog_bytes"} {
		if v, err := w.metric(ctx, name); err != nil || v != "0" {
			problems = append(problems, fmt.Sprintf("the metric %s is %q (%v)", name, v, err))
		}
	}
	return problems
}
