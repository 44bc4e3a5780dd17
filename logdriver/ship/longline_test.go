package ship

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// sizes is a peer that keeps whole records.
type sizes struct {
	*peer
	tell func(r *Record)
}

func (p sizes) Prepare(*Meta) Template { return sizesTemplate{p.tell} }

type sizesTemplate struct{ tell func(*Record) }

func (s sizesTemplate) Append(dst []byte, r *Record) []byte {
	s.tell(r)
	return fmt.Appendf(dst, "%d\n", r.Offset)
}

// Lines of 10 MiB, of text and of garbage, with and without a newline at their
// end, come whole in pieces of at most max-record, whatever else is done.
func TestLinesOfTenMiB(t *testing.T) {
	garbage := make([]byte, 10<<20)
	for i := range garbage {
		garbage[i] = byte(i*i>>3) ^ byte(i>>7)
	}
	text := []byte(strings.Repeat("Zeile mit Umläuten, €uros und 😀 ", 10<<20/37))
	for _, tc := range []struct {
		name, opts string
		line       []byte
		newline    bool
		most       int
	}{
		{"text", "", text, true, 1 << 20},
		{"garbage", "", garbage, false, 1 << 20},
		{"small pieces", "max-record=256k", text, false, 256 << 10},
		{"processed", "multiline=auto parse=auto redact=all exclude=^never$ max-record=2m", text, true, 2 << 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []byte
			pieces := 0
			a := sizes{&peer{}, func(r *Record) {
				if len(r.Line) > tc.most || r.Cut != (len(got)+len(r.Line) < len(tc.line)) {
					t.Errorf("%s: piece %d has %d bytes, cut %v", tc.name, pieces, len(r.Line), r.Cut)
				}
				if &tc.line[0] == &text[0] && !utf8.Valid(r.Line) {
					t.Errorf("%s: piece %d is cut within a rune", tc.name, pieces)
				}
				pieces++
				got = append(got, r.Line...)
			}}
			m := newMemory()
			for rest := tc.line; len(rest) > 0; {
				n := min(16<<10, len(rest))
				m.data = append(m.data, chunk(t, "stdout", string(rest[:n]), n == len(rest) && tc.newline)...)
				rest = rest[n:]
			}
			m.ended = true
			s := New(quiet)
			defer s.Close()
			p := poolOf(nil, "a")
			p.Collectors = []Collector{{Name: "a", Sink: a}}
			s.Add(m, &Meta{Stream: "s", Process: specOf(t, strings.Fields(tc.opts)...)}, p, Key{Value: "s"})
			time.Sleep(time.Minute)
			synctest.Wait() // which orders what follows behind all that the others did
			if !bytes.Equal(got, tc.line) || m.Cursor() != uint64(len(m.data)) {
				t.Errorf("%s: %d bytes came of %d, acknowledged %d of %d", tc.name, len(got), len(tc.line), m.Cursor(), len(m.data))
			}
		})
	}
}
