package dispatch

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// source is a stream of the spool as ship wants to see it. For a pool that the
// stream no longer goes to, it ends at an offset.
type source struct {
	*spool.Stream
	reader *spool.Reader
	route  string
	until  atomic.Uint64 // where it ends; math.MaxUint64: where the stream does
	watch  atomic.Pointer[func()]
	ranges []spool.Range // of AckRanges
}

// The spool notes as many ranges as ship may tell it of.
var _ [spool.MaxRanges - ship.MaxRanges]struct{}

func newSource(st *spool.Stream, route string) *source {
	s := &source{Stream: st, reader: st.NewReader(), route: route}
	_, until := spool.SplitRoute(route)
	s.until.Store(until)
	return s
}

// end has the source end where it has been read to: what is under way may still
// be acknowledged.
func (s *source) end() {
	s.until.Store(0)
	if fn := s.watch.Load(); fn != nil {
		(*fn)()
	}
}

func (s *source) Read(p []byte, offset uint64) (ship.Span, error) {
	until := s.until.Load()
	if offset >= until {
		return ship.Span{From: offset}, io.EOF
	}
	span, err := s.reader.Read(p[:min(uint64(len(p)), until-offset)], offset)
	switch {
	case err != nil || span.From+uint64(span.Len) <= until:
	case span.From >= until:
		return ship.Span{From: offset}, io.EOF
	default:
		span.Len, span.Final = int(until-span.From), false
	}
	return ship.Span(span), err
}

// Watch implements ship.Source. The end of the source is a change, too.
func (s *source) Watch(fn func()) (stop func()) {
	s.watch.Store(&fn)
	return s.Stream.Watch(fn)
}

func (s *source) Mark(edge, offset uint64, time int64) {
	s.Stream.Mark(edge, spool.Place{Offset: offset, Time: time})
}

// Pending implements ship.Source.
func (s *source) Pending(offset uint64) bool {
	return offset < s.until.Load() && s.Stream.Pending(offset)
}

// Live implements ship.Source.
func (s *source) Live() bool {
	return !spool.Leaving(s.route) && s.until.Load() != 0 && s.Stream.Live()
}

func (s *source) AckRanges(ranges ...ship.Range) error {
	s.ranges = s.ranges[:0]
	for _, r := range ranges {
		s.ranges = append(s.ranges, spool.Range(r))
	}
	err := s.Stream.AckRanges(s.route, s.ranges...)
	if errors.Is(err, spool.ErrRanges) && len(ranges) > 0 && ranges[0].From == 0 {
		// With those that a former process noted they are too many. What is
		// beyond the cursor will be sent again if this process dies now.
		err = s.Stream.Ack(s.route, ranges[0].To)
	}
	return err
}

func (s *source) Unacknowledged(offset uint64) ship.Range {
	return ship.Range(s.Stream.Unacknowledged(s.route, offset))
}

func (s *source) Release()                { s.reader.Close() }
func (s *source) Cursor() uint64          { return s.Stream.Cursor(s.route) }
func (s *source) Ack(offset uint64) error { return s.Stream.Ack(s.route, offset) }
