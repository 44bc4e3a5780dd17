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

func TestCutAt(t *testing.T) {
	for _, tc := range []struct {
		text     string
		at, want int
	}{{"abcd", 2, 2}, {"a€b", 2, 1}, {"a€b", 3, 1}, {"a€b", 4, 4}, {"ab😀", 5, 2}, {"\x80\x80\x80\x80\x80\x80", 5, 5}, {"€", 1, 1}} {
		if got := CutAt([]byte(tc.text), tc.at); got != tc.want {
			t.Errorf("%q at %d: %d", tc.text, tc.at, got)
		}
	}
}

// Whether the end of a line has come or not, what is given out of it has an id
// that nothing else has: not what begins with the same chunk and is longer, nor
// the line that lies across it.
func TestIDs(t *testing.T) {
	chunk := func(id, text string, n int) *Entry {
		return &Entry{Line: []byte(text), Partial: true, ID: []byte(id), Ordinal: int32(n), Stderr: id == "e"}
	}
	entries := []*Entry{chunk("o", "one ", 1), chunk("e", "uno ", 1), chunk("o", "two ", 2), chunk("e", "due ", 2), chunk("o", "three", 3)}
	entries[4].Last = true
	type piece struct {
		line      string
		tail, cut bool
	}
	ids := map[uint64]piece{}
	for how := range 1 << len(entries) {
		j, last := Joiner{Max: 1 << 10}, [2]uint64{}
		emit := func(r *Joined) {
			id, got := ID(r.Offset, r.Span), piece{string(r.Line), r.Tail, r.Cut}
			if was, ok := ids[id]; ok && was.line != got.line || got.tail != (r.Offset > 19) {
				t.Errorf("%x is %+v and %+v", id, was, got)
			}
			if at := source(r.Stderr); id < last[at] {
				t.Errorf("%x comes behind %x", id, last[at])
			} else {
				last[at] = id
			}
			ids[id] = got
		}
		for i, e := range entries {
			j.Add(uint64(12*i), e, emit)
			if how>>i&1 != 0 {
				j.ExpireIdle(emit)
				j.ExpireIdle(emit)
			}
		}
		j.Flush(emit)
	}
	for id := range ids {
		all := map[uint64]bool{}
		for n := range 1000 {
			all[PieceID(id, n, false)] = true
		}
		all[PieceID(id, 1000, true)], all[MarkID(OffsetOf(id), 99)] = true, true
		for other := range ids {
			if all[other] || len(all) != 1002 {
				t.Errorf("%x is that of a piece or a mark, too", other)
			}
		}
	}
	if many := PieceID(ID(5, 0xffff), 500_000, false); many >= PieceID(ID(5, 0), 0, true) || many <= PieceID(ID(5, 0xffff), 499_999, false) {
		t.Error("the id of one of many pieces is that of a last one, too, or does not sort")
	}
	if a, b := PieceID(ID(5, 0), 2, false), PieceID(ID(5, 0), 3, true); a <= PieceID(ID(5, 0), 1, false) || b <= a || b >= ID(5+12, 0) {
		t.Error("pieces do not sort")
	}
}

// Where all streams together hold too much, lines come in pieces, and nothing is
// lost; what is let go of is counted as free.
func TestBudget(t *testing.T) {
	b := &Budget{Most: 100}
	all := make([]Joiner, 10)
	in, out := 0, 0
	emit := func(r *Joined) { out += len(r.Line) }
	for n := range 20 {
		for i := range all {
			all[i].Max, all[i].Budget = 1<<10, b
			e := Entry{Line: []byte("0123456789"), Partial: true, Ordinal: int32(n + 1)}
			all[i].Add(uint64(100*n), &e, emit)
			if in += 10; b.Used() > b.Most {
				t.Fatalf("%d bytes are held", b.Used())
			}
		}
	}
	all[0].Reset()
	for i := range all[1:] {
		all[i+1].Flush(emit)
	}
	if in-out != 10 || b.Used() != 0 {
		t.Errorf("%d went in, %d came out, %d are held", in, out, b.Used())
	}
}
