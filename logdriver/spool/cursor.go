package spool

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cursor is what one route has acknowledged of a stream, and the file that says
// so, see acked.go.
type cursor struct {
	acked          // guarded by Stream.mu
	until   uint64 // the route wants nothing at or behind it, see RouteUntil; guarded by Stream.mu
	moves   uint64 // how often that has changed; guarded by Stream.mu
	torn    bool   // the file did not check when it was read
	durable uint64 // offset, as it would survive a power cut where the stream is synced; guarded by Stream.mu
	disk    disk
	open    *atomic.Int64 // how many files the spool holds open

	mu     sync.Mutex // held over writes, for which Stream.mu is not; guards what follows
	path   string
	number uint64   // of the slot that was written last
	wrote  uint64   // moves, as of then
	file   *os.File // open while the cursor moves
	gone   bool     // not to be written again
}

// loadCursor reads a cursor. One of which a power cut has left nothing counts as
// standing at the oldest frame there is: what is still spooled is sent again,
// which costs duplicates and loses nothing.
func (s *Spool) loadCursor(path string) *cursor {
	c := &cursor{disk: s.cfg.disk, open: &s.health.open, path: path, until: untilOf(path)}
	data, err := os.ReadFile(path)
	if err == nil {
		c.acked, c.number, _ = decodeSlots(data)
	}
	c.torn = c.number == 0
	return c
}

// ReadCursor returns the offset in a cursor's file, for those who look at a
// spool that is another process's.
func ReadCursor(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read a cursor: %w", err)
	}
	a, _, ok := decodeSlots(data)
	if !ok {
		return 0, fmt.Errorf("read a cursor: neither slot of %s checks", path)
	}
	return a.offset, nil
}

// store writes what is acknowledged after so many moves into the slot that was
// not written last, if nothing newer is there. A quiet stream holds no descriptor.
func (c *cursor) store(a acked, moves uint64, quiet bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if moves < c.wrote || c.gone {
		return nil
	}
	if c.file == nil {
		f, err := c.disk.open(c.path, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return fmt.Errorf("open a cursor: %w", err)
		}
		c.file = f
		c.open.Add(1)
	}
	next := c.number + 1
	if err := c.disk.writeAt(c.file, a.encode(next), int64(next%2)*slotBytes); err != nil {
		return fmt.Errorf("write a cursor: %w", err)
	}
	c.number, c.wrote = next, moves
	if quiet {
		c.closeLocked()
	}
	return nil
}

// close is for a cursor that is about to be deleted.
func (c *cursor) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.closeLocked()
}

// closeLocked closes the file, if it is open, until the cursor moves again.
func (c *cursor) closeLocked() bool {
	if c.file == nil {
		return false
	}
	_ = c.file.Close()
	c.file = nil
	c.open.Add(-1)
	return true
}

const untilMark = "_until_"

// RouteUntil returns the name of a route that wants only what is before an
// offset. base has no underscore.
func RouteUntil(base string, offset uint64) string {
	return base + untilMark + strconv.FormatUint(offset, 16)
}

// SplitRoute undoes RouteUntil. until is math.MaxUint64 for a route that wants
// all there will be.
func SplitRoute(route string) (base string, until uint64) {
	base, digits, _ := strings.Cut(route, untilMark)
	until, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return route, math.MaxUint64
	}
	return base, until
}

func untilOf(path string) uint64 {
	_, until := SplitRoute(strings.TrimSuffix(filepath.Base(path), cursorExt))
	return until
}

// owed appends what of the offsets from..to the route wants and has not acknowledged.
func (c *cursor) owed(all []Range, from, to uint64) []Range {
	return c.missing(all, from, min(to, c.until))
}

// wants reports whether more may come that the route wants, or it has not all of that.
func (c *cursor) wants() bool { return c.offset < c.until }

var routeName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// AddRoute makes sure that the route has a cursor; a new one begins at the
// oldest byte there is. What a route has not acknowledged is not evicted while
// there is room.
func (st *Stream) AddRoute(route string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.routeLocked(route)
}

func (st *Stream) routeLocked(route string) error { return st.newRouteLocked(route, st.startLocked()) }

func (st *Stream) newRouteLocked(route string, offset uint64) error {
	if st.cursors[route] != nil || st.gone {
		return nil
	}
	if !routeName.MatchString(route) {
		return fmt.Errorf("route name %q does not match %s", route, routeName)
	}
	c := &cursor{disk: st.sp.cfg.disk, open: &st.sp.health.open, until: untilOf(route), path: filepath.Join(st.dir, route+cursorExt), acked: acked{offset: offset}}
	if err := c.store(c.acked, 0, true); err != nil {
		return err
	}
	st.cursors[route] = c
	st.recountLocked()
	return nil
}

// AddRouteAt is AddRoute for a route that begins at offset, where a frame begins.
func (st *Stream) AddRouteAt(route string, offset uint64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.newRouteLocked(route, max(offset, st.startLocked()))
}

// RenameRoute has another route go on where one is. There is no moment at which
// a crash leaves neither.
func (st *Stream) RenameRoute(from, to string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.cursors[from]
	switch {
	case st.gone:
		return nil
	case c == nil || st.cursors[to] != nil:
		return fmt.Errorf("have route %q go on as %q: the one has to be there and the other not", from, to)
	case !routeName.MatchString(to):
		return fmt.Errorf("route name %q does not match %s", to, routeName)
	}
	if err := c.rename(filepath.Join(st.dir, to+cursorExt)); err != nil {
		return fmt.Errorf("rename a cursor: %w", err)
	}
	delete(st.cursors, from)
	st.cursors[to] = c
	c.until = untilOf(to)
	st.recountLocked()
	return nil
}

func (c *cursor) where() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path
}

func (c *cursor) rename(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
	if err := c.disk.rename(c.path, path); err != nil {
		return err
	}
	c.path = path
	return nil
}

// Routes returns the routes that have a cursor in the stream, in order.
func (st *Stream) Routes() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Sorted(maps.Keys(st.cursors))
}

// RemoveRoute forgets the route's cursor: nothing waits for it any more.
func (st *Stream) RemoveRoute(route string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.cursors[route]
	if c == nil {
		return nil
	}
	c.close()
	if err := st.sp.cfg.disk.remove(c.where()); err != nil {
		return fmt.Errorf("remove a cursor: %w", err)
	}
	delete(st.cursors, route)
	st.recountLocked()
	return nil
}

// HasRoute reports whether the route has a cursor in the stream.
func (st *Stream) HasRoute(route string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.cursors[route] != nil
}

// Cursor returns the offset up to which the route has acknowledged the whole
// stream. Beyond it, there may be ranges that are acknowledged, too.
func (st *Stream) Cursor(route string) uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c := st.cursors[route]; c != nil {
		return c.offset
	}
	return 0
}

// Backlog returns how many bytes of the stream the route has not acknowledged,
// and since when about the oldest of them has waited; the zero time for none.
func (st *Stream) Backlog(route string) (bytes uint64, since time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.cursors[route]
	if c == nil {
		return 0, time.Time{}
	}
	for i := range st.segs {
		g := &st.segs[i]
		left := c.owed(nil, g.offset, g.end())
		bytes += total(left)
		if len(left) > 0 && since.IsZero() {
			since = st.writtenLocked(g, left[0].From)
		}
	}
	return bytes, since
}

func total(ranges []Range) (n uint64) {
	for _, r := range ranges {
		n += r.To - r.From
	}
	return n
}

// missingLocked is how many of the offsets from..to some route has not
// acknowledged.
func (st *Stream) missingLocked(from, to uint64) uint64 {
	var left []Range
	for _, c := range st.cursors {
		left = c.owed(left, from, to)
	}
	if len(st.cursors) > 1 {
		union := acked{offset: from}.with(left...)
		return union.offset - from + total(union.beyond)
	}
	return total(left)
}

// Unacknowledged returns the first offsets at or behind offset that the route
// has not acknowledged; they go on for ever where To is math.MaxUint64.
func (st *Stream) Unacknowledged(route string, offset uint64) Range {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c := st.cursors[route]; c != nil {
		return c.next(offset)
	}
	return Range{offset, math.MaxUint64}
}

// Ranges returns how many ranges the route has acknowledged beyond its cursor.
func (st *Stream) Ranges(route string) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c := st.cursors[route]; c != nil {
		return len(c.beyond)
	}
	return 0
}

// AckRanges notes that the route has acknowledged these offsets, where the
// records of one stream go to several collectors and one is behind. The cursor
// moves on as soon as nothing is missing before it. All ranges are noted or
// none: the frames of one record belong into one call.
//
// There are never more than MaxRanges of them beyond a cursor; an
// acknowledgement that would make more gets ErrRanges. So that this does not
// happen, whoever ships a stream waits for the slow collector before it sends
// what could make Ranges and what is under way together more than MaxRanges.
func (st *Stream) AckRanges(route string, ranges ...Range) error {
	st.mu.Lock()
	c := st.cursors[route]
	if c == nil || st.gone {
		st.mu.Unlock()
		return nil
	}
	now := c.with(ranges...)
	if len(now.beyond) > MaxRanges {
		st.mu.Unlock()
		return ErrRanges
	}
	return st.moveTo(c, now)
}

// Ack moves the route's cursor on to offset. It never moves back.
func (st *Stream) Ack(route string, offset uint64) error {
	st.mu.Lock()
	c := st.cursors[route]
	if c == nil || st.gone || offset <= c.offset {
		st.mu.Unlock()
		return nil
	}
	return st.moveTo(c, c.with(Range{0, offset}))
}

// moveTo makes the cursor say what is acknowledged now. It is called with mu
// held, which it gives back.
func (st *Stream) moveTo(c *cursor, now acked) error {
	c.acked = now
	c.moves++
	moves, quiet, tidy := c.moves, now.offset == st.end, st.evictableLocked() > 0 || len(st.segs) == 0
	st.recountLocked()
	st.forgetDropsLocked()
	st.mu.Unlock()
	err := c.store(now, moves, quiet)
	if tooManyFiles(err) && st.sp.giveBack() {
		err = c.store(now, moves, quiet)
	}
	if err != nil {
		st.sp.health.cursorErrors.Add(1)
	}
	if tidy {
		st.trim()
	}
	return err
}
