package history

import (
	"cmp"
	"maps"
	"slices"
)

// boundLocked keeps the history within its bounds after a stream got one more
// interval: that stream's become coarser where it has many, then everybody's,
// and then the streams are forgotten that have not been heard of for longest.
func (h *History) boundLocked(st *stream) {
	if most := max(maxSpans, 2*st.collectors()); len(st.spans) > most {
		h.coarsenLocked(st, most*3/4)
	}
	most := h.opts.MaxBytes * liveShare / shares
	if h.live <= most {
		return
	}
	enough := most * 3 / 4
	for n := maxSpans / 2; n > 0; n /= 2 {
		for _, s := range h.streams {
			h.coarsenLocked(s, n)
		}
		if h.live <= enough {
			return
		}
	}
	oldest := slices.SortedFunc(maps.Values(h.streams), func(a, b *stream) int { return cmp.Compare(a.seen, b.seen) })
	for _, s := range oldest {
		if h.live <= enough {
			return
		}
		if s != st {
			h.forgetLocked(s)
		}
	}
}

// collectors counts those that hold records of the stream.
func (s *stream) collectors() int {
	seen := map[*pair]struct{}{}
	for _, sp := range s.spans {
		seen[sp.pair] = struct{}{}
	}
	return len(seen)
}

// coarsenLocked joins intervals of the same collector until the stream has n of
// them, or one for each collector. Those go first that are close to each other
// for how long ago they were: what is recent stays fine.
func (h *History) coarsenLocked(st *stream, n int) {
	for len(st.spans) > n {
		before, after := st.closest(h.now())
		if after == nil {
			return
		}
		after.from, after.last = min(before.from, after.from), max(before.last, after.last)
		after.records += before.records
		after.bytes += before.bytes
		after.uncounted = after.uncounted || before.uncounted
		after.until = max(before.until, after.until, after.last)
		h.emitLocked(appendSpan(nil, after)) // before the other is gone
		if st.recent[before.pair.pool] == before {
			st.recent[before.pair.pool] = after
		}
		h.dropLocked(before)
		h.emitLocked(appendNumber(nil, kindDrop, before.num))
	}
}

// closest returns two intervals of one collector, in the order in which they
// began, with nothing of it between them; nil where each has one only.
func (s *stream) closest(now int64) (before, after *span) {
	best := 0.0
	last := map[*pair]*span{}
	for _, sp := range s.spans {
		if prev := last[sp.pair]; prev != nil {
			gap := max(sp.from-prev.last, prev.from-sp.last, 0)
			age := max(now-max(prev.last, sp.last), 0) + near
			if far := float64(gap) / float64(age); after == nil || far < best {
				before, after, best = prev, sp, far
			}
		}
		last[sp.pair] = sp
	}
	return before, after
}

// dropLocked takes an interval out.
func (h *History) dropLocked(sp *span) {
	st := sp.stream
	st.spans = slices.DeleteFunc(st.spans, func(s *span) bool { return s == sp })
	if h.latest[sp.key()] == sp {
		delete(h.latest, sp.key())
	}
	delete(h.dirty, sp)
	h.unchargeLocked(spanCost)
	if sp.pair.refs--; sp.pair.refs == 0 {
		delete(h.pairs, sp.pair.id())
		h.unchargeLocked(pairCost(sp.pair))
	}
}

// forgetLocked takes a stream out. From then on it is not known who holds what
// is as old as that.
func (h *History) forgetLocked(st *stream) {
	for _, sp := range st.spans {
		h.since = max(h.since, sp.last+1)
	}
	for len(st.spans) > 0 {
		h.dropLocked(st.spans[0])
	}
	delete(h.streams, st.id)
	h.unchargeLocked(streamCost(st))
	h.emitLocked(appendNumber(nil, kindSince, uint64(h.since)))
	for _, other := range h.streams {
		if other.owner == st.owner {
			other.since = h.since
			h.emitLocked(appendStream(nil, other))
		}
	}
	h.emitLocked(appendNumber(nil, kindForget, st.num))
}
