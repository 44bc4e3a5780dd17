package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Reader reads a stream. It keeps one segment open between reads; a reader
// that is done for now gives it back with Close and may be used again. It is
// for one goroutine at a time.
type Reader struct {
	st   *Stream
	file *os.File
	open segment
}

// NewReader returns a reader of the stream.
func (st *Stream) NewReader() *Reader { return &Reader{st: st} }

// Span says what a Read returned.
type Span struct {
	From    uint64 // offset of the first byte; above what was asked for where older bytes are gone
	Len     int    // bytes read
	Session uint32 // the session that wrote them
	Final   bool   // no more bytes of that session follow these

	// Lost is how many bytes are gone between what was asked for and From, and
	// Torn says that From is not known to be the beginning of a frame.
	Lost uint64
	Torn bool

	// Unmarked says that at Edge, among these bytes, a segment begins whose
	// first frame is not known yet. A reader that knows frames calls Mark when
	// it comes to the first one at or behind Edge.
	Unmarked bool
	Edge     uint64
}

// SegmentError says that a segment could not be read, and where reading can
// go on if it is given up.
type SegmentError struct {
	Name string
	Next uint64
	Err  error
}

func (e *SegmentError) Error() string { return fmt.Sprintf("read segment %s: %v", e.Name, e.Err) }

func (e *SegmentError) Unwrap() error { return e.Err }

// SkipTo returns the offset behind the segment.
func (e *SegmentError) SkipTo() uint64 { return e.Next }

// Read reads bytes from offset on into p, all of one session. Where there are
// none at or behind offset the error is io.EOF; the span's Final then says
// whether the session that ended there is over. Other errors wrap a
// *SegmentError where one segment cannot be read and the disk can.
func (r *Reader) Read(p []byte, offset uint64) (Span, error) {
	from := offset
	for {
		g, run, ok := r.st.locate(offset)
		if !ok {
			if lost, end, session := r.st.tailLoss(offset); lost > 0 {
				return Span{From: end, Session: session, Final: true, Lost: lost}, nil
			}
			return Span{From: offset, Final: run.ended}, io.EOF
		}
		if offset < g.offset && g.known && g.first.Offset > g.offset {
			offset = g.first.Offset // the frame before it is torn off by an eviction
			continue
		}
		span, err := r.read(p, max(offset, g.offset), g, run)
		if errors.Is(err, os.ErrNotExist) {
			r.st.missing(g) // evicted between the look and the open, or deleted by somebody else
			continue
		}
		if span.From > from {
			span.Lost = r.st.lost(from, span.From)
			span.Torn = !g.known || span.From < g.first.Offset
		}
		return span, err
	}
}

// Pending reports whether there are bytes at or behind offset.
func (st *Stream) Pending(offset uint64) bool {
	_, _, ok := st.locate(offset)
	lost, _, _ := st.tailLoss(offset)
	return ok || lost > 0
}

func (st *Stream) lost(from, to uint64) uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.lostLocked(from, to)
}

// missing takes a segment whose file is gone out of the stream.
func (st *Stream) missing(g segment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := range st.segs {
		if st.segs[i].offset == g.offset && st.segs[i].session == g.session {
			st.log().Error("a segment is gone from the disk", "segment", g.name(), "bytes", st.segs[i].size)
			st.sp.used.Add(-st.segs[i].size - overhead)
			st.sealed = st.sealed || i == len(st.segs)-1
			st.segs = slices.Delete(st.segs, i, i+1)
			st.recountLocked()
			return
		}
	}
}

// run is what is known of the session that a segment is part of.
type run struct {
	end   uint64 // behind its last byte so far
	ended bool
}

// locate returns the segment that holds offset, or the next one behind it.
// Where there is none, run says whether the session that wrote last is over.
func (st *Stream) locate(offset uint64) (segment, run, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	i := sort.Search(len(st.segs), func(i int) bool { return st.segs[i].end() > offset })
	if i == len(st.segs) || st.gone {
		return segment{}, run{ended: st.sessions[st.writer] == nil}, false
	}
	j := i
	for j+1 < len(st.segs) && st.segs[j+1].session == st.segs[i].session && st.segs[j+1].offset == st.segs[j].end() {
		j++
	}
	_, live := st.sessions[st.segs[i].session]
	return st.segs[i], run{st.segs[j].end(), !live || j+1 < len(st.segs)}, true
}

func (r *Reader) read(p []byte, offset uint64, g segment, run run) (Span, error) {
	span := Span{From: offset, Session: g.session}
	if !g.marked() && offset == g.offset {
		span.Unmarked, span.Edge = true, g.offset
	}
	for span.Len < len(p) {
		n, err := r.readSegment(p[span.Len:], offset+uint64(span.Len), g)
		if err != nil && span.Len > 0 {
			break // told when reading comes to it
		}
		if err != nil && (tooManyFiles(err) || !r.st.sp.readable()) {
			return span, err // no fault of the segment's: it is to be tried again
		}
		if err != nil {
			return span, &SegmentError{Name: g.name(), Next: g.end(), Err: err}
		}
		span.Len += n
		next, _, ok := r.st.locate(g.end())
		if !ok || next.session != g.session || next.offset != g.end() {
			break
		}
		if span.Len < len(p) && !next.marked() {
			span.Unmarked, span.Edge = true, next.offset
		}
		g = next
	}
	span.Final = run.ended && span.From+uint64(span.Len) == run.end
	return span, nil
}

// readSegment reads what there is of one segment from the offset at on.
func (r *Reader) readSegment(p []byte, at uint64, g segment) (int, error) {
	if err := r.openSegment(g); err != nil {
		return 0, err
	}
	want := min(uint64(len(p)), g.end()-at)
	n, err := r.file.ReadAt(p[:want], int64(at-g.offset))
	if uint64(n) == want {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		return n, errors.New("it is shorter than it was")
	}
	return n, err
}

func (r *Reader) openSegment(g segment) error {
	if r.file != nil && r.open.offset == g.offset && r.open.session == g.session {
		return nil
	}
	r.Close()
	f, err := os.Open(filepath.Join(r.st.dir, g.name()))
	if tooManyFiles(err) && r.st.sp.giveBack() {
		f, err = os.Open(filepath.Join(r.st.dir, g.name()))
	}
	if err != nil {
		return fmt.Errorf("open segment %s: %w", g.name(), err)
	}
	r.file, r.open = f, g
	return nil
}

// Close gives back the open segment.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}
