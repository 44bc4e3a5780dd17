package ship

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/record"
)

// narrow is a collector that takes no long messages.
type narrow struct {
	*peer
	limits Limits
}

func (p narrow) Limits() Limits           { return p.limits }
func (p narrow) Prepare(m *Meta) Template { return growing{m} }

// growing writes some bytes as several, as JSON does.
type growing struct{ *Meta }

func (g growing) Append(dst []byte, r *Record) []byte {
	dst = append(dst, strings.Repeat("m", 100)...)
	for _, a := range g.Attrs {
		dst = fmt.Appendf(dst, " %s=%s", a.Key, a.Value)
	}
	for _, f := range r.Fields {
		dst = fmt.Appendf(dst, " %s=%q", f.Key, f.Value)
	}
	return fmt.Appendf(dst, " %q", r.Line)
}

// narrowConn keeps what Append was given.
type narrowConn struct {
	*peerConn
	tell func(message []byte, r *Record)
}

func (c narrowConn) Append(dst []byte, t Template, r *Record) []byte {
	from := len(dst)
	dst = t.Append(dst, r)
	c.tell(dst[from:], r)
	return dst
}

// divided puts a record into a batch and returns its pieces, put together.
func divided(t *testing.T, limits Limits, r *Record) (whole Record, pieces int, values map[string]string) {
	t.Helper()
	values = map[string]string{}
	first, cut := r.Offset, r.Cut
	last := false
	c := narrowConn{tell: func(message []byte, p *Record) {
		if most := limits.MessageBytes; most > 0 && len(message) > max(most, 200) {
			t.Fatalf("piece %d takes %d bytes", pieces, len(message))
		}
		if most := limits.RecordBytes; most > 0 && len(p.Line) > most {
			t.Fatalf("piece %d has a line of %d bytes", pieces, len(p.Line))
		}
		want := first
		if p.Piece {
			want = record.PieceID(first, pieces, p.Cut == cut)
		}
		if p.Offset != want || last {
			t.Fatalf("piece %d has the offset %d, the last was there: %v", pieces, p.Offset, last)
		}
		if utf8.Valid(r.Line) && !utf8.Valid(p.Line) {
			t.Fatalf("piece %d is cut within a rune: %q", pieces, p.Line)
		}
		pieces++
		last = p.Cut == cut
		whole.Line = append(whole.Line, p.Line...)
		for _, f := range p.Fields {
			if _, again := values[string(f.Key)]; again && f.Raw {
				t.Fatalf("%s goes on as if it were JSON", f.Key)
			}
			values[string(f.Key)] += string(f.Value)
		}
	}}
	s := &session{lane: newLane(Collector{Sink: narrow{limits: limits}}, quiet, &Stats{}, nil), conn: c, cutter: cutter{limits: limits}}
	given := *r
	s.append(s.prepare(&Meta{}), &given)
	if !cut && !last {
		t.Fatalf("after %d pieces the last is missing", pieces)
	}
	return whole, pieces, values
}

// Whatever is long in a record, no message is longer than the collector takes, and
// the pieces have all of it.
func TestPieces(t *testing.T) {
	text := func(n int) string { return strings.Repeat("żółw, €uro 😀 ", n/20+1)[:n] }
	fields := func(n, size int) (all []Field) {
		for i := range n {
			all = append(all, Field{Key: fmt.Append(nil, "k", i), Value: []byte(strings.ToValidUTF8(text(size), "")), Raw: i%2 == 1})
		}
		return all
	}
	most := func(n int) Limits { return Limits{MessageBytes: n} }
	for _, tc := range []struct {
		name   string
		limits Limits
		line   string
		fields []Field
		pieces int // at most
	}{
		{"short", most(2048), "short", fields(2, 10), 1},
		{"just as long as may be", most(1024), strings.Repeat("x", 1024-100-3), nil, 1},
		{"one byte too long", most(1024), strings.Repeat("x", 1024-100-2), nil, 2},
		{"a long line", most(2048), strings.ToValidUTF8(text(100_000), ""), nil, 60},
		{"a long line that grows", most(2048), strings.Repeat("x\x01\xff", 20_000), nil, 120},
		{"a line that grows at its end", most(2048), strings.Repeat("x", 50_000) + strings.Repeat("\x01", 5000), nil, 80},
		{"many fields", most(2048), "line", fields(64, 100), 10},
		{"a field that is too long", most(2048), "line", fields(1, 200_000), 130},
		{"all of it", most(8192), strings.ToValidUTF8(text(50_000), ""), fields(20, 6000), 45},
		{"lines alone", Limits{RecordBytes: 1024}, strings.ToValidUTF8(text(10_000), ""), fields(3, 5000), 11},
		{"both", Limits{RecordBytes: 1024, MessageBytes: 4096}, strings.ToValidUTF8(text(10_000), ""), fields(3, 5000), 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &Record{Offset: 7, Line: []byte(tc.line), Fields: tc.fields}
			whole, pieces, values := divided(t, tc.limits, r)
			if string(whole.Line) != tc.line || pieces > tc.pieces {
				t.Errorf("%d pieces, the line has %d bytes of %d", pieces, len(whole.Line), len(tc.line))
			}
			for _, f := range tc.fields {
				if values[string(f.Key)] != string(f.Value) {
					t.Errorf("%s has %d bytes of %d", f.Key, len(values[string(f.Key)]), len(f.Value))
				}
			}
		})
	}
}

// Where not even what all messages have fits, it comes to an end, too.
func TestPiecesWithoutRoom(t *testing.T) {
	r := &Record{Line: []byte(strings.Repeat("x", 1000)), Fields: []Field{{Key: []byte("k"), Value: []byte("v")}}}
	if whole, pieces, values := divided(t, Limits{MessageBytes: 90}, r); string(whole.Line) != string(r.Line) || values["k"] != "v" || pieces > 20 {
		t.Errorf("%d pieces: %q %v", pieces, whole.Line, values)
	}
}

// What is asked for of a container leaves half of a message to its records, and
// says what it does not.
func TestAttributesLeaveRoom(t *testing.T) {
	m := &Meta{}
	for i := range 30 {
		m.Attrs = append(m.Attrs, Attr{Key: fmt.Sprintf("a%02d", i), Value: strings.Repeat("v", 95)})
	}
	for _, tc := range []struct{ most, kept int }{{0, 30}, {8192, 30}, {2048, 9}, {1024, 3}, {200, 0}} {
		l := newLane(Collector{Sink: narrow{limits: Limits{MessageBytes: tc.most}}}, quiet, &Stats{}, nil)
		e := l.prepare(m)
		attrs := e.Template.(growing).Attrs
		last := attrs[len(attrs)-1]
		if tc.kept < 30 && (len(attrs) != tc.kept+1 || last.Key != "attrs_left_out" || last.Value != fmt.Sprint(30-tc.kept)) || tc.kept == 30 && len(attrs) != 30 {
			t.Errorf("%d: %d attributes, the last %v", tc.most, len(attrs), last)
		}
		if tc.kept > 0 && tc.most > 0 && e.empty > tc.most/2 {
			t.Errorf("%d: messages have at least %d bytes", tc.most, e.empty)
		}
	}
}
