package ship

import (
	"log/slog"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/record"
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
	empty  int
	growth int  // of fields
	counts bool // each byte of a field counts, as at least one
}

// prepare makes a stream's encoder. Where what all of its records have takes more
// than half of a message, some of the attributes are left out, which another one says.
func (l *lane) prepare(m *Meta) *encoder {
	most := l.sink.Limits().MessageBytes
	if most == 0 {
		return &encoder{Template: l.sink.Prepare(m)}
	}
	e := l.measured(m)
	if e.empty <= most/2 || len(m.Attrs) == 0 {
		return e
	}
	short := *m
	n := sort.Search(len(m.Attrs), func(n int) bool {
		short.Attrs = fewer(m.Attrs, len(m.Attrs)-n-1)
		return l.measured(&short).empty <= most/2
	})
	short.Attrs = fewer(m.Attrs, max(len(m.Attrs)-n-1, 0))
	l.log.Warn("some of what was asked for of a container does not fit beside its records into a message, and is left out; see max-message",
		"container", m.ContainerName, "left_out", min(n+1, len(m.Attrs)), "max_message", most)
	return l.measured(&short)
}

func fewer(attrs []Attr, n int) []Attr {
	return append(slices.Clone(attrs[:n]), Attr{Key: leftOut, Value: strconv.Itoa(len(attrs) - n)})
}

// leftOut is the attribute that says how many others are left out.
const leftOut = "attrs_left_out"

func (l *lane) measured(m *Meta) *encoder {
	e := &encoder{Template: l.sink.Prepare(m), growth: maxGrowth}
	if _, ok := e.Template.(Measurer); !ok {
		e.counts = true
	}
	if m, ok := e.Template.(Grower); ok {
		e.growth, e.counts = m.Growth(), true
	}
	e.empty, _ = e.measure(nil, &Record{Stderr: true, Cut: true, Level: process.Emergency})
	return e
}

// measure returns how long a record's message is, and scratch, which may have grown.
func (e *encoder) measure(scratch []byte, r *Record) (int, []byte) {
	if m, ok := e.Template.(Measurer); ok {
		return m.Measure(r), scratch
	}
	scratch = e.Append(scratch[:0], r)
	return len(scratch), scratch
}

// append puts one record into the batch, in pieces if the collector takes no
// longer ones.
func (s *session) append(e *encoder, r *Record) {
	if s.cutter.fits(e, r) {
		s.put(e, r)
		return
	}
	s.stats.Divided.Add(1)
	s.cutter.divide(e, r, func(r *Record) { s.put(e, r) })
}

func (s *session) put(e *encoder, r *Record) {
	s.batch.bytes = s.conn.Append(s.batch.bytes, e.Template, r)
	s.batch.records++
}

// AppendRecord appends a record to a batch for a connection of the sink's, in
// pieces if need be, and returns how many: for tests of sinks, as ship does it.
func AppendRecord(dst []byte, s Sink, conn Conn, m *Meta, r *Record) (out []byte, pieces int) {
	l := &lane{sink: s, log: slog.New(slog.DiscardHandler)}
	e, c, whole := l.prepare(m), cutter{limits: s.Limits()}, *r
	put := func(r *Record) { dst, pieces = conn.Append(dst, e.Template, r), pieces+1 }
	if c.fits(e, &whole) {
		put(&whole)
	} else {
		c.divide(e, &whole, put)
	}
	return dst, pieces
}

// cutter makes pieces of records that are too long.
type cutter struct {
	limits  Limits
	scratch []byte  // of measure
	left    []Field // of divide
}

func (c *cutter) fits(e *encoder, r *Record) bool {
	if c.limits.RecordBytes > 0 && len(r.Line) > c.limits.RecordBytes {
		return false
	}
	most := c.limits.MessageBytes
	if most == 0 {
		return true
	}
	fields := 0
	for i := range r.Fields {
		fields += len(r.Fields[i].Key) + len(r.Fields[i].Value) + fieldBytes
	}
	return e.empty+maxGrowth*len(r.Line)+e.growth*fields <= most || c.measure(e, r) <= most
}

// measure returns how long a record's message is.
func (c *cutter) measure(e *encoder, r *Record) (size int) {
	size, c.scratch = e.measure(c.scratch, r)
	return size
}

// divide puts a record somewhere in pieces. The first has its fields, as far
// as there is room beside the beginning of the line; what is left, of a value that
// is too long for a message of its own too, goes on in the pieces behind it. Their
// ids are the record's pieces' (see record.PieceID).
func (c *cutter) divide(e *encoder, r *Record, put func(*Record)) {
	rest := *r
	c.left = append(c.left[:0], r.Fields...)
	rest.Fields = c.left
	id := r.Offset
	for i, last := 0, false; !last; i++ {
		n, fields := c.piece(e, r, &rest)
		r.Line, r.Fields, r.Cut = rest.Line[:n], rest.Fields[:fields], true
		rest.Line, rest.Fields = rest.Line[n:], rest.Fields[fields:]
		if n == 0 && fields == 0 && len(rest.Fields) > 0 { // the next field is too long for a message
			rest.Fields = c.part(e, r, rest.Fields)
		}
		last = len(rest.Line) == 0 && len(rest.Fields) == 0
		r.Cut = rest.Cut || !last
		r.Offset, r.Piece = record.PieceID(id, i, last), true
		put(r)
	}
}

// piece returns how much of what is left of a record goes into the next piece:
// bytes of its line, and fields.
func (c *cutter) piece(e *encoder, r, rest *Record) (n, fields int) {
	n, fields = len(rest.Line), len(rest.Fields)
	if most := c.limits.RecordBytes; most > 0 && n > most {
		n = runeEnd(rest.Line, most)
	}
	most := c.limits.MessageBytes
	if most == 0 {
		return n, fields
	}
	size := func(n, fields int) int {
		r.Line, r.Fields, r.Cut = rest.Line[:n], rest.Fields[:fields], true
		return c.measure(e, r)
	}
	// The line's beginning belongs to the first fields.
	begin := c.prefix(rest.Line[:n], e.empty+(most-e.empty)/4, func(n int) int { return size(n, 0) })
	may := e.atMost(rest.Fields, most)
	fields = sort.Search(may, func(i int) bool { return size(begin, i+1) > most })
	if fields < len(rest.Fields) {
		if fields == 0 {
			begin = 0
			if may > 0 && size(0, 1) <= most {
				fields = 1
			}
		}
		return begin, fields
	}
	return c.prefix(rest.Line[:n], most, func(n int) int { return size(n, fields) }), fields
}

// atMost returns how many of the fields may fit, without looking at how they are
// encoded: a long one is looked at once for each piece that it makes.
func (e *encoder) atMost(fields []Field, most int) int {
	if !e.counts {
		return len(fields)
	}
	size := 0
	for i := range fields {
		if size += len(fields[i].Key) + len(fields[i].Value); size > most {
			return i
		}
	}
	return len(fields)
}

// prefix returns how much of text goes into a message of at most so many bytes,
// whole runes, and at least minPiece.
func (c *cutter) prefix(text []byte, most int, size func(n int) int) int {
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
func (c *cutter) part(e *encoder, r *Record, fields []Field) (rest []Field) {
	f := &fields[0]
	r.Fields = []Field{{Key: f.Key}}
	n := c.prefix(f.Value, c.limits.MessageBytes, func(n int) int {
		r.Fields[0].Value = f.Value[:n]
		return c.measure(e, r)
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
