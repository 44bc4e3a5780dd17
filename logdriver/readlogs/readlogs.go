// Package readlogs answers `docker logs` from the spool: what the application
// wrote, with the chunks of long lines joined, whether the container runs, has
// stopped or was restarted, and wherever shipping stands.
package readlogs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/spool"
)

// Query says which records are asked for.
type Query struct {
	Since, Until time.Time // zero: no bound
	Tail         int       // the last so many records; negative: all
	Follow       bool      // go on until the container stops
}

const (
	windowBytes = 64 << 10
	maxRecord   = 1 << 20
	// openTime is after how long without more of it a line is shown whose end has
	// not come; twice as long at most.
	openTime   = 5 * time.Second
	writeBytes = 32 << 10 // frames are gathered up to here before they are written
)

// Write writes the frames of the records asked for to w. It returns nil at the
// end of the records, which for a follow is the end of the container's run, and
// ctx's error when that ends first.
func Write(ctx context.Context, st *spool.Stream, q Query, w io.Writer) error {
	changes, stop := st.Changes()
	defer stop()
	r := newReader(st)
	defer r.src.Close()
	out := &output{w: w, query: q}
	if q.Tail >= 0 {
		from, err := r.findTail(ctx, q.Tail)
		if err != nil {
			return err
		}
		r.seek(from.begin)
		out.skipTo(from)
		r.gap = func() { out.skip = false } // what was skipped to may be gone
	} else if !q.Since.IsZero() {
		r.seek(since(st, q.Since))
	}
	idle := time.NewTicker(openTime)
	defer idle.Stop()
	for {
		ended, err := r.readToEnd(ctx, out.add)
		if err == nil {
			err = out.flush()
		}
		if err != nil || out.past || !q.Follow || ended {
			return err
		}
		select {
		case <-changes:
		case <-idle.C:
			r.join.ExpireIdle(out.add)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reader turns a stream into joined records.
type reader struct {
	src     *spool.Reader
	st      *spool.Stream
	join    record.Joiner
	entry   record.Entry
	buf     []byte
	offset  uint64
	session uint32
	mark    *uint64 // the segment whose first frame is to be marked
	gap     func()  // called where bytes are gone
}

func newReader(st *spool.Stream) *reader {
	return &reader{st: st, src: st.NewReader(), join: record.Joiner{Max: maxRecord}, buf: make([]byte, windowBytes), offset: st.Start(), gap: func() {}}
}

func (r *reader) seek(offset uint64) {
	r.join.Reset()
	r.offset, r.session, r.mark = offset, 0, nil
}

// safe returns where a reader would have to begin to see, whole, every record
// that is not given out yet.
func (r *reader) safe() uint64 {
	if open, ok := r.join.Open(); ok {
		return open
	}
	return r.offset
}

// readToEnd gives all records up to the stream's present end to emit and
// reports whether more can come.
func (r *reader) readToEnd(ctx context.Context, emit func(*record.Joined)) (ended bool, err error) {
	for ctx.Err() == nil {
		ended = !r.st.Live() // looked at before the read, so that nothing is missed
		span, err := r.src.Read(r.buf, r.offset)
		if errors.Is(err, io.EOF) {
			if span.Final {
				r.join.Flush(emit)
			}
			return ended, nil
		}
		var skip interface{ SkipTo() uint64 }
		if errors.As(err, &skip) && skip.SkipTo() > r.offset {
			r.leap(emit) // a segment that cannot be read costs that one; shipping reports it
			r.offset = skip.SkipTo()
			r.gap()
			continue
		}
		if err != nil {
			return false, err
		}
		if span.From > r.offset {
			r.gap()
			r.leap(emit)
		} else if span.Session != r.session {
			r.join.Flush(emit)
		}
		r.offset, r.session = span.From, span.Session
		if span.Unmarked {
			r.mark = &span.Edge
		}
		if !r.decode(span, emit) && !span.Final {
			return ended, nil // the last frame is not whole yet
		}
	}
	return false, ctx.Err()
}

// leap is for bytes that are gone, and the ends of lines with them.
func (r *reader) leap(emit func(*record.Joined)) {
	r.join.Flush(func(j *record.Joined) {
		j.Open = false
		emit(j)
	})
}

// decode gives out the records of one window and moves on. It reports whether
// it moved.
func (r *reader) decode(span spool.Span, emit func(*record.Joined)) bool {
	b := r.buf[:span.Len]
	for {
		frame, n, err := record.Next(b)
		if errors.Is(err, record.ErrShort) {
			break
		}
		if err == nil {
			err = r.entry.Decode(frame)
		}
		if err != nil {
			n, _ = record.Resync(b) // shipping reports it
		} else {
			if r.mark != nil && r.offset >= *r.mark {
				r.st.Mark(*r.mark, spool.Place{Offset: r.offset, Time: r.entry.Time})
				r.mark = nil
			}
			r.join.Add(r.offset, &r.entry, emit)
		}
		r.offset += uint64(n)
		b = b[n:]
	}
	switch {
	case span.Final:
		r.join.Flush(emit)
		r.offset = span.From + uint64(span.Len) // past a frame that was torn off
	case len(b) == span.Len && span.Len == len(r.buf):
		r.buf = make([]byte, record.HeaderLen+int(binary.BigEndian.Uint32(b)))
		return true
	}
	return len(b) < span.Len
}

// place is where a record begins, and where to begin reading to get it whole
// and in its turn.
type place struct {
	begin, offset uint64
	record        bool // there is one
}

// findTail returns the place of the n-th record from the end, or the stream's
// end for none. It reads from the last place where reading can begin, then from
// the one before it, until it has seen enough.
func (r *reader) findTail(ctx context.Context, n int) (place, error) {
	places := r.st.Places()
	for i := len(places) - 1; n > 0 && i >= 0; i-- {
		if i > 0 && places[i].Offset+uint64(n)*minFrame > r.st.End() {
			continue // cannot be enough
		}
		r.seek(places[i].Offset)
		ring, whole, err := r.ring(ctx, n)
		if err != nil {
			return place{}, fmt.Errorf("find the last %d records: %w", n, err)
		}
		if i == 0 || whole && len(ring) == n {
			return ring[0], nil
		}
	}
	return place{begin: r.st.End()}, nil
}

// minFrame is less than the smallest frame: a header, a source and a time.
const minFrame = 16

// ring reads to the stream's end and returns the places of the last n records
// from there, in order, and whether all of these were seen from their beginning.
func (r *reader) ring(ctx context.Context, n int) (last []place, whole bool, err error) {
	var ring []place
	next, seen, torn, begin := 0, 0, -1, r.safe()
	_, err = r.readToEnd(ctx, func(j *record.Joined) {
		if !j.Headed {
			torn = seen
		}
		p := place{min(begin, j.Offset), j.Offset, true}
		if len(ring) < n {
			ring = append(ring, p)
		} else {
			ring[next] = p
			next = (next + 1) % n
		}
		seen++
		begin = r.safe()
	})
	if len(ring) == 0 {
		ring = []place{{begin: r.safe()}}
	}
	return append(ring[next:len(ring):len(ring)], ring[:next]...), torn < seen-len(ring), err
}

// since returns where reading has to begin to see all records from t on: the
// last place before the first segment that is later. Clocks that were set back
// make it begin earlier than needed, not later.
func since(st *spool.Stream, t time.Time) uint64 {
	begin := st.Start()
	for _, p := range st.Places() {
		if p.Time == 0 || p.Time >= t.UnixNano() {
			break
		}
		begin = p.Offset
	}
	return begin
}

// output frames records for the engine.
type output struct {
	w     io.Writer
	query Query
	enc   record.Encoder
	buf   []byte
	line  []byte
	skip  bool   // until the record at from
	from  uint64 // offset
	past  bool   // a record was later than Until
	err   error
}

func (o *output) skipTo(p place) { o.skip, o.from = p.record, p.offset }

func (o *output) add(j *record.Joined) {
	if o.skip && j.Offset != o.from {
		return
	}
	o.skip = false
	t := time.Unix(0, j.Time)
	if o.err != nil || !o.query.Since.IsZero() && t.Before(o.query.Since) {
		return
	}
	if !o.query.Until.IsZero() && t.After(o.query.Until) {
		o.past = true // those behind it may be earlier: a clock can be set back
		return
	}
	o.line = append(o.line[:0], j.Line...)
	if !j.Cut && !j.Open { // a line that the container did not end is shown so, as by the engine's own drivers
		o.line = append(o.line, '\n')
	}
	o.buf, o.err = o.enc.Append(o.buf, j.Stderr, j.Time, o.line)
	if len(o.buf) >= writeBytes {
		o.err = errors.Join(o.err, o.flush())
	}
}

func (o *output) flush() error {
	if o.err != nil || len(o.buf) == 0 {
		return o.err
	}
	_, o.err = o.w.Write(o.buf)
	o.buf = o.buf[:0]
	return o.err
}
