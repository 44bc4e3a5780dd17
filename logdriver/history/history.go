// Package history remembers which collectors hold the records of which
// container, from when until when. It stands beside the data path: ship tells
// it of every acknowledgement before the cursor moves on, an operator asks it
// with Where. It does not know what a spool, a route or a sink is.
//
// What it keeps is small and bounded, so it is coarse: an Interval says that a
// collector holds records between two moments, not that it holds all of them
// or has some at every moment. It never says too little. Whatever was
// acknowledged between two moments is with the collectors of the intervals
// that reach into that time, unless the answer says since when, or in which
// gaps, that is not known.
package history

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// near is how far, in the time of records, a batch may be from an interval
	// of its collector to be counted to it though another collector had some
	// of the stream in between: a key that is spread over collectors in time
	// slices makes one interval with each, not one for each slice.
	near = int64(10 * time.Second)
	// An interval is written down with an end that lies ahead of its last record,
	// so that not every batch has to be. How far ahead grows with its length.
	minLease = int64(time.Minute)
	maxLease = int64(5 * time.Minute)
	// maxSpans is how many intervals one stream may have before they become
	// coarser, unless it has more collectors.
	maxSpans = 64
)

// Options are what a history needs.
type Options struct {
	File     string // where it is kept
	MaxBytes int64  // what its files may take on the disk, both while one takes the other's place
	Log      *slog.Logger
	Now      func() time.Time // nil: the clock
	Boot     string           // which boot of the machine this is; "" asks the kernel

	fault func(op string) error // for tests: asked before each change to the disk
}

// Batch is what one collector acknowledged of one stream at once.
type Batch struct {
	Stream, Container, Name string // stream id, container id and name
	Created                 time.Time
	Pool, Collector         string
	First, Last             int64 // the earliest and the latest time of the records, in nanoseconds since 1970
	Records, Bytes          uint64
}

// History is the placement history of one host. Its methods may be called by
// several goroutines.
type History struct {
	opts   Options
	log    *slog.Logger
	writer writer // of Run alone

	mu      sync.Mutex // guards what follows; not held while the disk is written
	since   int64      // what was acknowledged before is not known of all streams
	gaps    []Gap
	streams map[string]*stream
	pairs   map[pair]*pair
	latest  map[key]*span // the interval that a batch may belong to
	number  uint64        // the last that was given to a stream, a pair or a span
	live    int64         // what all of them take in the file, at most
	pending []byte        // entries that are not written yet
	stamped int64         // when an entry last said what time it is
	written chan struct{} // closed when what is pending now is written, or cannot be
	rewrite bool          // the file is to be written anew
	failing bool          // the disk did not take it; there is no pending
	stuck   bool          // the disk has not answered in time
	dirty   map[*span]struct{}
	stats   Stats

	wake chan struct{} // has a value when something is pending
}

// stream is what one container wrote.
type stream struct {
	num     uint64
	id      string
	owner   string // container id
	name    string
	created int64
	since   int64 // what was acknowledged of it before is not known
	seen    int64 // when it was last heard of
	spans   []*span
	recent  map[string]*span // by pool, who acknowledged last
}

// pair is a collector as a member of a pool.
type pair struct {
	num  uint64
	pool string
	name string
	refs int
}

func (p *pair) id() pair { return pair{pool: p.pool, name: p.name} }

type key struct{ stream, pool, collector string }

// span is an Interval in the making.
type span struct {
	num        uint64
	stream     *stream
	pair       *pair
	from, last int64
	until      int64 // as written: no less than last
	records    uint64
	bytes      uint64
	uncounted  bool  // a crash took the count of some, and when the last one was
	noted      int64 // when it last grew
}

// Stats is how a history is.
type Stats struct {
	Bytes       int64     // of the file
	Streams     int       // containers' streams that it knows of
	Intervals   int       //
	Since       time.Time // how far it reaches back for all streams
	Oldest      time.Time // the earliest record that it knows of
	WriteErrors uint64
	Unwritten   bool // it is in memory only, for the disk does not take it
}

// Stats returns how the history is.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Streams, s.Since, s.Unwritten = len(h.streams), moment(h.since), s.Unwritten || h.stuck
	var oldest int64
	for _, st := range h.streams {
		s.Intervals += len(st.spans)
		for _, sp := range st.spans {
			if oldest == 0 || sp.from < oldest {
				oldest = sp.from
			}
		}
	}
	if oldest != 0 {
		s.Oldest = moment(oldest)
	}
	return s
}

// Note takes down what a collector acknowledged. When it returns, the file says
// so, unless the disk does not take it or takes more than a second to.
func (h *History) Note(b Batch) {
	if b.Records == 0 {
		return
	}
	h.mu.Lock()
	sp := h.latest[key{b.Stream, b.Pool, b.Collector}]
	fresh := sp == nil || !sp.takes(&b)
	if fresh {
		sp = h.openLocked(&b)
	}
	st := sp.stream
	if st.name != b.Name {
		h.unchargeLocked(streamCost(st))
		st.name = b.Name
		h.chargeLocked(streamCost(st))
		h.emitLocked(appendStream(nil, st))
	}
	fresh = fresh || b.First < sp.from
	sp.from, sp.last = min(sp.from, b.First), max(sp.last, b.Last)
	sp.records += b.Records
	sp.bytes += b.Bytes
	sp.noted = h.now()
	st.seen = sp.noted
	st.recent[b.Pool] = sp
	h.dirty[sp] = struct{}{}
	var wait chan struct{}
	if fresh || sp.last > sp.until {
		sp.until = sp.last + min(max((sp.last-sp.from)/4, minLease), maxLease)
		h.emitLocked(appendSpan(nil, sp))
		if !h.failing && !h.stuck {
			wait = h.written
		}
	}
	h.mu.Unlock()
	if wait != nil {
		h.await(wait)
	}
}

// takes reports whether a batch of the span's collector belongs to it: nobody
// else had any of the stream meanwhile, or not for long.
func (s *span) takes(b *Batch) bool {
	return b.First >= s.from-near && (b.First <= s.last+near || s.stream.recent[b.Pool] == s)
}

// openLocked begins an interval.
func (h *History) openLocked(b *Batch) *span {
	st := h.streams[b.Stream]
	if st == nil {
		st = &stream{
			num: h.nextLocked(), id: b.Stream, owner: b.Container, name: b.Name, created: nano(b.Created),
			since: h.since, recent: map[string]*span{},
		}
		h.addStreamLocked(st)
		h.emitLocked(appendStream(nil, st))
	}
	for _, old := range st.spans { // its end is known now, until it goes on
		h.finishLocked(old)
	}
	p := h.pairs[pair{pool: b.Pool, name: b.Collector}]
	if p == nil {
		p = &pair{num: h.nextLocked(), pool: b.Pool, name: b.Collector}
		h.addPairLocked(p)
		h.emitLocked(appendPair(nil, p))
	}
	sp := &span{num: h.nextLocked(), stream: st, pair: p, from: b.First, last: b.Last}
	h.addSpanLocked(sp)
	h.boundLocked(st)
	return sp
}

// finishLocked writes down where a span that does not grow now ends.
func (h *History) finishLocked(sp *span) {
	if _, ok := h.dirty[sp]; !ok {
		return
	}
	delete(h.dirty, sp)
	sp.until = sp.last
	h.emitLocked(appendSpan(nil, sp))
}

// tidyLocked does so for all that have not grown for a while.
func (h *History) tidyLocked(idle time.Duration) {
	for sp := range h.dirty {
		if d := h.now() - sp.noted; d >= int64(idle) || d < 0 {
			h.finishLocked(sp)
		}
	}
}

func (h *History) nextLocked() uint64 {
	h.number++
	return h.number
}

func (h *History) now() int64 { return h.opts.Now().UnixNano() }

func (h *History) addStreamLocked(st *stream) {
	h.streams[st.id] = st
	h.chargeLocked(streamCost(st))
}

func (h *History) addPairLocked(p *pair) {
	h.pairs[p.id()] = p
	h.chargeLocked(pairCost(p))
}

func (h *History) addSpanLocked(sp *span) {
	sp.pair.refs++
	sp.stream.spans = append(sp.stream.spans, sp)
	h.latest[sp.key()] = sp
	h.chargeLocked(spanCost)
}

func (s *span) key() key { return key{s.stream.id, s.pair.pool, s.pair.name} }

func (h *History) chargeLocked(bytes int64)   { h.live += bytes }
func (h *History) unchargeLocked(bytes int64) { h.live -= bytes }

// nano is a time in nanoseconds since 1970; 0 stands for one that is not known.
func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
