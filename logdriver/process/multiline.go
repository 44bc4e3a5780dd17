package process

import (
	"regexp"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// maxLook is how many bytes of a line are looked at to tell whether it belongs
// to the one before.
const maxLook = 1 << 10

// multiline says which lines are one record.
type multiline struct {
	start   *regexp.Regexp // a line that it matches begins a record; nil: traces say which
	cost    int            // of one byte
	traces  language       // whose stack traces are known
	timeout time.Duration
	max     int // bytes of a record
}

// group is the lines of one source that belong together so far.
type group struct {
	open    bool
	tail    bool // it goes on with a record that was cut
	place   place
	offset  uint64
	span    uint64 // from there to its last frame
	time    int64  // of its first line
	last    int64  // of its last
	touched time.Time
	buf     []byte
}

func (g *group) stale(now time.Time, timeout time.Duration) bool {
	return now.Sub(g.touched) >= timeout
}

// group puts a line to the ones that it belongs to.
func (s *State) group(j *record.Joined, emit func(*Record)) {
	g, other := &s.groups[0], &s.groups[1]
	if j.Stderr {
		g, other = other, g
	}
	m := s.spec.multi
	if other.open && j.Time-other.last > int64(m.timeout) {
		s.close(other, emit)
	}
	if j.Cut || j.Tail { // a line so long that it came in pieces belongs to nothing else
		s.close(g, emit)
		s.finish(j, emit)
		return
	}
	if g.open && j.Time-g.last > int64(m.timeout) {
		s.close(g, emit)
	}
	next, joins := s.step(g, j.Line)
	switch {
	case g.open && joins && len(g.buf)+1+len(j.Line) <= m.max && !s.Budget.Full(1+len(j.Line)):
		g.buf = append(append(g.buf, '\n'), j.Line...)
		g.place = next
		g.touch(j)
		s.Budget.Add(1 + len(j.Line))
		s.count(&s.stats.Joined, 1)
	case g.open && joins:
		s.give(g, true, emit)
		s.between(j.Offset)
		s.begin(g, j, next)
		g.tail = true
	default:
		s.close(g, emit)
		s.between(j.Offset)
		if next == outside {
			s.finish(j, emit)
		} else {
			s.begin(g, j, next)
		}
	}
}

// step says where in a record a line is, and whether the record is the one that
// is open.
func (s *State) step(g *group, line []byte) (next place, joins bool) {
	m := s.spec.multi
	line = line[:min(len(line), maxLook)]
	if m.start == nil {
		at := outside
		if g.open {
			at = g.place
		}
		return m.traces.step(at, line)
	}
	s.cost += m.cost * len(line)
	return someplace, !m.start.Match(line)
}

func (s *State) begin(g *group, j *record.Joined, at place) {
	g.open, g.tail, g.place, g.offset, g.time = true, false, at, j.Offset, j.Time
	g.buf = append(g.buf[:0], j.Line...)
	g.touch(j)
	s.Budget.Add(len(j.Line))
}

func (g *group) touch(j *record.Joined) {
	g.span, g.last, g.touched = j.Offset+j.Span-g.offset, j.Time, time.Now()
}

func (s *State) close(g *group, emit func(*Record)) {
	if g.open {
		s.give(g, false, emit)
	}
}

// maxKept is the largest buffer that a stream keeps for its next record.
const maxKept = 64 << 10

func (s *State) give(g *group, cut bool, emit func(*Record)) {
	s.whole = record.Joined{Offset: g.offset, Span: g.span, Time: g.time, Line: g.buf, Stderr: g == &s.groups[1], Cut: cut, Tail: g.tail}
	s.finish(&s.whole, emit)
	s.let(g)
}

// let forgets what is kept of a record.
func (s *State) let(g *group) {
	if g.open {
		s.Budget.Add(-len(g.buf))
	}
	if *g = (group{buf: g.buf[:0]}); cap(g.buf) > maxKept {
		g.buf = nil
	}
}
