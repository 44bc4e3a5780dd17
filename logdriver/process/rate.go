package process

import (
	"fmt"
	"time"

	"github.com/dockline/dockline/logdriver/record"
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

	past   []checkpoint // a ring, of which the newest is past[newest]
	newest int

	dropped uint64 // records since offset, which nobody was told of
	offset  uint64
	last    uint64 // offset of the last of them
	since   int64  // engine's time of the first of them
	touched time.Time

	tokens float64
	filled time.Time
}

// checkpoint is what the due was when the record at an offset came, and nothing
// was kept of what is before it.
type checkpoint struct {
	offset uint64
	due    int64
}

// maxPast bounds how many records back, of those that passed, a limiter knows what
// it was. Beyond that what is read again has a new burst.
const maxPast = 1 << 10

// remember notes the due before the record at an offset, where a reader may begin
// again.
func (s *State) remember(offset uint64) {
	l := &s.limit
	if s.spec.rate == nil || s.spec.rate.delay || len(l.past) > 0 && l.past[l.newest].due == l.due {
		return
	}
	if _, open := s.Open(); open {
		return
	}
	if len(l.past) < maxPast {
		l.past, l.newest = append(l.past, checkpoint{offset, l.due}), len(l.past)
		return
	}
	l.newest = (l.newest + 1) % maxPast
	l.past[l.newest] = checkpoint{offset, l.due}
}

// rewind makes the limiter what it was before the record at an offset, so that of
// what is read again the same is dropped.
func (l *limiter) rewind(at uint64) {
	was := limiter{tokens: l.tokens, filled: l.filled, past: l.past[:0]}
	for i := range l.past {
		if c := l.past[(l.newest+len(l.past)-i)%len(l.past)]; c.offset <= at {
			was.due, was.past = c.due, append(was.past, c)
			break
		}
	}
	*l = was
}

// admit reports whether a record may pass, and counts it if not.
func (s *State) admit(j *record.Joined, emit func(*Record)) bool {
	r, l, at := s.spec.rate, &s.limit, j.Time
	if r.delay {
		l.tokens--
		return true
	}
	if l.dropped > 0 && at-l.since >= int64(markAfter) {
		s.mark(emit)
		s.between(j.Offset)
	}
	l.due = min(l.due, at+int64(r.every)*int64(r.burst)) // further away only where the clock was set back
	due := max(l.due, at)
	if due-at <= int64(r.every)*int64(r.burst-1) {
		l.due = due + int64(r.every)
		return true
	}
	if l.dropped == 0 {
		l.offset, l.since, l.touched = j.Offset, at, time.Now()
	}
	l.last = j.Offset
	l.dropped++
	s.count(&s.stats.RateDropped, 1)
	return false
}

// mark says downstream how many records were dropped. Its id is none of theirs:
// after a restart the first of them may pass.
func (s *State) mark(emit func(*Record)) {
	l := &s.limit
	s.text = fmt.Appendf(s.text[:0], "[dockline] %d records of this container were left out here: it wrote more than its rate of %s allows", l.dropped, s.spec.rate.said)
	s.rec = Record{Offset: record.MarkID(l.offset, l.last-l.offset), Time: l.since, Stamped: l.since, Stderr: true, Line: s.text}
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
