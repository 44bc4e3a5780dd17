package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

	// Unmarked says that at Edge, among these bytes, a segment begins whose
	// first frame is not known yet. A reader that knows frames calls Mark when
	// it comes to the first one at or behind Edge.
	Unmarked bool
	Edge     uint64
}

// Read reads bytes from offset on into p, all of one session. Where there are
// none at or behind offset the error is io.EOF; the span's Final then says
// whether the session that ended there is over.
func (r *Reader) Read(p []byte, offset uint64) (Span, error) {
	for {
		g, run, ok := r.st.locate(offset)
		if !ok {
			return Span{From: offset, Final: r.st.ended()}, io.EOF
		}
		if offset < g.offset && g.known && g.first.Offset > g.offset {
			offset = g.first.Offset // the frame before it is torn off by an eviction
			continue
		}
		span, err := r.read(p, max(offset, g.offset), g, run)
		if errors.Is(err, os.ErrNotExist) {
			continue // evicted between the look and the open
		}
		return span, err
	}
}

// run is what is known of the session that a segment is part of.
type run struct {
	end   uint64 // behind its last byte so far
	ended bool
}

// locate returns the segment that holds offset, or the next one behind it.
func (st *Stream) locate(offset uint64) (segment, run, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	i := sort.Search(len(st.segs), func(i int) bool { return st.segs[i].end() > offset })
	if i == len(st.segs) || st.gone {
		return segment{}, run{}, false
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
		if err := r.openSegment(g); err != nil {
			if span.Len > 0 {
				break
			}
			return span, err
		}
		at := offset + uint64(span.Len)
		want := min(uint64(len(p)-span.Len), g.end()-at)
		n, err := r.file.ReadAt(p[span.Len:span.Len+int(want)], int64(at-g.offset))
		span.Len += n
		if err != nil && !errors.Is(err, io.EOF) {
			return span, fmt.Errorf("read segment %s: %w", g.name(), err)
		}
		if uint64(n) < want {
			return span, fmt.Errorf("segment %s is shorter than it was", g.name())
		}
		next, _, ok := r.st.locate(g.end())
		if span.Len == len(p) || !ok || next.session != g.session || next.offset != g.end() {
			break
		}
		g = next
		if !g.marked() {
			span.Unmarked, span.Edge = true, g.offset
		}
	}
	span.Final = run.ended && span.From+uint64(span.Len) == run.end
	return span, nil
}

func (r *Reader) openSegment(g segment) error {
	if r.file != nil && r.open.offset == g.offset {
		return nil
	}
	f, err := os.Open(filepath.Join(r.st.dir, g.name()))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", g.name(), err)
	}
	r.Close()
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
