package record

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzJoiner: what chunks hold comes out again, whole and in order for each line,
// and a reader that begins again at a piece gets the same from there on.
func FuzzJoiner(f *testing.F) {
	f.Add([]byte("äöü€😀 plain text \xff\xfe"), uint8(3), uint64(0x5a5a))
	f.Add([]byte(strings.Repeat("€", 30)), uint8(7), uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, size uint8, how uint64) {
		chunks := 1 + int(size)%16
		var entries []Entry
		for i, rest := 0, text; len(rest) > 0; i++ {
			n := min(chunks, len(rest))
			e := Entry{Line: rest[:n], Partial: true, Stderr: how>>(i%64)&1 != 0, Time: int64(i)}
			e.ID = []byte{'a' + byte(how>>(i%60)&2)}
			e.Last = how>>(i%59)&15 == 15
			if rest = rest[n:]; how>>(i%61)&31 == 7 {
				e.Partial, e.Last = false, false
			}
			entries = append(entries, e)
		}
		all := join(t, entries, 0)
		var in, out [2][]byte
		one := [2]map[string]bool{{}, {}} // ids; chunks of lines that lie across each other come in another order
		for _, e := range entries {
			at := source(e.Stderr)
			one[at][string(e.ID)] = true
			in[at] = append(in[at], e.Line...)
		}
		for _, j := range all {
			out[source(j.Stderr)] = append(out[source(j.Stderr)], j.Line...)
		}
		for at := range in {
			if len(in[at]) != len(out[at]) || len(one[at]) == 1 && !bytes.Equal(in[at], out[at]) {
				t.Fatalf("%q came out as %q", in[at], out[at])
			}
		}
		if n := len(all); n > 1 && len(entries) > 0 && oneLine(entries) {
			again := join(t, entries, all[n/2].Offset)
			for i, j := range again {
				if want := all[n/2+i]; j.Offset != want.Offset || !bytes.Equal(j.Line, want.Line) || j.Cut != want.Cut {
					t.Fatalf("beginning again: %d %q, not %d %q", j.Offset, j.Line, want.Offset, want.Line)
				}
			}
		}
	})
}

func source(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}

// oneLine reports whether all chunks are of the same line.
func oneLine(entries []Entry) bool {
	for i, e := range entries {
		if e.Stderr != entries[0].Stderr || string(e.ID) != string(entries[0].ID) || i < len(entries)-1 && (e.Last || !e.Partial) {
			return false
		}
	}
	return true
}

// join joins the entries, of which the i-th begins at offset i, from one on.
func join(t *testing.T, entries []Entry, from uint64) (all []Joined) {
	j := Joiner{Max: 40}
	emit := func(r *Joined) {
		if len(r.Line) > 40 {
			t.Fatalf("%d bytes", len(r.Line))
		}
		if open, ok := j.Open(); ok && open > r.Offset {
			t.Fatalf("%d is given out, and open is what is behind %d", r.Offset, open)
		}
		kept := *r
		kept.Line = bytes.Clone(r.Line)
		all = append(all, kept)
	}
	for i := int(from); i < len(entries); i++ {
		j.Add(uint64(i), &entries[i], emit)
	}
	j.Flush(emit)
	return all
}

// A long line is cut between chunks that end between runes, where there are some.
func TestPiecesEndBetweenRunes(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		chunk      int
		whole      bool
	}{
		{"three bytes each", strings.Repeat("€", 200), 8, true},
		{"four", "x" + strings.Repeat("😀", 100), 7, true},
		{"none fits", "x" + strings.Repeat("😀", 100), 4, false},
		{"not UTF-8", strings.Repeat("\x80", 300), 16, false},
	} {
		var entries []Entry
		for rest := []byte(tc.text); len(rest) > 0; {
			n := min(tc.chunk, len(rest))
			entries = append(entries, Entry{Line: rest[:n], Partial: true, ID: []byte("i")})
			rest = rest[n:]
		}
		got := ""
		all := join(t, entries, 0)
		for i, j := range all {
			if got += string(j.Line); tc.whole && !utf8.Valid(j.Line) || j.Cut != (i < len(all)-1) {
				t.Errorf("%s: piece %d is %q", tc.name, i, j.Line)
			}
		}
		if got != tc.text || len(all) < 2 {
			t.Errorf("%s: %d pieces of %q", tc.name, len(all), got)
		}
	}
}
