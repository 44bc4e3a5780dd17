package ship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

const (
	// windowBytes is how much of one stream is read at a time before the next
	// stream has its turn.
	windowBytes = 64 << 10
	// maxRecord bounds a joined record in bytes.
	maxRecord = 1 << 20
)

// feed is one stream on its way to a collector. Exactly one lane works on it
// at a time: the one that lane points to.
type feed struct {
	src     Source
	meta    *Meta
	pool    *pool
	ranking []*lane // best first
	log     *slog.Logger
	stop    func() // ends the watch

	lane   atomic.Pointer[lane]
	queued atomic.Bool // in the queue of a lane

	// What follows belongs to the lane's goroutine.
	tmpl        Template
	join        record.Joiner
	entry       record.Entry
	read        uint64 // where the next window begins
	safe        uint64 // where a reader that begins anew would have to begin
	acked       uint64 // what the source was told
	session     uint32
	unmarked    bool // the first frame at or behind edge is to be marked
	edge        uint64
	outstanding int  // batches under way, or being filled, that hold records of it
	held        bool // not read, because it is to move when nothing is outstanding
	rec         Record
	stats       *Stats
}

// notify puts the feed into its lane's queue if it is not there.
func (f *feed) notify() {
	if f.queued.CompareAndSwap(false, true) {
		f.lane.Load().push(f)
	}
}

// rewind begins again behind what is acknowledged.
func (f *feed) rewind() {
	f.join.Reset()
	f.read, f.safe = f.acked, f.acked
	f.outstanding, f.held, f.unmarked = 0, false, false
}

// home returns the lane that the feed belongs to now: the best that is
// healthy, or simply the best where none is.
func (f *feed) home() *lane {
	for _, l := range f.ranking {
		if l.healthy.Load() {
			return l
		}
	}
	return f.ranking[0]
}

// fill reads one window and gives every record that is complete to emit.
// It reports whether there may be more to read already.
func (f *feed) fill(buf *[]byte, emit func(*Record)) (more bool, err error) {
	out := func(j *record.Joined) {
		f.rec = Record{Offset: j.Offset, Time: j.Time, Stderr: j.Stderr, Cut: j.Cut, Line: j.Line}
		emit(&f.rec)
	}
	span, err := f.src.Read(*buf, f.read)
	if errors.Is(err, io.EOF) {
		if span.Final {
			f.join.Flush(out)
		}
		f.mark()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f.enter(span, out)
	left := f.decode((*buf)[:span.Len], out)
	more = span.Len == len(*buf)
	switch {
	case span.Final:
		f.quarantine(left, "the engine ended in the middle of a frame")
		f.join.Flush(out)
		more = true // the next session, if there is one
	case left != nil && len(left) == span.Len && more:
		growFor(buf, left)
	}
	f.mark()
	return more, nil
}

// enter copes with what lies between the last window and this one: bytes that
// are gone, and the end of a session.
func (f *feed) enter(span Span, out func(*record.Joined)) {
	if span.From > f.read {
		f.stats.LostBytes.Add(span.From - f.read)
		f.log.Error("records were evicted before they were delivered", "stream", f.meta.Stream, "container", f.meta.ContainerName, "bytes", span.From-f.read)
		f.join.Flush(out)
		out(f.lossMarker(span.From - f.read))
		f.read = span.From
	}
	if f.session != span.Session {
		f.join.Flush(out)
		f.session = span.Session
	}
	if span.Unmarked {
		f.unmarked, f.edge = true, span.Edge
	}
}

// lossMarker is the record that goes downstream in the place of what is gone.
// Its id is that of the first lost record, so that it too is sent only once.
func (f *feed) lossMarker(bytes uint64) *record.Joined {
	text := fmt.Appendf(nil, "[dockline] %d bytes of this container's output were dropped here: the spool was full before a collector had taken them", bytes)
	return &record.Joined{Offset: f.read, Time: time.Now().UnixNano(), Stderr: true, Line: text}
}

// decode takes whole frames off b and returns what is left. It moves read.
func (f *feed) decode(b []byte, out func(*record.Joined)) []byte {
	for {
		frame, n, err := record.Next(b)
		if errors.Is(err, record.ErrShort) {
			return b
		}
		if err == nil {
			err = f.entry.Decode(frame)
		}
		if err != nil {
			skip, _ := record.Resync(b)
			f.quarantine(b[:skip], err.Error())
			b = b[skip:]
			continue
		}
		if f.unmarked && f.read >= f.edge {
			f.unmarked = false
			f.src.Mark(f.edge, f.read, f.entry.Time)
		}
		f.join.Add(f.read, &f.entry, out)
		f.read += uint64(n)
		b = b[n:]
	}
}

// quarantine puts bytes aside and goes on behind them.
func (f *feed) quarantine(b []byte, why string) {
	if len(b) == 0 {
		return
	}
	f.stats.QuarantinedBytes.Add(uint64(len(b)))
	err := f.src.Quarantine(f.read, b)
	f.log.Error("bytes of a stream are no records and were put into quarantine",
		"stream", f.meta.Stream, "container", f.meta.ContainerName, "offset", f.read, "bytes", len(b), "why", why, "err", err)
	f.read += uint64(len(b))
}

// growFor makes room for the frame at the start of b, which is larger than
// the window.
func growFor(buf *[]byte, b []byte) {
	if need := record.HeaderLen + int(binary.BigEndian.Uint32(b)); need > len(*buf) {
		*buf = make([]byte, need)
	}
}

// mark notes how far a cursor could go if all that was emitted were acknowledged.
func (f *feed) mark() {
	f.safe = f.read
	if open, ok := f.join.Open(); ok {
		f.safe = open
	}
}

// ack tells the source what is acknowledged.
func (f *feed) ack(offset uint64) {
	if offset <= f.acked {
		return
	}
	f.acked = offset
	if err := f.src.Ack(offset); err != nil {
		f.log.Error("a cursor could not be written; records may be sent twice after a restart", "stream", f.meta.Stream, "err", err)
	}
}

// settle acknowledges what needs no collector to say so: bytes behind the
// last acknowledged record that hold no record, or part of one.
func (f *feed) settle() {
	if f.outstanding == 0 {
		f.ack(f.safe)
	}
}
