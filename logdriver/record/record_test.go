package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/plugins/logdriver"
	"github.com/google/go-cmp/cmp"
)

func frame(t testing.TB, e *logdriver.LogEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := logdriver.NewLogEntryEncoder(&b).Encode(e); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func chunk(source, id, line string, ordinal int32, last bool) *logdriver.LogEntry {
	return &logdriver.LogEntry{
		Source: source, TimeNano: 7, Line: []byte(line), Partial: true,
		PartialLogMetadata: &logdriver.PartialLogEntryMetadata{Id: id, Ordinal: ordinal, Last: last},
	}
}

func whole(source, line string) *logdriver.LogEntry {
	return &logdriver.LogEntry{Source: source, TimeNano: 7, Line: []byte(line)}
}

func TestNextBoundsFrames(t *testing.T) {
	good := frame(t, whole("stdout", "hello"))
	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"whole", good, nil},
		{"no bytes", nil, ErrShort},
		{"half a header", good[:3], ErrShort},
		{"half a frame", good[:len(good)-1], ErrShort},
		{"zeros, as after a power cut", make([]byte, 100), ErrCorrupt},
		{"over the bound", binary.BigEndian.AppendUint32(nil, MaxFrame+1), ErrCorrupt},
	} {
		if _, _, err := Next(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestResyncFindsTheNextFrame(t *testing.T) {
	var good []byte
	for i := range 5 {
		good = append(good, frame(t, whole("stdout", fmt.Sprint("line ", i)))...)
	}
	for name, bad := range map[string][]byte{
		"zeros":        make([]byte, 300),
		"torn frame":   good[:9],
		"random bytes": []byte(strings.Repeat("\xff\x01\x00", 50)),
	} {
		skip, ok := Resync(append(bytes.Clone(bad), good...))
		if !ok || skip != len(bad) {
			t.Errorf("%s: skipped %d (%v), want %d", name, skip, ok, len(bad))
		}
	}
	if skip, ok := Resync(make([]byte, 50)); ok || skip < 50-HeaderLen+1 {
		t.Errorf("nothing to find: got %d, %v", skip, ok)
	}
}

func TestJoiner(t *testing.T) {
	type rec struct {
		Offset uint64
		Line   string
		Stderr bool
		Cut    bool
	}
	for _, tc := range []struct {
		name string
		in   []*logdriver.LogEntry // the i-th begins at offset i
		want []rec
		open int64 // offset of what is still open, -1 for none
	}{
		{"whole lines pass", []*logdriver.LogEntry{whole("stdout", "a"), whole("stderr", "b")},
			[]rec{{0, "a", false, false}, {1, "b", true, false}}, -1},
		{"three chunks", []*logdriver.LogEntry{chunk("stdout", "x", "ab", 1, false), chunk("stdout", "x", "cd", 2, false), chunk("stdout", "x", "e", 3, true)},
			[]rec{{0, "abcde", false, false}}, -1},
		{"sources interleave, same id", []*logdriver.LogEntry{chunk("stdout", "x", "o1", 1, false), chunk("stderr", "x", "e1", 1, false), chunk("stdout", "x", "o2", 2, true), chunk("stderr", "x", "e2", 2, true)},
			[]rec{{0, "o1o2", false, false}, {1, "e1e2", true, false}}, -1},
		{"a whole line between chunks", []*logdriver.LogEntry{chunk("stdout", "x", "ab", 1, false), whole("stderr", "w"), chunk("stdout", "x", "c", 2, true)},
			[]rec{{1, "w", true, false}, {0, "abc", false, false}}, -1},
		{"longer than the bound", []*logdriver.LogEntry{chunk("stdout", "x", "12345678", 1, false), chunk("stdout", "x", "90", 2, false), chunk("stdout", "x", "abc", 3, true)},
			[]rec{{0, "1234567890", false, true}, {2, "abc", false, false}}, -1},
		{"no newline yet", []*logdriver.LogEntry{whole("stdout", "w"), chunk("stdout", "x", "prompt> ", 1, false)},
			[]rec{{0, "w", false, false}}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := Joiner{Max: 10}
			var got []rec
			var e Entry
			for i, in := range tc.in {
				f, _, err := Next(frame(t, in))
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Decode(f); err != nil {
					t.Fatal(err)
				}
				j.Add(uint64(i), &e, func(r *Joined) { got = append(got, rec{r.Offset, string(r.Line), r.Stderr, r.Cut}) })
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
			off, ok := j.Open()
			if ok != (tc.open >= 0) || ok && int64(off) != tc.open {
				t.Errorf("open: %d, %v; want %d", off, ok, tc.open)
			}
		})
	}
}

func TestJoinerFlushAndBounds(t *testing.T) {
	j := Joiner{Max: 1 << 20}
	var e Entry
	var got []string
	emit := func(r *Joined) { got = append(got, string(r.Line)) }
	for i := range maxOpen + 2 {
		f, _, _ := Next(frame(t, chunk("stdout", fmt.Sprint(i), fmt.Sprint("line", i), 1, false)))
		if err := e.Decode(f); err != nil {
			t.Fatal(err)
		}
		j.Add(uint64(i), &e, emit)
	}
	if len(got) != 2 || len(j.open) != maxOpen {
		t.Fatalf("gave out %d and holds %d, want 2 and %d", len(got), len(j.open), maxOpen)
	}
	j.Flush(emit)
	if len(got) != maxOpen+2 || got[maxOpen+1] != fmt.Sprint("line", maxOpen+1) {
		t.Fatalf("after the flush: %q", got)
	}
}

func TestEncoderIsReadByTheStockDecoder(t *testing.T) {
	var c Encoder
	b, err := c.Append(nil, true, 42, []byte("hello\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got logdriver.LogEntry
	if err := logdriver.NewLogEntryDecoder(bytes.NewReader(b)).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Source != "stderr" || got.TimeNano != 42 || string(got.Line) != "hello\n" {
		t.Errorf("got %+v", got)
	}
}

// FuzzDecode holds our decoder to the engine's: what one takes, the other
// takes with the same values, except that we want a source we know.
func FuzzDecode(f *testing.F) {
	for _, e := range []*logdriver.LogEntry{
		whole("stdout", "hello"), whole("stderr", ""), whole("file", "x"), chunk("stdout", "id", "abc", 3, true), {},
	} {
		f.Add(frame(f, e)[HeaderLen:])
	}
	f.Add([]byte{0x0a, 6, 's', 't', 'd', 'o', 'u', 't', 0x33, 0x08, 0x01, 0x34, 0x10, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ours Entry
		var stock logdriver.LogEntry
		ourErr, stockErr := ours.Decode(b), stock.Unmarshal(b)
		if stockErr == nil && stock.Source != "stdout" && stock.Source != "stderr" {
			if ourErr == nil {
				t.Fatalf("took source %q", stock.Source)
			}
			return
		}
		if (ourErr == nil) != (stockErr == nil) {
			t.Fatalf("ours %v, stock %v", ourErr, stockErr)
		}
		if ourErr != nil {
			return
		}
		meta := stock.PartialLogMetadata
		if meta == nil {
			meta = &logdriver.PartialLogEntryMetadata{}
		}
		if ours.Time != stock.TimeNano || !bytes.Equal(ours.Line, stock.Line) || ours.Partial != stock.Partial ||
			ours.Stderr != (stock.Source == "stderr") || string(ours.ID) != meta.Id || ours.Last != meta.Last || ours.Ordinal != meta.Ordinal {
			t.Fatalf("ours %+v, stock %+v", ours, stock)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	f := frame(b, whole("stdout", strings.Repeat("x", 120)))[HeaderLen:]
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		var e Entry
		for b.Loop() {
			if err := e.Decode(f); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stock", func(b *testing.B) {
		b.ReportAllocs()
		var e logdriver.LogEntry
		for b.Loop() {
			e.Reset()
			if err := e.Unmarshal(f); err != nil {
				b.Fatal(err)
			}
		}
	})
}
