package history

import (
	"errors"
	"math"
	"time"
)

// replay makes a history out of a file's entries.
type replay struct {
	h        *History
	streams  map[uint64]*stream
	pairs    map[uint64]*pair
	spans    map[uint64]*span
	order    []*span // as they began
	boot     string
	at       int64 // when the last entries were written
	clean    bool
	hasSince bool
}

// load takes over what a file holds and returns how much of it is good. A tail
// that is not whole was never relied upon. What is damaged ends the reading, and
// is the error; what came before it holds.
func (h *History) load(data []byte) (good int, boot string, clean bool, at int64, err error) {
	r := &replay{h: h, streams: map[uint64]*stream{}, pairs: map[uint64]*pair{}, spans: map[uint64]*span{}}
	rest := data[headerBytes:]
	for len(rest) > 0 {
		var payload []byte
		at := len(data) - len(rest)
		if payload, rest, err = nextEntry(rest); err == nil && !r.apply(payload) {
			err = errors.New("an entry makes no sense")
		}
		if err != nil {
			good = at
			break
		}
		good = len(data) - len(rest)
	}
	good = max(good, headerBytes)
	if errors.Is(err, errTorn) && !holdsEntry(data[good:]) {
		err = nil
	} else if err == nil && !r.hasSince {
		err = errors.New("it does not say how far it reaches back")
	}
	if err != nil {
		err = &DamageError{int64(good), err.Error()}
	}
	r.finish()
	return good, r.boot, r.clean && good == len(data), r.at, err
}

func (r *replay) apply(payload []byte) bool {
	f := &fields{b: payload[1:]}
	r.clean = false
	switch payload[0] {
	case kindBoot:
		r.boot = f.text()
	case kindTime:
		r.at = f.int()
	case kindClean:
		r.clean = true
	case kindSince:
		r.h.since, r.hasSince = int64(f.uint()), true
	case kindGap:
		r.h.gaps = append(r.h.gaps, Gap{From: moment(f.int()), To: moment(f.int()), Why: f.text()})
	case kindStream:
		r.stream(f)
	case kindPair:
		p := &pair{num: f.uint(), pool: f.text(), name: f.text()}
		r.pairs[p.num] = p
		r.h.number = max(r.h.number, p.num)
	case kindSpan:
		return r.span(f) && !f.bad
	case kindDrop:
		delete(r.spans, f.uint())
	case kindForget:
		delete(r.streams, f.uint())
	default:
		return false
	}
	return !f.bad
}

func (r *replay) stream(f *fields) {
	num := f.uint()
	st := r.streams[num]
	if st == nil {
		st = &stream{num: num, recent: map[string]*span{}}
		r.streams[num] = st
	}
	st.id, st.owner, st.name, st.created, st.since = f.text(), f.text(), f.text(), f.int(), f.int()
	r.h.number = max(r.h.number, num)
}

func (r *replay) span(f *fields) bool {
	num := f.uint()
	sp := r.spans[num]
	if sp == nil {
		sp = &span{num: num}
		r.spans[num] = sp
		r.order = append(r.order, sp)
	}
	sp.stream, sp.pair = r.streams[f.uint()], r.pairs[f.uint()]
	sp.from = f.int()
	last, until := f.uint(), f.uint()
	sp.records, sp.bytes, sp.uncounted = f.uint(), f.uint(), f.bool()
	if sp.stream == nil || sp.pair == nil || last > math.MaxInt64 || until > math.MaxInt64 {
		return false
	}
	sp.last = sp.from + int64(last)
	sp.until = sp.last + int64(until)
	r.h.number = max(r.h.number, num)
	return sp.from <= sp.last && sp.last <= sp.until
}

// finish puts together what is left. A span whose end was not written had grown
// up to where it was reserved, at most.
func (r *replay) finish() {
	for _, st := range r.streams {
		r.h.addStreamLocked(st)
	}
	for _, sp := range r.order {
		st := sp.stream
		if r.spans[sp.num] == nil || r.spans[sp.num] != sp || st == nil || sp.pair == nil || r.streams[st.num] != st {
			continue
		}
		if sp.until > sp.last {
			sp.last, sp.uncounted = sp.until, true
		}
		if r.h.pairs[sp.pair.id()] == nil {
			r.h.addPairLocked(sp.pair)
		}
		sp.pair = r.h.pairs[sp.pair.id()]
		r.h.addSpanLocked(sp)
		st.seen = max(st.seen, sp.last)
		if recent := st.recent[sp.pair.pool]; recent == nil || recent.last <= sp.last {
			st.recent[sp.pair.pool] = sp
		}
	}
}

func moment(ns int64) time.Time { return time.Unix(0, ns).UTC() }
