package logdriver

import (
	"errors"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// source is a stream of the spool as ship wants to see it.
type source struct {
	*spool.Stream
	reader *spool.Reader
	route  string
	ranges []spool.Range // of AckRanges
}

// The spool notes as many ranges as ship may tell it of.
var _ [spool.MaxRanges - ship.MaxRanges]struct{}

func newSource(st *spool.Stream, route string) *source {
	return &source{Stream: st, reader: st.NewReader(), route: route}
}

func (s *source) Read(p []byte, offset uint64) (ship.Span, error) {
	span, err := s.reader.Read(p, offset)
	return ship.Span(span), err
}

func (s *source) Mark(edge, offset uint64, time int64) {
	s.Stream.Mark(edge, spool.Place{Offset: offset, Time: time})
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
