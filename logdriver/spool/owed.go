package spool

import (
	"math"
	"slices"
	"time"
)

// Leaving reports whether a route wants only what is before an offset (RouteUntil).
func Leaving(route string) bool {
	_, until := SplitRoute(route)
	return until != math.MaxUint64
}

// Live reports whether a container writes to the spool.
func (s *Spool) Live(container string) bool {
	st := s.Of(container)
	return st != nil && st.Live()
}

// Owed reports whether a route has not acknowledged all that it wants of what there is.
func (st *Stream) Owed(route string) bool {
	_, until := SplitRoute(route)
	at := st.Cursor(route)
	return at < until && st.Pending(at)
}

// Undelivered reports whether some route has not acknowledged all that it wants.
func (st *Stream) Undelivered() bool { return slices.ContainsFunc(st.Routes(), st.Owed) }

// FurthestBehind returns the largest of the routes' backlogs, in bytes, and since
// when about the oldest byte of all of them has waited.
func (st *Stream) FurthestBehind() (most uint64, oldest time.Time) {
	for _, r := range st.Routes() {
		b, since := st.Backlog(r)
		most = max(most, b)
		if !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return most, oldest
}
