package process

import (
	"fmt"
	"time"
)

// rate is how many records a container may send.
type rate struct {
	every time.Duration // one
	burst int           // at once
	delay bool          // those above it wait; else they are dropped
	said  string        // as it was given
}

// markAfter is how long dropped records are counted before that is said downstream.
const markAfter = time.Second

// limiter holds a stream to its rate. Where records are dropped it goes by the
// time that the engine stamped them with, so that what waited in the spool is not
// taken for too much; where they wait, by the time at which they are sent.
type limiter struct {
	due int64 // time of the next record, were they all sent at the rate

	dropped uint64 // records since offset, which nobody was told of
	offset  uint64
	since   int64 // engine's time of the first of them
	touched time.Time

	tokens float64
	filled time.Time
}

// admit reports whether a record may pass, and counts it if not.
func (s *State) admit(offset uint64, at int64, emit func(*Record)) bool {
	r, l := s.spec.rate, &s.limit
	if r.delay {
		l.tokens--
		return true
	}
	if l.dropped > 0 && at-l.since >= int64(markAfter) {
		s.mark(emit)
		s.between()
	}
	l.due = min(l.due, at+int64(r.every)*int64(r.burst)) // further away only where the clock was set back
	due := max(l.due, at)
	if due-at <= int64(r.every)*int64(r.burst-1) {
		l.due = due + int64(r.every)
		return true
	}
	if l.dropped == 0 {
		l.offset, l.since, l.touched = offset, at, time.Now()
	}
	l.dropped++
	s.count(&s.stats.RateDropped, 1)
	return false
}

// mark says downstream how many records were dropped. Its id is that of the
// first of them.
func (s *State) mark(emit func(*Record)) {
	l := &s.limit
	s.text = fmt.Appendf(s.text[:0], "[dockline] %d records of this container were left out here: it wrote more than its rate of %s allows", l.dropped, s.spec.rate.said)
	s.rec = Record{Offset: l.offset, Time: l.since, Stamped: l.since, Stderr: true, Line: s.text}
	emit(&s.rec)
	l.dropped = 0
}

func (l *limiter) stale(now time.Time) bool { return now.Sub(l.touched) >= markAfter }

// wait returns how long it is until the next record may be sent.
func (l *limiter) wait(r *rate, now time.Time) time.Duration {
	if l.filled.IsZero() {
		l.tokens = float64(r.burst)
	} else {
		l.tokens = min(float64(r.burst), l.tokens+float64(now.Sub(l.filled))/float64(r.every))
	}
	l.filled = now
	if l.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - l.tokens) * float64(r.every))
}
