package spool

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/internal/pluginlog"
)

const (
	segmentExt = ".seg"
	attachExt  = ".fifo"
	cursorExt  = ".cursor"

	// overhead is what a segment is taken to cost beside its bytes, so that a
	// great many small streams are bounded as well.
	overhead = 8 << 10
)

// Stream is all that one container wrote. Offsets count the bytes from its
// beginning; they only grow, and no byte ever changes its offset.
type Stream struct {
	sp     *Spool
	id     string
	dir    string
	header header
	name   atomic.Pointer[string] // of the container, for people

	room chan struct{} // has a value when protected data was acknowledged

	wmu      sync.Mutex // held over writes to the active segment; taken before mu
	active   *os.File   // the last segment, open for writing; guarded by wmu
	dropping *dropping  // where what comes is not kept; changed with wmu and mu held
	alarm    alarm      // guarded by wmu

	mu       sync.Mutex // guards what follows; never held over a write
	segs     []segment  // by offset; the last one may grow
	stamps   stamps     // when bytes came in
	end      uint64     // where the next byte goes
	writer   uint32     // session that wrote last
	sealed   bool       // the last segment takes no more bytes
	clean    bool       // the next byte begins a frame
	jumps    []jump     // where offsets were left out on purpose
	owed     *jump      // that is not on the disk yet, see boot.go
	boot     uint32     // in which the stream was made or last jumped
	drops    []drop     // where bytes were dropped, until every route knows
	held     int64      // bytes of it that count as protected
	syncedAt time.Time  // when it was last synced by Run
	sessions map[uint32]*Session
	last     uint32 // highest session number ever used
	cursors  map[string]*cursor
	watchers map[*func()]struct{}
	gone     bool // removed from the disk
	evicted  struct {
		bytes int64 // not acknowledged, of which nothing was said yet
		said  pluginlog.Seldom
	}
}

// segment is one file: a run of bytes from one session.
type segment struct {
	offset  uint64
	session uint32
	size    int64
	synced  int64 // so many bytes would survive a power cut
	wrote   time.Time
	known   bool  // first is
	first   Place // where the first frame that begins in it begins; may be behind its end
}

func (g segment) end() uint64 { return g.offset + uint64(g.size) }

func (g segment) name() string {
	return fmt.Sprintf("%016x-%08x%s", g.offset, g.session, segmentExt)
}

// marked reports whether all is known that a mark tells.
func (g segment) marked() bool { return g.known && g.first.Time != 0 }

func newStream(sp *Spool, id string) *Stream {
	return &Stream{
		sp: sp, id: id, dir: filepath.Join(sp.dir, streamsDir, id),
		room: make(chan struct{}, 1), sessions: map[uint32]*Session{}, cursors: map[string]*cursor{}, watchers: map[*func()]struct{}{},
	}
}

// ID returns the stream's id, the first part of the ids of its records.
func (st *Stream) ID() string { return st.id }

// Container returns the id of the container whose stream it is.
// It is "" where that cannot be read.
func (st *Stream) Container() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.header.Container
}

func (st *Stream) own(container string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.header.Container = container
	st.named()
}

// named is for a header that is another one.
func (st *Stream) named() {
	name := st.header.Container[:min(shortID, len(st.header.Container))]
	if st.sp.cfg.Name != nil {
		name = cmp.Or(st.sp.cfg.Name(st.header.Info), name)
	}
	st.name.Store(&name)
}

// shortID is how much of a container's id people see.
const shortID = 12

// Name returns the container's name, or the beginning of its id where it has none.
func (st *Stream) Name() string {
	if n := st.name.Load(); n != nil {
		return *n
	}
	return ""
}

// log is for what is to be said of the stream.
func (st *Stream) log() *slog.Logger {
	return st.sp.log.With("container", st.Name(), "stream", st.id)
}

// Info returns what the last Attach was given.
func (st *Stream) Info() json.RawMessage {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.header.Info
}

// Bytes returns how many bytes of the stream are on the disk.
func (st *Stream) Bytes() (n uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, g := range st.segs {
		n += uint64(g.size)
	}
	return n
}

// End returns the offset behind the last byte.
func (st *Stream) End() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.end
}

// Start returns the offset of the oldest frame there is.
func (st *Stream) Start() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.startLocked()
}

func (st *Stream) startLocked() uint64 {
	if len(st.segs) == 0 {
		return st.end
	}
	if g := st.segs[0]; g.known {
		return g.first.Offset
	}
	return st.segs[0].offset
}

// Live reports whether a session is attached: more bytes may come.
func (st *Stream) Live() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.sessions) > 0
}

// Watch has fn called whenever the stream has grown or a session has ended,
// until the function that it returns is called. fn runs with the stream locked:
// it must return at once and not call back.
func (st *Stream) Watch(fn func()) (stop func()) {
	w := &fn
	st.mu.Lock()
	defer st.mu.Unlock()
	st.watchers[w] = struct{}{}
	return func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		delete(st.watchers, w)
	}
}

// Changes is Watch with a channel, which gets one value for any number of
// changes since the last was taken.
func (st *Stream) Changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	return ch, st.Watch(func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	})
}

func (st *Stream) notifyLocked() {
	for fn := range st.watchers {
		(*fn)()
	}
}

// removeIfEmpty deletes a stream that nothing is attached to and that holds
// nothing: it never carried a byte, or all was acknowledged and evicted.
func (st *Stream) removeIfEmpty() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.sessions) > 0 || len(st.segs) > 0 || len(st.drops) > 0 || st.gone {
		return st.gone
	}
	if err := st.sp.cfg.disk.removeTree(st.dir); err != nil {
		st.log().Error("an empty stream could not be removed", "err", err)
		return false
	}
	st.gone = true
	for _, c := range st.cursors {
		c.close()
	}
	st.notifyLocked()
	return true
}

// ackedLocked returns the offset up to which every route has the stream.
func (st *Stream) ackedLocked() uint64 {
	acked := st.end
	for _, c := range st.cursors {
		if c.wants() {
			acked = min(acked, c.offset)
		}
	}
	return acked
}

// evictableLocked is the number of segments at the front that may be deleted:
// never the one that is being written.
func (st *Stream) evictableLocked() int {
	if n := len(st.segs); n > 0 && len(st.sessions) > 0 && !st.sealed {
		return n - 1
	}
	return len(st.segs)
}

func (st *Stream) appendVictims(all []victim, upTo stage) []victim {
	st.mu.Lock()
	defer st.mu.Unlock()
	acked, n := st.ackedLocked(), st.evictableLocked()
	protected, anyway := st.protectedLocked(), false
	switch upTo {
	case beingWritten:
		n = len(st.segs)
	case throttled:
		anyway = st.policyLocked() == Throttle
	case forgotten:
		if len(st.segs)+len(st.sessions) == 0 && len(st.drops) > 0 {
			return append(all, victim{stream: st, wrote: st.header.Created})
		}
		return all
	}
	first := len(all)
	for _, g := range st.segs[:n] {
		if g.end() <= acked || upTo != acknowledged && (anyway || g.end() <= protected) {
			all = append(all, victim{st, g.offset, g.wrote})
		}
	}
	// A clock that was set has no say in the order within a stream.
	for i := len(all) - 2; i >= first; i-- {
		if all[i].wrote.After(all[i+1].wrote) {
			all[i].wrote = all[i+1].wrote
		}
	}
	return all
}

// forget deletes a stream of which nothing is left but the news that something
// was dropped.
func (st *Stream) forget() {
	st.mu.Lock()
	if len(st.segs)+len(st.sessions) > 0 { // since it was looked at
		st.mu.Unlock()
		return
	}
	for _, d := range st.drops {
		_ = st.sp.cfg.disk.remove(filepath.Join(st.dir, d.name()))
		st.sp.used.Add(-overhead)
	}
	st.drops = nil
	st.mu.Unlock()
	if st.removeIfEmpty() {
		st.sp.forget(st)
	}
}

// seal closes the segment that is being written, so that it can be evicted;
// the next byte goes into a new one. It reports false where a write is going on.
func (st *Stream) seal() bool {
	if !st.wmu.TryLock() {
		return false
	}
	defer st.wmu.Unlock()
	st.closeActive()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sealed = true
	return true
}

// writeHeader replaces stream.json.
func (st *Stream) writeHeader(h header) error {
	data, err := json.Marshal(h)
	if err == nil {
		err = st.sp.cfg.disk.exchange(filepath.Join(st.dir, streamFile), data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", streamFile, err)
	}
	return nil
}

// evict deletes all segments up to and with the one at offset. Readers that
// are behind find a gap, which is what they count as lost.
func (st *Stream) evict(offset uint64, unacked bool) {
	st.mu.Lock()
	acked, n := st.ackedLocked(), 0
	var news *drop
	written := false
	for n < st.evictableLocked() && st.segs[n].offset <= offset {
		g := st.segs[n]
		if !unacked && g.end() > acked {
			break
		}
		st.locateFrames(n + 1)
		if n == len(st.segs)-1 {
			if news = st.newsLocked(g); news != nil {
				written = st.writeNews(news)
			}
		}
		if err := st.sp.cfg.disk.remove(filepath.Join(st.dir, g.name())); err != nil {
			news = nil
			st.log().Error("a segment could not be evicted", "segment", g.name(), "err", err)
			break
		}
		if lost := int64(st.missingLocked(g.offset, g.end())); lost > 0 {
			st.countEvicted(lost, g.end() > st.protectedLocked())
		}
		st.sp.used.Add(-g.size - overhead)
		n++
	}
	st.segs = slices.Delete(st.segs, 0, n)
	if news != nil {
		st.evictedLocked(*news, written)
	}
	if len(st.segs) == 0 && n > 0 && len(st.cursors) > 0 && acked == st.end {
		st.clean = true // routes acknowledge whole frames
	}
	st.recountLocked()
	st.mu.Unlock()
	if n > 0 && st.removeIfEmpty() {
		st.sp.forget(st)
	}
}

// trim evicts acknowledged segments beyond what is kept for docker logs.
func (st *Stream) trim() {
	st.mu.Lock()
	excess := -st.header.KeepBytes
	for _, g := range st.segs {
		excess += g.size
	}
	var upTo uint64
	found := false
	for _, g := range st.segs[:st.evictableLocked()] {
		if excess < g.size || g.end() > st.deletableLocked() {
			break
		}
		excess -= g.size
		upTo, found = g.offset, true
	}
	empty := len(st.segs) == 0
	st.mu.Unlock()
	if found {
		st.evict(upTo, false)
	} else if empty && st.removeIfEmpty() {
		st.sp.forget(st)
	}
}
