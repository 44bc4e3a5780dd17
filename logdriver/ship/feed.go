package ship

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/record"
)

const (
	// windowBytes is how much of one stream is read at a time before the next
	// stream has its turn.
	windowBytes = 64 << 10
	// maxRecord bounds a joined record in bytes, where nothing else is said.
	maxRecord = 1 << 20
)

// feed is one stream on its way to a collector. Exactly one lane works on it
// at a time: the one that lane points to.
type feed struct {
	id      feedID
	src     Source
	meta    atomic.Pointer[Meta]
	pool    *pool
	key     Key                     // its SplitAbove is guarded by pool.mu
	units   *units                  // of its records, where they go to several collectors; else nil
	ranking atomic.Pointer[[]place] // best first, never empty
	log     *slog.Logger
	stop    func() // ends the watch

	lane    atomic.Pointer[lane]
	queued  atomic.Bool   // in the queue of a lane
	over    atomic.Bool   // retired: whoever still finds it in a queue drops it
	closing atomic.Bool   // what has not been sent is not to be, see Shipper.End
	parcels atomic.Int64  // parcels of it, wherever they are
	taken   atomic.Uint64 // bytes read, those that were read again not counted
	place   atomic.Int64  // of a cluster's, that its key has now, see Spreader

	// What follows is guarded by pool.mu.
	counts uint64  // taken, as of the last tick
	rate   float64 // bytes per second
	split  int     // over how many collectors it is spread in time slices

	// What follows belongs to the lane's goroutine.
	tmpl        *encoder
	prepared    *Meta // what tmpl was made of
	failures    int   // reads that failed, one after the other
	cannotRead  pluginlog.Seldom
	evicted     pluginlog.Seldom
	unsaid      uint64 // bytes evicted of which nothing was said yet
	seeking     bool   // behind a gap, in the rest of a frame
	top         uint64 // how far it has ever been read
	counted     uint64 // losses before this offset have been counted
	damage      damage // not told of downstream yet
	join        record.Joiner
	spec        *process.Spec
	proc        *process.State        // nil where records are sent as they are
	processed   func(*process.Record) // what proc gives its records to
	emit        func(*Record)         // what takes records now
	ending      bool                  // what is left of a session is looked at
	stopped     bool                  // it has had its turn before its window was at its end
	paused      bool                  // it is over its rate
	resume      time.Time             // when it is not any more
	looked      time.Time             // when lines were looked for that do not go on
	entry       record.Entry
	gap         Range  // what is not acknowledged, at or behind read
	cut         uint64 // no record that was looked at begins before it and ends behind it
	solo        uint64 // from here on nothing but one line has been open
	end         uint64 // behind the frames that were looked at, the present one included
	read        uint64 // where the next window begins
	safe        uint64 // where a reader that begins anew would have to begin
	acked       uint64 // what the source was told
	unwritten   bool   // it could not write that down
	session     uint32
	unmarked    bool // the first frame at or behind edge is to be marked
	edge        uint64
	outstanding int  // batches under way, or being filled, that hold records of it
	held        bool // not read, because it is to move when nothing is outstanding
	rec         Record
	stats       *Stats
	counting    Held // what was put into the batch since its last mark
}

// place is one of a feed's ranking.
type place struct {
	lane *lane
	draw uint8 // below the lane's level, the feed is among those that it sheds
}

// notify puts the feed into its lane's queue if it is not there.
func (f *feed) notify() {
	if f.queued.CompareAndSwap(false, true) {
		f.lane.Load().push(f)
	}
}

// letGo is for a feed that is shipped no longer.
func (f *feed) letGo() {
	f.forget()
	f.src.Release()
}

// forget forgets records that are not complete.
func (f *feed) forget() {
	f.join.Reset()
	if f.proc != nil {
		f.proc.Reset(f.acked)
	}
}

// rewind begins again behind what is acknowledged.
func (f *feed) rewind() {
	f.forget()
	f.damage, f.counting = damage{}, Held{}
	f.read, f.safe, f.cut, f.solo = f.acked, f.acked, f.acked, f.acked
	f.end, f.gap = f.acked, f.src.Unacknowledged(f.acked)
	f.outstanding, f.held, f.unmarked = 0, false, false
}

// busy reports whether records of it are under way, or being put into a batch.
func (f *feed) busy() bool { return f.outstanding > 0 || f.units.waiting() }

// ended reports whether a feed that is to end has nothing under way any more,
// though not all of it is acknowledged.
func (f *feed) ended() bool {
	return f.units != nil && f.closing.Load() && f.parcels.Load() == 0
}

// home returns the lane that the feed belongs to now: the best that is healthy
// and does not shed it, else the best that is healthy, or simply the best where
// none is.
func (f *feed) home() *lane {
	ranking := *f.ranking.Load()
	for _, r := range ranking {
		if r.lane.takes(f) && !r.lane.sheds(r.draw) {
			return r.lane
		}
	}
	for _, r := range ranking {
		if r.lane.takes(f) {
			return r.lane
		}
	}
	return ranking[0].lane
}

// fill reads one window and gives every record that is complete to emit.
// It reports whether there may be more to read already.
func (f *feed) fill(buf *[]byte, emit func(*Record)) (more bool, err error) {
	f.refresh()
	out := f.out(emit)
	if f.pause() {
		return false, nil
	}
	f.pass(math.MaxUint64, out)
	span, err := f.src.Read(*buf, f.read)
	if errors.Is(err, io.EOF) {
		if span.Final {
			f.flush(out)
		}
		f.mark()
		return false, nil
	}
	if err != nil {
		return false, f.unreadable(err, out)
	}
	f.failures = 0
	f.enter(span, out)
	left := f.decode((*buf)[:span.Len], out)
	if f.read > f.top {
		f.taken.Add(f.read - f.top)
		f.top = f.read
	}
	more = span.Len == len(*buf)
	switch {
	case f.stopped:
		more = true
	case span.Final:
		f.finish(left, out)
		more = true // the next session, if there is one
	case len(left) == span.Len && more:
		growFor(buf, left)
	}
	f.mark()
	return more, nil
}

// out returns what the joiner gives its records to.
func (f *feed) out(emit func(*Record)) func(*record.Joined) {
	f.emit = emit
	if f.proc != nil {
		return func(j *record.Joined) { f.proc.Add(j, f.processed) }
	}
	return f.say
}

// say gives out a record as it is.
func (f *feed) say(j *record.Joined) {
	f.rec = Record{Offset: record.ID(j.Offset, j.Span), Time: j.Time, Stamped: j.Time, Stderr: j.Stderr, Cut: j.Cut, Line: j.Line}
	f.emit(&f.rec)
}

// flush gives out all that is not complete: nothing that follows belongs to it.
func (f *feed) flush(out func(*record.Joined)) {
	f.join.Flush(out)
	if f.proc != nil {
		f.proc.Flush(f.processed)
	}
}

// unfinished reports whether there is a record that is not complete.
func (f *feed) unfinished() bool {
	_, open := f.join.Open()
	if !open && f.proc != nil {
		_, open = f.proc.Open()
	}
	return open
}

// maxFailures is how often a read that fails is tried again before its
// segment is given up.
const maxFailures = 5

// unreadable counts the tries at bytes that cannot be read. After the last one
// it goes on behind them and returns nil.
func (f *feed) unreadable(err error, out func(*record.Joined)) error {
	var skip interface{ SkipTo() uint64 }
	if f.failures++; f.failures < maxFailures || !errors.As(err, &skip) || skip.SkipTo() <= f.read {
		return err
	}
	f.failures = 0
	f.log.Error("bytes of a stream cannot be read and are given up", "container", f.meta.Load().ContainerName, "stream", f.meta.Load().Stream, "bytes", skip.SkipTo()-f.read, "err", err)
	f.flush(out)
	f.sayLost(skip.SkipTo() - f.read)
	f.countLost(skip.SkipTo() - f.read)
	f.read, f.seeking = skip.SkipTo(), true
	f.mark()
	f.notify()
	return nil
}

// enter copes with what lies between the last window and this one: bytes that
// are gone, and the end of a session.
func (f *feed) enter(span Span, out func(*record.Joined)) {
	if span.From > f.read {
		f.tell(out)
		f.flush(out)
		if span.Lost > 0 {
			f.sayEvicted(span.Lost)
			f.sayLost(span.Lost)
			f.countLost(span.Lost)
		}
		f.read, f.seeking = span.From, span.Torn
	}
	if f.session != span.Session {
		f.flush(out)
		f.session = span.Session
	}
	if span.Unmarked {
		f.unmarked, f.edge = true, span.Edge
	}
}

// sayEvicted says, every now and then, how many bytes behind read were evicted.
func (f *feed) sayEvicted(bytes uint64) {
	if f.read < f.counted {
		return // they were seen before the connection broke
	}
	f.unsaid += bytes
	if _, due := f.evicted.Due(time.Now()); due {
		f.log.Error("records were evicted before they were delivered", "stream", f.meta.Load().Stream, "container", f.meta.Load().ContainerName, "bytes", f.unsaid, "said_again_after", f.evicted.Pause())
		f.unsaid = 0
	}
}

// countLost counts bytes behind read as lost, once.
func (f *feed) countLost(bytes uint64) {
	if f.read >= f.counted {
		f.stats.LostBytes.Add(bytes)
		f.counted = f.read + bytes
	}
}

// sayLost sends a record downstream in the place of what is gone. Its id goes by
// what that is, so that it too is sent only once, and is not that of a record which
// was sent before it was lost.
func (f *feed) sayLost(bytes uint64) {
	text := fmt.Appendf(nil, "[dockline] %d bytes of this container's output were dropped here: they could not be kept until a collector took them", bytes)
	now := time.Now().UnixNano()
	f.rec = Record{Offset: record.MarkID(f.read, bytes), Time: now, Stamped: now, Stderr: true, Line: text}
	f.emit(&f.rec)
}

// maxBehind bounds how many bytes of a stream may follow the last place that no
// record lies across, as a multiple of how long records may be. Beyond it, what
// there is of them is given out: lines without an end, or such that lie across
// each other without end, must not keep all that follows from being acknowledged.
const maxBehind = 3

// decode takes whole frames off b and returns what is left. It moves read.
func (f *feed) decode(b []byte, out func(*record.Joined)) []byte {
	for {
		if f.read < f.gap.From || f.read >= f.gap.To {
			b = b[f.pass(uint64(len(b)), out):]
		}
		frame, n, err := record.Next(b)
		if errors.Is(err, record.ErrShort) && (len(b) == 0 || !f.seeking || record.CouldBegin(b)) {
			return b
		}
		if err == nil {
			err = f.entry.Decode(frame)
		}
		if err != nil {
			skip, found := record.Resync(b)
			f.putAside(b[:skip], err.Error())
			b = b[skip:]
			if !found {
				return b
			}
			continue
		}
		f.tell(out)
		f.seeking = false
		if f.unmarked && f.read >= f.edge {
			f.unmarked = false
			f.src.Mark(f.edge, f.read, f.entry.Time)
		}
		f.end = f.read + uint64(n)
		f.beforeFrame()
		f.join.Add(f.read, &f.entry, out)
		f.afterFrame()
		f.read += uint64(n)
		b = b[n:]
		f.keepUp(out)
		if f.proc != nil && f.proc.Enough() && !f.ending {
			f.stopped = true
			return b
		}
	}
}

// keepUp gives out what is open, as pieces, if it is too far behind.
func (f *feed) keepUp(out func(*record.Joined)) {
	if f.read-f.cut <= maxBehind*uint64(f.join.Max) {
		return
	}
	for _, open := f.join.Open(); open; _, open = f.join.Open() {
		f.join.Expire(out)
	}
	if f.proc != nil {
		f.proc.Flush(f.processed)
	}
}

// beforeFrame and afterFrame find places that no record lies across: where none is
// open, and where a piece of a line ends beside which nothing has been.
func (f *feed) beforeFrame() {
	switch {
	case !f.unfinished():
		f.cut, f.solo = f.read, f.read
	case !f.oneLine():
		f.solo = f.end
	}
}

func (f *feed) afterFrame() {
	if open, _ := f.join.Open(); f.oneLine() && open > f.cut && open >= f.solo {
		f.cut = open
	}
}

// oneLine reports whether one line is open, and nothing else.
func (f *feed) oneLine() bool {
	kept := false
	if f.join.Len() == 1 && f.proc != nil {
		_, kept = f.proc.Open()
	}
	return f.join.Len() == 1 && !kept
}

// between is for a whole line that begins a record, when none is open.
func (f *feed) between() {
	if _, open := f.join.Open(); !open {
		f.cut = f.read
	}
}

// pass goes on, by at most so many bytes, behind what is acknowledged already:
// whole frames, of which no line goes on behind them. It returns by how many.
func (f *feed) pass(most uint64, out func(*record.Joined)) uint64 {
	if f.read >= f.gap.To {
		f.gap = f.src.Unacknowledged(f.read)
	}
	if f.read >= f.gap.From {
		return 0
	}
	f.tell(out)
	f.flush(out) // the joiner has nothing, but a record of several lines ends here
	n := min(most, f.gap.From-f.read)
	f.read += n
	f.seeking = false
	f.unmarked = f.unmarked && f.edge >= f.read // nobody looked where a frame begins
	return n
}

// finish is for what is left at the end of a session: a frame that was torn
// off, or good ones behind a place where none can begin.
func (f *feed) finish(left []byte, out func(*record.Joined)) {
	f.ending = true
	clean := f.damage.bytes == 0
	for len(left) > 0 {
		skip, _ := record.Resync(left)
		f.putAside(left[:skip], "the engine ended in the middle of a frame")
		if left = left[skip:]; len(left) > 0 {
			left, clean = f.decode(left, out), false
		} else {
			f.damage.torn = clean
		}
	}
	f.tell(out)
	f.seeking, f.ending = false, false
	f.flush(out)
}

// growFor makes room for the frame at the start of b, which is larger than
// the window.
func growFor(buf *[]byte, b []byte) {
	if need, err := record.Size(b); err == nil && need > len(*buf) {
		*buf = make([]byte, need)
	}
}

// mark notes how far a cursor could go if all that was emitted were acknowledged.
func (f *feed) mark() {
	if f.safe = f.read; f.unfinished() {
		f.safe = f.cut
	}
	if f.damage.bytes > 0 {
		f.safe = min(f.safe, f.damage.at)
	}
}

// ack tells the source what is acknowledged.
func (f *feed) ack(offset uint64) {
	if offset <= f.acked {
		return
	}
	f.acked = offset
	f.noted(f.src.Ack(offset))
}

// noted says so if a cursor cannot be written, and if it can again.
func (f *feed) noted(err error) {
	if failed := err != nil; failed != f.unwritten {
		f.unwritten = failed
		if !failed {
			f.log.Info("a cursor could be written again", "container", f.meta.Load().ContainerName, "stream", f.meta.Load().Stream)
			return
		}
		f.log.Error("a cursor could not be written; records may be sent twice after a restart", "container", f.meta.Load().ContainerName, "stream", f.meta.Load().Stream, "err", err)
	}
}

// settle acknowledges what needs no collector to say so: bytes behind the
// last acknowledged record that hold no record, or part of one.
func (f *feed) settle() {
	if !f.busy() {
		f.ack(f.safe)
	}
}
