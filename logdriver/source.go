package logdriver

import (
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// source is a stream of the spool as ship wants to see it.
type source struct {
	*spool.Stream
	reader *spool.Reader
	route  string
}

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

func (s *source) Release()                { s.reader.Close() }
func (s *source) Cursor() uint64          { return s.Stream.Cursor(s.route) }
func (s *source) Ack(offset uint64) error { return s.Stream.Ack(s.route, offset) }
