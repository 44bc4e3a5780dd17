package spool

import (
	"sort"
	"time"
)

// stamps say about when which bytes of a stream were written: none of those from
// an offset on before its time. A segment's own times do not: it may grow for
// days, and some of it be acknowledged.
type stamps []stamp

type stamp struct {
	offset uint64
	at     time.Time
}

const (
	stampEvery = time.Second
	stampPart  = 8 // a stamp for each such part of the time that the oldest byte has waited
)

// put notes that what follows offset is written now. What is before keep has
// waited to the end. There are the more of them the longer something waits, but
// as its logarithm only.
func (s stamps) put(offset uint64, now time.Time, keep uint64) stamps {
	if i := s.of(keep); i > 0 {
		s = append(s[:0], s[i:]...)
	}
	if n := len(s); n > 0 && now.Sub(s[n-1].at) < max(stampEvery, now.Sub(s[0].at)/stampPart) {
		return s
	}
	return append(s, stamp{offset, now})
}

// of returns the index of the stamp of a byte, -1 for none.
func (s stamps) of(offset uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].offset > offset }) - 1
}

// stampLocked notes that bytes come in now. It is called before they count.
func (st *Stream) stampLocked(now time.Time) {
	least := st.end
	for _, c := range st.cursors {
		least = min(least, c.offset)
	}
	st.stamps = st.stamps.put(st.end, now, least)
}

// writtenLocked is about when a byte in a segment was written, or before that.
func (st *Stream) writtenLocked(g *segment, offset uint64) time.Time {
	if first := time.Unix(0, g.first.Time); offset == g.offset && g.first.Time != 0 && !first.After(time.Now()) {
		return first
	}
	if i := st.stamps.of(offset); i >= 0 {
		return st.stamps[i].at
	}
	return g.wrote
}

// past returns a time, or now where it is yet to come: on a host whose clock was set
// back nothing would have waited for any time until it is where it was.
func past(t time.Time) time.Time {
	if now := time.Now(); t.After(now) {
		return now
	}
	return t
}
