package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

// event is one act of violence and how long to wait before it.
type event struct {
	wait time.Duration
	what string
	who  int // an index, taken modulo what there is
	hold time.Duration
}

func (e event) String() string {
	return fmt.Sprintf("+%.2fs %s/%d/%.1fs", e.wait.Seconds(), e.what, e.who, e.hold.Seconds())
}

// schedule is what happens, all of it from the seed. The acts upon plugin and
// engine are one list, for each needs the ones before to be over; those upon
// collectors go on beside them.
type schedule struct{ host, collectors []event }

func newSchedule(c config) schedule {
	rnd := rand.New(rand.NewPCG(c.seed, 1))
	var s schedule
	// A kill takes about two seconds, until the engine has dialled the next process.
	mean := max(50*time.Millisecond, c.time*8/10/time.Duration(max(1, c.kills))-2*time.Second)
	mean = min(mean, 5*time.Second)
	for i := range c.kills {
		if i == c.kills/2 {
			s.host = append(s.host, event{mean, "upgrade", 0, 0})
		}
		if i == c.kills*2/3 {
			s.host = append(s.host, event{mean, "kill-early", 0, 0})
		}
		if i%max(2, c.kills/6) == 1 {
			s.host = append(s.host, event{mean, "engine", i / 2, 0})
		}
		if i%max(2, c.kills/12) == 1 {
			s.host = append(s.host, event{mean, "restart", rnd.IntN(1000), 0})
		}
		s.host = append(s.host, event{time.Duration(rnd.Float64() * 2 * float64(mean)), "kill", 0, 0})
	}
	acts := []string{"crash", "hang-crash", "close", "pause", "cut", "cut", "blackout", "rsyslog-kill", "rsyslog-stop", "rsyslog-pause"}
	for t := time.Duration(0); t < c.time; {
		e := event{time.Duration(500+rnd.IntN(3000)) * time.Millisecond, acts[rnd.IntN(len(acts))], rnd.IntN(1000), time.Duration(200+rnd.IntN(6000)) * time.Millisecond}
		s.collectors = append(s.collectors, e)
		t += e.wait + e.hold
	}
	return s
}

func (s schedule) print() {
	for name, events := range map[string][]event{"plugin and engine": s.host, "collectors": s.collectors} {
		var all []string
		for _, e := range events {
			all = append(all, e.String())
		}
		program.Say("schedule of %s: %s", name, strings.Join(all, " "))
	}
}

var errOver = errors.New("the time is over")

// violence carries out the schedule, until its end or until the time is over.
func (w *world) violence(ctx context.Context) error {
	s := newSchedule(w.config)
	s.print()
	timed, cancel := context.WithTimeoutCause(ctx, w.time, errOver)
	defer cancel()
	var wg sync.WaitGroup
	var bad error
	upset, stop := context.WithCancel(timed)
	wg.Go(func() { bad = w.upset(upset, s.collectors) })
	wg.Go(func() { w.progress(upset) })
	err := w.hurt(timed, s.host)
	stop()
	wg.Wait()
	return errors.Join(err, bad, context.Cause(ctx))
}

// hurt carries out the acts upon plugin, engine and containers. The time is
// looked at between them only, so that none is left half done.
func (w *world) hurt(ctx context.Context, events []event) error {
	for _, e := range events {
		if !program.Pause(ctx, e.wait) {
			return nil
		}
		if err := w.act(context.WithoutCancel(ctx), e); err != nil {
			return fmt.Errorf("%s: %w", e.what, err)
		}
	}
	return nil
}

func (w *world) act(ctx context.Context, e event) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("it takes too long"))
	defer cancel()
	switch e.what {
	case "kill":
		return w.kill(ctx)
	case "kill-early":
		return w.killEarly(ctx)
	case "engine":
		return w.crashEngine(ctx, e.who%2 == 0)
	case "upgrade":
		return w.upgrade(ctx)
	}
	return w.restart(ctx, w.containers[e.who%len(w.containers)])
}

func (w *world) progress(ctx context.Context) {
	for last := uint64(0); program.Pause(ctx, 2*time.Second); {
		now := w.book.Received()
		program.Say("killed %d of %d, records received %d (%+.0f/s)", w.killed.Load(), w.kills, now, float64(now-last)/2)
		last = now
	}
}
