package record

import "unicode/utf8"

// Joiner puts the chunks of long lines back together. The engine cuts lines at
// 16 KiB; chunks of stdout and stderr interleave, so each line is kept apart by
// its source and its partial id.
//
// A joined line is at most Max bytes; a longer one comes out in pieces, each
// but the last marked as cut, and each made of whole chunks, so that a reader
// that begins again with one of them gets the same. Where chunks end between
// runes, pieces do. Memory is bounded by Max for each line that is
// open, and open lines by maxOpen: the oldest is given out when one more comes.
// What all streams hold is bounded by Budget.
type Joiner struct {
	Max    int
	Budget *Budget
	open   []*Joined // in the order in which they began
	free   []*Joined
	whole  Joined // a whole line on its way through; here so that it costs no allocation
}

// maxOpen bounds the lines being joined at a time. Engines have at most one a
// source open; a corrupt stream may pretend to have any number.
const maxOpen = 8

// Joined is one record: a whole line, or a piece of one that was too long.
type Joined struct {
	Offset uint64 // of its first frame
	Span   uint64 // from there to its last frame
	Time   int64  // of its first frame, nanoseconds since 1970
	Line   []byte
	Stderr bool
	Cut    bool // the line goes on in another record
	Tail   bool // the line began in another record
	Open   bool // nobody has seen the line's end, and nothing more of it comes, see Flush
	Headed bool // it begins where the line, or the piece of it, began: a reader that set in amid the chunks of a line has not seen that

	id   []byte
	buf  []byte
	even split // the last place in buf at which it could be cut
	idle bool  // has got nothing since ExpireIdle was called
}

// Add takes the next entry of a stream, whose frame begins at offset, and
// calls emit for each record that is complete with it. What emit gets is valid
// until it returns. A whole line passes through without being copied.
func (j *Joiner) Add(offset uint64, e *Entry, emit func(*Joined)) {
	at := j.find(e)
	if !e.Partial && at < 0 {
		j.whole = Joined{Offset: offset, Time: e.Time, Line: e.Line, Stderr: e.Stderr, Headed: true}
		emit(&j.whole)
		return
	}
	if at < 0 {
		at = j.begin(offset, e, emit)
	}
	p := j.open[at]
	here := split{len(p.buf), offset, e.Time, p.Span}
	if endsWhole(p.buf) {
		p.even = here
	}
	for len(p.buf) > 0 && (len(p.buf)+len(e.Line) > j.Max || j.Budget.Full(len(e.Line))) {
		here = j.cut(p, here, emit)
	}
	j.Budget.Add(len(e.Line))
	p.buf, p.idle, p.Span = append(p.buf, e.Line...), false, offset-p.Offset
	if e.Last || !e.Partial {
		j.give(p, false, emit)
		j.drop(at)
	}
}

// split is a place between two chunks: how many bytes are before it, where and
// when the chunk behind it was written, and the span of what is before it.
type split struct {
	at     int
	offset uint64
	time   int64
	span   uint64
}

// cut gives out a piece of a line, up to the last chunk that ends between runes,
// else up to here, and returns where here is then.
func (j *Joiner) cut(p *Joined, here split, emit func(*Joined)) split {
	at := p.even
	if at.at == 0 {
		at = here
	}
	p.Line, p.Cut, p.Span = p.buf[:at.at], true, at.span
	emit(p)
	j.Budget.Add(-at.at)
	p.Line, p.Headed, p.Tail = nil, true, true
	p.buf = p.buf[:copy(p.buf, p.buf[at.at:])]
	here.span += p.Offset
	p.Offset, p.Time, p.even = at.offset, at.time, split{}
	here.at, here.span = len(p.buf), here.span-at.offset
	return here
}

// endsWhole reports whether b does not end in the middle of a rune.
func endsWhole(b []byte) bool {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			return utf8.FullRune(last)
		}
	}
	return true
}

// CutAt returns where to cut b, at n or shortly before, so that no rune is divided.
func CutAt(b []byte, n int) int {
	for at := n; at > max(0, n-utf8.UTFMax); at-- {
		if utf8.RuneStart(b[at]) {
			return at
		}
	}
	return n
}

// Flush gives out every line that is still open, oldest first: the stream has
// ended, and what has no newline by now will get none.
func (j *Joiner) Flush(emit func(*Joined)) {
	for len(j.open) > 0 {
		j.open[0].Open = true
		j.give(j.open[0], false, emit)
		j.drop(0)
	}
}

// Expire gives out what there is of the oldest open line, as a piece.
func (j *Joiner) Expire(emit func(*Joined)) {
	if len(j.open) > 0 {
		j.give(j.open[0], true, emit)
		j.drop(0)
	}
}

// ExpireIdle gives out, as pieces, the lines that have got nothing since it was
// called before.
func (j *Joiner) ExpireIdle(emit func(*Joined)) {
	for at := 0; at < len(j.open); {
		p := j.open[at]
		if !p.idle {
			p.idle = true
			at++
			continue
		}
		j.give(p, true, emit)
		j.drop(at)
	}
}

// Open returns the offset of the oldest frame that is not part of a record
// given out yet, and whether there is one. A reader that begins again there
// sees everything that this Joiner holds.
func (j *Joiner) Open() (offset uint64, ok bool) {
	for _, p := range j.open {
		if !ok || p.Offset < offset {
			offset, ok = p.Offset, true
		}
	}
	return offset, ok
}

// Len returns how many lines are open.
func (j *Joiner) Len() int { return len(j.open) }

// Reset forgets open lines, for a reader that begins again before them.
func (j *Joiner) Reset() {
	for len(j.open) > 0 {
		j.drop(0)
	}
}

// find returns the place of the open line that e belongs to, or -1. An entry
// without id belongs to the open line of its source that has none either:
// engines before 18.09 sent no ids.
func (j *Joiner) find(e *Entry) int {
	for i, p := range j.open {
		if p.Stderr == e.Stderr && string(p.id) == string(e.ID) {
			return i
		}
	}
	return -1
}

func (j *Joiner) begin(offset uint64, e *Entry, emit func(*Joined)) int {
	if len(j.open) >= maxOpen {
		j.give(j.open[0], false, emit)
		j.drop(0)
	}
	p := &Joined{}
	if n := len(j.free); n > 0 {
		p, j.free = j.free[n-1], j.free[:n-1]
	}
	*p = Joined{Offset: offset, Time: e.Time, Stderr: e.Stderr, Headed: e.Ordinal <= 1, Tail: e.Ordinal > 1, id: append(p.id[:0], e.ID...), buf: p.buf[:0]}
	j.open = append(j.open, p)
	return len(j.open) - 1
}

func (j *Joiner) give(p *Joined, cut bool, emit func(*Joined)) {
	p.Line, p.Cut = p.buf, cut
	emit(p)
	p.Line = nil
}

// keepFree and keepBytes bound the buffers kept for the next long line of a stream.
const (
	keepFree  = 1
	keepBytes = 64 << 10
)

func (j *Joiner) drop(at int) {
	p := j.open[at]
	j.Budget.Add(-len(p.buf))
	j.open = append(j.open[:at], j.open[at+1:]...)
	if len(j.free) < keepFree && cap(p.buf) <= keepBytes {
		j.free = append(j.free, p)
	}
}
