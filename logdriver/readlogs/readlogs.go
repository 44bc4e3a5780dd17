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
	writeBytes  = 32 << 10 // frames are gathered up to here before they are written
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
	}
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
	gap     func() // called where bytes are gone
}

func newReader(st *spool.Stream) *reader {
	return &reader{st: st, src: st.NewReader(), join: record.Joiner{Max: maxRecord}, buf: make([]byte, windowBytes), offset: st.Start(), gap: func() {}}
}

func (r *reader) seek(offset uint64) {
	r.join.Reset()
	r.offset, r.session = offset, 0
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
		if err != nil {
			return false, err
		}
		if span.From > r.offset {
			r.gap()
		}
		if span.From > r.offset || span.Session != r.session {
			r.join.Flush(emit)
		}
		r.offset, r.session = span.From, span.Session
		if !r.decode(span, emit) && !span.Final {
			return ended, nil // the last frame is not whole yet
		}
	}
	return false, ctx.Err()
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
type place struct{ begin, offset uint64 }

// findTail returns the place of the n-th record from the end, or the stream's
// end for none.
func (r *reader) findTail(ctx context.Context, n int) (place, error) {
	var ring []place
	next, begin := 0, r.safe()
	remember := func(j *record.Joined) {
		p := place{min(begin, j.Offset), j.Offset}
		if len(ring) < n {
			ring = append(ring, p)
		} else if n > 0 {
			ring[next] = p
			next = (next + 1) % n
		}
		begin = r.safe()
	}
	_, err := r.readToEnd(ctx, remember)
	if err != nil {
		return place{}, fmt.Errorf("find the last %d records: %w", n, err)
	}
	if len(ring) == 0 {
		return place{r.safe(), r.safe()}, nil
	}
	return ring[next%len(ring)], nil
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

func (o *output) skipTo(p place) { o.skip, o.from = p.begin < p.offset, p.offset }

func (o *output) add(j *record.Joined) {
	if o.skip && j.Offset != o.from {
		return
	}
	o.skip = false
	t := time.Unix(0, j.Time)
	if o.err != nil || o.past || !o.query.Since.IsZero() && t.Before(o.query.Since) {
		return
	}
	if !o.query.Until.IsZero() && t.After(o.query.Until) {
		o.past = true
		return
	}
	o.line = append(o.line[:0], j.Line...)
	if !j.Cut {
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
