package ship

import (
	"sort"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/process"
)

const (
	// maxGrowth bounds by how much text grows when it is encoded: a control
	// character in JSON takes six bytes. fieldBytes is more than what a protocol
	// puts around a field.
	maxGrowth  = 8
	fieldBytes = 8
	// minPiece is how much of a line a piece has at least, however little room
	// there is.
	minPiece = 64
)

// encoder is a Template, and how long a message of its is that has neither line
// nor fields.
type encoder struct {
	Template
	empty int
}

func (l *lane) prepare(m *Meta) *encoder {
	e := &encoder{Template: l.sink.Prepare(m)}
	if l.sink.Limits().MessageBytes > 0 {
		e.empty = len(e.Append(nil, &Record{Stderr: true, Cut: true, Level: process.Emergency}))
	}
	return e
}

// append puts one record into the batch, in pieces if the collector takes no
// longer ones.
func (s *session) append(e *encoder, r *Record) {
	if s.fits(e, r) {
		s.put(e, r)
		return
	}
	s.stats.Divided.Add(1)
	s.divide(e, r)
}

func (s *session) put(e *encoder, r *Record) {
	s.batch.bytes = s.conn.Append(s.batch.bytes, e.Template, r)
	s.batch.records++
}

func (s *session) fits(e *encoder, r *Record) bool {
	if s.limits.RecordBytes > 0 && len(r.Line) > s.limits.RecordBytes {
		return false
	}
	most := s.limits.MessageBytes
	if most == 0 {
		return true
	}
	size := len(r.Line)
	for i := range r.Fields {
		size += len(r.Fields[i].Key) + len(r.Fields[i].Value) + fieldBytes
	}
	return e.empty+maxGrowth*size <= most || s.measure(e, r) <= most
}

// measure returns how long a record's message is.
func (s *session) measure(e *encoder, r *Record) int {
	s.scratch = e.Append(s.scratch[:0], r)
	return len(s.scratch)
}

// divide puts a record into the batch in pieces. The first has its fields, as far
// as there is room beside the beginning of the line; what is left, of a value that
// is too long for a message of its own too, goes on in the pieces behind it. A
// piece's id is the record's with the number of the piece added, which is some
// other record's only where records of thousands of pieces lie across each other.
func (s *session) divide(e *encoder, r *Record) {
	rest := *r
	s.pieces = append(s.pieces[:0], r.Fields...)
	rest.Fields = s.pieces
	for last := false; !last; r.Offset++ {
		n, fields := s.piece(e, r, &rest)
		r.Line, r.Fields, r.Cut = rest.Line[:n], rest.Fields[:fields], true
		rest.Line, rest.Fields = rest.Line[n:], rest.Fields[fields:]
		if n == 0 && fields == 0 && len(rest.Fields) > 0 { // the next field is too long for a message
			rest.Fields = s.part(e, r, rest.Fields)
		}
		last = len(rest.Line) == 0 && len(rest.Fields) == 0
		r.Cut = rest.Cut || !last
		s.put(e, r)
	}
}

// piece returns how much of what is left of a record goes into the next piece:
// bytes of its line, and fields.
func (s *session) piece(e *encoder, r, rest *Record) (n, fields int) {
	n, fields = len(rest.Line), len(rest.Fields)
	if most := s.limits.RecordBytes; most > 0 && n > most {
		n = runeEnd(rest.Line, most)
	}
	most := s.limits.MessageBytes
	if most == 0 {
		return n, fields
	}
	size := func(n, fields int) int {
		r.Line, r.Fields, r.Cut = rest.Line[:n], rest.Fields[:fields], true
		return s.measure(e, r)
	}
	// The line's beginning belongs to the first fields.
	begin := s.prefix(rest.Line[:n], e.empty+(most-e.empty)/4, func(n int) int { return size(n, 0) })
	fields = sort.Search(len(rest.Fields), func(i int) bool { return size(begin, i+1) > most })
	if fields < len(rest.Fields) {
		if fields == 0 {
			begin = 0
			if size(0, 1) <= most {
				fields = 1
			}
		}
		return begin, fields
	}
	return s.prefix(rest.Line[:n], most, func(n int) int { return size(n, fields) }), fields
}

// prefix returns how much of text goes into a message of at most so many bytes,
// whole runes, and at least minPiece.
func (s *session) prefix(text []byte, most int, size func(n int) int) int {
	empty := size(0)
	n := runeEnd(text, max(most-empty, 0))
	for n > minPiece {
		took := size(n)
		if took <= most {
			return n
		}
		n = runeEnd(text, min(n-1, n*max(most-empty, 0)/(took-empty)))
	}
	return runeEnd(text, max(n, minPiece))
}

// part makes r a piece with the beginning of the first of some fields, and returns
// the rest of them. What is cut is text, whatever it was.
func (s *session) part(e *encoder, r *Record, fields []Field) (rest []Field) {
	f := &fields[0]
	r.Fields = []Field{{Key: f.Key}}
	n := s.prefix(f.Value, s.limits.MessageBytes, func(n int) int {
		r.Fields[0].Value = f.Value[:n]
		return s.measure(e, r)
	})
	r.Fields[0].Value = f.Value[:n]
	if n == len(f.Value) {
		return fields[1:]
	}
	f.Value, f.Raw = f.Value[n:], false
	return fields
}

// runeEnd returns where to cut text, at most at n, so that no rune is divided.
func runeEnd(text []byte, n int) int {
	if n >= len(text) {
		return len(text)
	}
	for at := n; at > 0 && at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			return at
		}
	}
	return n
}
