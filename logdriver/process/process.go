// Package process does with a container's records what its log options ask
// for: it joins the lines of stack traces, leaves records out, lifts fields out
// of JSON and logfmt, hides secrets, and holds the container to a rate. It
// stands between record, which joins what the engine cut, and ship. `docker
// logs` does not see it.
//
// A record goes through the steps in this order, of which any may be absent:
// multi-line, include and exclude, rate, parse, redact, utf8, max-line. Secrets are
// looked for in the line before it is taken apart, and in what that makes of it.
package process

import (
	"regexp"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// Record is what comes out: one line, or several that belong together, parted
// by newlines. It and all that it points to is valid until the call that it was
// passed to returns.
type Record struct {
	Offset  uint64 // its number, see record.ID
	Time    int64  // nanoseconds since 1970: as the application says, else as the engine stamped it
	Stamped int64  // as the engine stamped it
	Stderr  bool
	Cut     bool // it goes on in another record
	Level   Level
	Line    []byte
	Fields  []Field // in the order in which they were written
}

// Field is one value that was lifted out of a line. The names of several may be
// the same, if the line has them so.
type Field struct {
	Key, Value []byte
	Raw        bool // Value is JSON text, and no string: a number, true, false, null, an array or an object
}

// Stats counts what was done to records. What is read a second time, after a
// connection broke, is not counted again; what goes to several pools is, for each.
type Stats struct {
	Filtered      atomic.Uint64 // records that include or exclude left out
	RateDropped   atomic.Uint64 // records over the rate
	Delayed       atomic.Uint64 // times that a stream was held up for its rate
	Joined        atomic.Uint64 // lines that became part of the record before them
	ParseFailures atomic.Uint64 // lines that are not what parse says
	Redactions    atomic.Uint64 // secrets that were hidden
	Withheld      atomic.Uint64 // bytes that were not sent, for they are too many to be searched for secrets
	Truncated     atomic.Uint64 // records longer than max-line
	InvalidUTF8   atomic.Uint64 // records that were escaped or repaired
}

// Spec is what is to be done to the records of a container. Nothing changes it.
type Spec struct {
	MaxRecord int // bytes of a joined record

	multi            *multiline
	include, exclude *filter
	rate             *rate
	parse            parseMode
	keep             bool
	secrets          []redactor
	dear             int // instructions of those that are own expressions
	utf8             utf8Mode
	maxLine          int
}

// idle reports whether records come out as they came in.
func (s *Spec) idle() bool {
	return s.multi == nil && s.include == nil && s.exclude == nil && s.rate == nil && s.parse == parseOff &&
		len(s.secrets) == 0 && s.utf8 == utf8Pass && s.maxLine == 0
}

const (
	// Bytes of a line that a regular expression sees at a time.
	maxFilter = 16 << 10
	// turnCost bounds what is done for one stream before another has its turn,
	// in bytes times the instructions of the expressions that look at them.
	turnCost = 1 << 20
)

type filter struct {
	re   *regexp.Regexp
	cost int // of one byte
}

// State is what is between the records of one stream on its way to one pool. It
// is used by one goroutine at a time.
type State struct {
	// Between is called, if it is set, in Add when nothing is kept any more and
	// nothing is yet: no record lies on both sides of that.
	Between func()
	// Budget bounds, together with that of other streams, what is kept. It may be nil.
	Budget *record.Budget

	spec    *Spec
	stats   *Stats
	last    uint64 // offset of the last line that was added, and
	counted uint64 // the same of before the last Reset, which says what is counted already
	groups  [2]group
	limit   limiter
	cost    int
	rec     Record
	whole   record.Joined // a record of several lines on its way through
	parser  parser
	text    []byte // of the record at hand, where it is not the line's own
	hits    []hit  // what is to be hidden in its line
	left    int    // of maxSearch, for it
	sheet   []byte // what was lifted, to be searched
	laid    []laid
	found   []hit // in sheet
}

// New returns the state of a stream, nil where there is nothing to be done.
func (s *Spec) New(stats *Stats) *State {
	if s == nil || s.idle() {
		return nil
	}
	return &State{spec: s, stats: stats}
}

// Begin is called before a stream has its turn. It returns how long to wait
// for that, where the stream is over its rate.
func (s *State) Begin(now time.Time) (wait time.Duration) {
	s.cost = 0
	if s.spec.rate == nil || !s.spec.rate.delay {
		return 0
	}
	if wait = s.limit.wait(s.spec.rate, now); wait > 0 {
		s.stats.Delayed.Add(1)
	}
	return wait
}

// Enough reports whether the stream has had its turn.
func (s *State) Enough() bool {
	return s.cost > turnCost || s.spec.rate != nil && s.spec.rate.delay && s.limit.tokens < 1
}

// Add takes the next line, or piece of one, and calls emit for each record that
// is complete with it. The frames of what it keeps are not before Open.
func (s *State) Add(j *record.Joined, emit func(*Record)) {
	s.cost += len(j.Line)
	s.last = max(s.last, j.Offset+1)
	s.remember(j.Offset)
	if s.spec.multi == nil {
		s.finish(j, emit)
		return
	}
	s.group(j, emit)
}

// Open returns the offset of the oldest frame of what is kept, if there is any.
func (s *State) Open() (offset uint64, ok bool) {
	for i := range s.groups {
		if g := &s.groups[i]; g.open && (!ok || g.offset < offset) {
			offset, ok = g.offset, true
		}
	}
	if s.limit.dropped > 0 && (!ok || s.limit.offset < offset) {
		offset, ok = s.limit.offset, true
	}
	return offset, ok
}

// between is called when what was kept has been given out, and the line at an
// offset has not been looked at.
func (s *State) between(offset uint64) {
	s.remember(offset)
	if _, open := s.Open(); !open && s.Between != nil {
		s.Between()
	}
}

// Flush gives out all that is kept, the oldest first.
func (s *State) Flush(emit func(*Record)) {
	for s.flushOldest(emit) {
	}
}

func (s *State) flushOldest(emit func(*Record)) bool {
	offset, ok := s.Open()
	if !ok {
		return false
	}
	for i := range s.groups {
		if g := &s.groups[i]; g.open && g.offset == offset {
			s.give(g, false, emit)
			return true
		}
	}
	s.mark(emit)
	return true
}

// Patience is how long what is kept may wait for more.
func (s *State) Patience() time.Duration {
	if m := s.spec.multi; m != nil {
		return min(m.timeout, markAfter)
	}
	return markAfter
}

// ExpireIdle gives out what has waited for long enough.
func (s *State) ExpireIdle(now time.Time, emit func(*Record)) {
	for i := range s.groups {
		if g := &s.groups[i]; g.open && g.stale(now, s.spec.multi.timeout) {
			s.give(g, false, emit)
		}
	}
	if s.limit.dropped > 0 && s.limit.stale(now) {
		s.mark(emit)
	}
}

// Reset forgets what is kept, for a reader that begins again at an offset: what
// it had to read before that for the rate is remembered as far as it can be.
func (s *State) Reset(at uint64) {
	s.counted, s.last = max(s.counted, s.last), 0
	for i := range s.groups {
		s.let(&s.groups[i])
	}
	s.limit.rewind(at)
}

// finish does all that is done to a record once its lines are together.
func (s *State) finish(j *record.Joined, emit func(*Record)) {
	if !s.wanted(j.Line) {
		s.count(&s.stats.Filtered, 1)
		return
	}
	if s.spec.rate != nil && !s.admit(j, emit) {
		return
	}
	r := &s.rec
	*r = Record{Offset: record.ID(j.Offset, j.Span), Time: j.Time, Stamped: j.Time, Stderr: j.Stderr, Cut: j.Cut, Line: j.Line}
	if s.text = s.text[:0]; cap(s.text) > maxKept {
		s.text = nil
	}
	if cap(s.hits) > maxFields*maxLevels {
		s.hits = nil
	}
	s.read(r, s.spec.parse != parseOff && !j.Cut && !j.Tail)
	if s.spec.utf8 != utf8Pass {
		s.encode(r)
	}
	if s.spec.maxLine > 0 && len(r.Line) > s.spec.maxLine {
		s.truncate(r)
	}
	emit(r)
}

// read takes a record's line apart, if it is to be, and lets no secret through in
// what is sent of it. What was hidden in the line is hidden in what is lifted, and
// the other way round.
func (s *State) read(r *Record, lifting bool) {
	s.hits = s.hits[:0]
	secrets := len(s.spec.secrets) > 0
	if secrets {
		s.look(r.Line, lifting)
	}
	lifted := lifting && s.lift(r)
	if lifted && secrets {
		s.sift(r.Line)
	}
	r.Line = s.hidden(r.Line)
	if !lifted {
		return
	}
	p := &s.parser
	if s.spec.keep {
		p.fields = append(p.fields, Field{Key: originalKey, Value: r.Line})
	}
	r.Fields = p.fields[1:]
	if p.spoken && !p.full {
		r.Line = p.fields[0].Value
	}
}

func (s *State) count(n *atomic.Uint64, by int) {
	if s.last > s.counted && by > 0 {
		n.Add(uint64(by))
	}
}

func (s *State) wanted(line []byte) bool {
	return s.match(s.spec.include, line, true) && !s.match(s.spec.exclude, line, false)
}

func (s *State) match(f *filter, line []byte, none bool) bool {
	if f == nil {
		return none
	}
	seen := line[:min(len(line), maxFilter, turnCost/f.cost)]
	s.cost += f.cost * len(seen)
	return f.re.Match(seen)
}
