package main

import (
	"context"
	"sync"
	"time"
)

// tally is what the collectors of one run are to receive together.
type tally struct {
	goal int64
	done chan struct{} // closed when got has reached goal

	mu   sync.Mutex // guards the rest
	got  int64
	last time.Time // when something came
}

// newTally makes the sinks count for a new run.
func newTally(goal int64, sinks []*counter) *tally {
	t := &tally{goal: goal, done: make(chan struct{})}
	for _, s := range sinks {
		s.tally.Store(t)
	}
	return t
}

func (t *tally) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.got
	t.got += n
	t.last = time.Now()
	if before < t.goal && t.got >= t.goal {
		close(t.done)
	}
}

// wait returns when the last record came; doneTime is all that it waits.
func (t *tally) wait(ctx context.Context, sinks []*counter) time.Time {
	if len(sinks) > 0 {
		late := time.NewTimer(doneTime)
		defer late.Stop()
		select {
		case <-t.done:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// missing is how many records have not come.
func (t *tally) missing() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.goal-t.got)
}
