package spool

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// OnFull says what gives way in a stream when data that some route has not yet
// fills the spool.
type OnFull int

// What can give way: the oldest data of the stream, what comes anew, or the
// speed at which the container may write.
const (
	DropOldest OnFull = iota
	DropNewest
	Throttle
)

var onFullNames = []string{"drop-oldest", "drop-newest", "throttle"}

func (o OnFull) String() string { return onFullNames[o] }

// MarshalText implements encoding.TextMarshaler.
func (o OnFull) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty is DropOldest.
func (o *OnFull) UnmarshalText(text []byte) error {
	i := slices.Index(onFullNames, string(text))
	if i < 0 && len(text) > 0 {
		return errors.New("not one of drop-oldest, drop-newest, throttle")
	}
	*o = OnFull(max(0, i))
	return nil
}

// protected reports whether what is not acknowledged is kept when others' is
// evicted. In return, the stream must not take all the room there is.
func (o OnFull) protected() bool { return o != DropOldest }

// OfRoutes are the policies of routes that have one of their own, by name,
// without what RouteUntil puts behind it.
type OfRoutes map[string]OnFull

// onFullLocked returns what gives way for a route.
func (st *Stream) onFullLocked(route string) OnFull {
	base, _ := SplitRoute(route)
	if o, ok := st.header.OfRoutes[base]; ok {
		return o
	}
	return st.header.OnFull
}

// OnFullOf returns what gives way for a route when the spool is full.
func (st *Stream) OnFullOf(route string) OnFull {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.onFullLocked(route)
}

// protectedLocked returns the offset from which on there is protected data: what
// some route has not acknowledged that drops nothing of its oldest.
func (st *Stream) protectedLocked() uint64 {
	at, _ := st.behindLocked()
	return at
}

// policyLocked returns what gives way in the stream: of its protected routes, the
// one that is furthest behind has the say. Where none is behind, it is what would
// be if one were.
func (st *Stream) policyLocked() OnFull {
	_, policy := st.behindLocked()
	return policy
}

func (st *Stream) behindLocked() (at uint64, policy OnFull) {
	at, policy = st.end, DropOldest
	if len(st.cursors) == 0 {
		return at, st.header.OnFull
	}
	for route, c := range st.cursors {
		o := st.onFullLocked(route)
		if !o.protected() || !c.wants() {
			continue
		}
		if c.offset < at || policy == DropOldest || c.offset == at && o > policy {
			at, policy = min(at, c.offset), o
		}
	}
	return at, policy
}

func (st *Stream) policy() OnFull {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.policyLocked()
}

func (st *Stream) mayDropNewestLocked() bool {
	if st.header.OnFull == DropNewest {
		return true
	}
	for _, o := range st.header.OfRoutes {
		if o == DropNewest {
			return true
		}
	}
	return false
}

// SetOfRoutes changes the policies of routes that have one of their own.
func (st *Stream) SetOfRoutes(of OfRoutes) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone || maps.Equal(st.header.OfRoutes, of) {
		return nil
	}
	h := st.header
	h.OfRoutes = of
	if err := st.writeHeader(h); err != nil {
		return err
	}
	st.header = h
	st.recountLocked()
	return nil
}

const (
	// forOthers is the part of the spool that protected data leaves alone: one
	// in so many bytes.
	forOthers = 8
	// A stream of protected data gives way when it holds more than so many
	// times what is left for all, and no longer when it holds less than so many
	// times that (dynamic thresholds: Choudhury and Hahne, 1998). One alone gets
	// four fifths, two get four ninths each, and there is always room for one
	// that has just begun.
	giveWayAbove = 4
	goOnBelow    = 3
	// fullTime is how long a disk counts as full after it said so and nothing
	// was found to make room.
	fullTime = 5 * time.Second
)

// limit is how much the spool may take now.
func (s *Spool) limit() int64 {
	limit := s.cfg.MaxBytes
	if missing := s.cfg.MinFree - s.free(); missing > 0 {
		limit = min(limit, s.used.Load()-missing)
	}
	return limit
}

// Limit is how much disk space the spool may come to take as things are: less than
// it was given where its disk has not that much beside what is to be left alone.
func (s *Spool) Limit() int64 {
	used := s.used.Load()
	if left := s.free() - s.cfg.MinFree; left < s.cfg.MaxBytes-used {
		return max(1, used+left)
	}
	return s.cfg.MaxBytes
}

// room is how much more protected data the spool can take.
func (s *Spool) room() int64 {
	if at := s.fullAt.Load(); at != 0 && time.Since(time.Unix(0, at)) < fullTime {
		return -1
	}
	limit := s.limit()
	return limit - limit/forOthers - s.protected.Load()
}

// givesWay reports whether the stream's policy has to act, which for one that
// does already ends a little later than it began.
func (st *Stream) givesWay(already bool) bool {
	st.mu.Lock()
	held, policy := st.held, st.policyLocked()
	st.mu.Unlock()
	if !policy.protected() {
		return false
	}
	factor := int64(giveWayAbove)
	if already {
		factor = goOnBelow
	}
	room := st.sp.room()
	return room <= 0 || held/factor >= room
}

// recountLocked brings what is known of the stream's protected data up to date.
func (st *Stream) recountLocked() {
	var n int64
	if acked := st.protectedLocked(); !st.gone {
		for i := len(st.segs) - 1; i >= 0 && st.segs[i].end() > acked; i-- {
			n += int64(st.segs[i].end()-max(acked, st.segs[i].offset)) + overhead
		}
	}
	st.sp.protected.Add(n - st.held)
	if n < st.held {
		select {
		case st.room <- struct{}{}:
		default:
		}
	}
	st.held = n
}

// OnFull returns what gives way in the stream when the spool is full, for routes
// that have none of their own.
func (st *Stream) OnFull() OnFull {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.header.OnFull
}

// GivesWay reports whether the stream is live and its policy acts now: what
// comes is dropped, or the container is slowed down.
func (st *Stream) GivesWay() bool {
	st.mu.Lock()
	live, policy, dropping := len(st.sessions) > 0, st.policyLocked(), st.dropping != nil
	st.mu.Unlock()
	return live && (dropping || policy == Throttle && st.givesWay(false))
}

// Slow reports whether the container is to be slowed down, because it is one
// that is throttled and its data has filled what it may. The channel gets a
// value when some of that is acknowledged.
//
// The spool itself does not hold a throttled session up: its bytes are taken
// whenever Splice is called. So the pipe can be emptied when a session ends,
// and the data that the trickle brings, once there is no room at all, replaces
// the oldest of the throttled streams.
func (se *Session) Slow() (slow bool, room <-chan struct{}) {
	if se.st.policy() != Throttle {
		return false, nil
	}
	return se.st.givesWay(false), se.st.room
}

// Dropped counts bytes and records that the spool did not keep until every
// route had them.
type Dropped struct {
	Reason  string // a policy, or "disk" for a disk that took nothing
	Bytes   int64
	Records int64 // -1 where they were not counted; chunks of long lines count each
}

// Dropped returns what was dropped since this process began, by reason.
func (s *Spool) Dropped() []Dropped {
	return []Dropped{
		{DropOldest.String(), s.dropped.oldest.Load(), -1},
		{DropNewest.String(), s.dropped.newest.bytes.Load(), s.dropped.newest.records.Load()},
		{Throttle.String(), s.dropped.throttled.Load(), -1},
		{"disk", s.dropped.disk.bytes.Load(), s.dropped.disk.records.Load()},
	}
}

// countEvicted counts, and says every now and then, that unacknowledged bytes were evicted.
func (st *Stream) countEvicted(bytes int64, protected bool) {
	counter, policy := &st.sp.dropped.oldest, DropOldest
	if protected {
		counter, policy = &st.sp.dropped.throttled, Throttle
	}
	counter.Add(bytes)
	st.evicted.bytes += bytes
	if _, due := st.evicted.said.Due(time.Now()); due {
		st.log().Error("the spool is full: data that was not delivered yet is dropped; the collectors have to take more, or SPOOL_MAX to be larger",
			"on_full", policy, "bytes", st.evicted.bytes, "said_again_after", st.evicted.said.Pause())
		st.evicted.bytes = 0
	}
}

// makeRoom is reclaim for a stream that got err, if that says that the disk is
// full. A throttled one replaces the oldest data of such where there is no other.
func (st *Stream) makeRoom(err error) bool {
	if !isFull(err) {
		return false
	}
	if st.sp.reclaim() {
		return true
	}
	st.sp.fullAt.Store(time.Now().UnixNano())
	return st.policy() == Throttle && st.sp.reclaimFrom(throttled)
}

// reclaim makes room on a disk that is full though the spool is within its
// bound: acknowledged data goes, then that of streams that drop their oldest.
// It reports whether anything went.
func (s *Spool) reclaim() bool { return s.reclaimFrom(acknowledged, unacknowledged, beingWritten) }

func (s *Spool) reclaimFrom(stages ...stage) bool {
	if !s.evictor.TryLock() {
		return false
	}
	defer s.evictor.Unlock()
	before := s.used.Load()
	s.evictTo(before-s.cfg.SegmentBytes, stages...)
	return s.used.Load() < before
}

// ParseOnFull reads a policy; empty is the default.
func ParseOnFull(text string, def OnFull) (OnFull, error) {
	if text == "" {
		return def, nil
	}
	var o OnFull
	if err := o.UnmarshalText([]byte(text)); err != nil {
		return def, err
	}
	return o, nil
}
