package process

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/record"
)

// What is not text, or not quite, goes through every step whole.
func TestOddBytes(t *testing.T) {
	odd := []string{
		"", " ", "\r", "windows\r", "\x00", "a\x00b", "\xff\xfe\x00\x80", "\xe2\x82", "\x1b[31mred\x1b[0m", "\x1b[1m{\"a\":1}\x1b[0m",
		"{", "{}", "[1]", "null", `"`, "=", "a=", "=b", `a="`, "://", "a@b", "Bearer ", "eyJ", "AKIA", "tab\tand\vmore", strings.Repeat("x", 100<<10),
	}
	for _, opts := range []string{"multiline=auto", "multiline-start=^x", "include=(?s).*", "exclude=^never$", "redact=all", "redact.x=^never$", "rate=1000000", "max-line=2m", "multiline=auto redact=all parse=auto exclude=^never$ max-line=2m"} {
		var stats Stats
		got := run(spec(t, strings.Fields(opts)...).New(&stats), odd...)
		if opts == "multiline-start=^x" {
			if s := strings.Join(lines(got), "\n"); s != strings.Join(odd, "\n") {
				t.Errorf("%s: %.200q", opts, s)
			}
			continue
		}
		if d := cmp.Diff(odd, lines(got)); d != "" {
			t.Errorf("%s: %.500s", opts, d)
		}
		if n := stats.Redactions.Load() + stats.Filtered.Load() + stats.RateDropped.Load() + stats.Truncated.Load(); n > 0 {
			t.Errorf("%s: something was done to %d records", opts, n)
		}
	}
}

func TestMultilineStart(t *testing.T) {
	for _, tc := range []struct {
		name, opts string
		in         []string
		want       []out
	}{
		{"one after the other", "", []string{"# a", " b", "c", "# d"}, []out{{0, "# a\n b\nc", "", "", false, false}, {3, "# d", "", "", false, false}}},
		{"sources apart", "", []string{"# a", "!# x", "b", "!y", "!# z"}, []out{{1, "# x\ny", "", "", false, true}, {0, "# a\nb", "", "", false, false}, {4, "# z", "", "", false, true}}},
		{"none begins", "", []string{"a", "b", "# c"}, []out{{0, "a\nb", "", "", false, false}, {2, "# c", "", "", false, false}}},
		{"empty lines", "", []string{"# a", "", "", "# b"}, []out{{0, "# a\n\n", "", "", false, false}, {3, "# b", "", "", false, false}}},
		{"too long", "max-record=16k", []string{"# a", strings.Repeat("b", 16<<10-4), "c", "d"},
			[]out{{0, "# a\n" + strings.Repeat("b", 16<<10-4), "", "", true, false}, {2, "c\nd", "", "", false, false}}},
	} {
		opts := append(strings.Fields(tc.opts), "multiline-start=^#")
		if d := cmp.Diff(tc.want, run(spec(t, opts...).New(&Stats{}), tc.in...)); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

// A line that comes late is a record of its own, whether that shows by the time
// it was written at or because nothing came.
func TestMultilineTimeout(t *testing.T) {
	s := spec(t, "multiline-start=^#", "multiline-timeout=2s").New(&Stats{})
	var got []out
	emit := func(r *Record) { got = append(got, outOf(r)) }
	add := func(offset uint64, at time.Duration, line string) {
		s.Add(&record.Joined{Offset: offset, Time: sunday + int64(at), Line: []byte(line)}, emit)
	}
	add(0, 0, "# a")
	add(1, 2*time.Second, "b")
	add(2, 4*time.Second+1, "c")
	s.ExpireIdle(time.Now(), emit)
	if open, ok := s.Open(); open != 2 || !ok || s.Patience() != time.Second {
		t.Errorf("open at %d, %v", open, ok)
	}
	s.ExpireIdle(time.Now().Add(2*time.Second), emit)
	add(3, 5*time.Second, "d")
	if open, _ := s.Open(); open != 3 {
		t.Errorf("open at %d", open)
	}
	s.Reset(0)
	if _, ok := s.Open(); ok {
		t.Error("open after a reset")
	}
	if d := cmp.Diff([]string{"# a\nb", "c"}, lines(got)); d != "" {
		t.Error(d)
	}
}

// Pieces of a line too long to be joined belong to nothing before or behind them.
func TestPiecesStayAlone(t *testing.T) {
	s := spec(t, "multiline-start=^#", "parse=json").New(&Stats{})
	var got []out
	emit := func(r *Record) { got = append(got, outOf(r)) }
	for i, l := range []struct {
		line      string
		cut, tail bool
	}{{"# a", false, false}, {`{"a":1}`, true, false}, {`{"p":2}`, true, true}, {`{"p":3}`, false, true}, {"b", false, false}, {"# c", false, false}} {
		s.Add(&record.Joined{Offset: uint64(i), Time: sunday, Line: []byte(l.line), Cut: l.cut, Tail: l.tail}, emit)
		if i == 2 {
			s.Flush(emit) // for it has fallen behind
		}
	}
	s.Flush(emit)
	want := []out{{Line: "# a"}, {Offset: 1, Line: `{"a":1}`, Cut: true}, {Offset: 2, Line: `{"p":2}`, Cut: true}, {Offset: 3, Line: `{"p":3}`}, {Offset: 4, Line: "b"}, {Offset: 5, Line: "# c"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFilters(t *testing.T) {
	var stats Stats
	s := spec(t, "include=GET|POST", "exclude=/health", "multiline-start=^\\S").New(&stats)
	got := run(s, "GET /", "PUT /", "GET /health", "POST /x", " /health below", "POST /y", " more")
	if d := cmp.Diff([]string{"GET /", "POST /y\n more"}, lines(got)); d != "" || stats.Filtered.Load() != 3 {
		t.Errorf("%d left out, %s", stats.Filtered.Load(), d)
	}
	s.Reset(0)
	run(s, "PUT /", "PUT /")
	if n := stats.Filtered.Load(); n != 3 {
		t.Errorf("what is read again is counted again: %d", n)
	}
	s = spec(t, "include=needle").New(&Stats{})
	if got := run(s, strings.Repeat("x", maxFilter)+"needle"); len(got) > 0 {
		t.Error("looked behind the bound")
	}
}

func TestRateDrops(t *testing.T) {
	var stats Stats
	s := spec(t, "rate=10", "burst=3").New(&stats)
	var got []out
	emit := func(r *Record) { got = append(got, outOf(r)) }
	for i := range 3000 { // a thousand a second
		s.Add(&record.Joined{Offset: uint64(i), Time: sunday + int64(i)*int64(time.Millisecond), Line: []byte("x")}, emit)
		if open, ok := s.Open(); ok && int(open) < i-1000 {
			t.Fatalf("at %d what is dropped is kept open since %d", i, open)
		}
	}
	s.Flush(emit)
	passed, dropped := 0, 0
	for _, o := range got {
		var n int
		if _, err := fmt.Sscanf(o.Line, "[dockline] %d records of this container were left out here: it wrote more than its rate of 10 allows", &n); err == nil {
			dropped += n
		} else {
			passed++
		}
	}
	if passed < 30 || passed > 34 || passed+dropped != 3000 || stats.RateDropped.Load() != uint64(dropped) || len(got)-passed != 3 {
		t.Errorf("%d passed, %d dropped, %d counted, %d markers", passed, dropped, stats.RateDropped.Load(), len(got)-passed)
	}
	if got[0].Offset != 0 || got[1].Offset != 1 || got[2].Offset != 2 || got[3].Offset != 100 {
		t.Errorf("first came %+v", got[:4])
	}
}

// A clock that is set back by an hour drops no hour.
func TestRateWithAClockSetBack(t *testing.T) {
	s := spec(t, "rate=10", "burst=3").New(&Stats{})
	var got []out
	emit := func(r *Record) { got = append(got, outOf(r)) }
	for i, at := range []time.Duration{0, time.Millisecond, -time.Hour, -time.Hour + 200*time.Millisecond} {
		s.Add(&record.Joined{Offset: uint64(i), Time: sunday + int64(at), Line: []byte("x")}, emit)
	}
	if s.Flush(emit); len(got) != 4 || got[3].Line != "x" && got[2].Line != "x" {
		t.Errorf("came: %+v", got)
	}
}

func TestRateDelays(t *testing.T) {
	var stats Stats
	s := spec(t, "rate=10", "burst=2", "rate-mode=delay").New(&stats)
	now := time.Now()
	sent, turns := 0, 0
	for ; sent < 22; turns++ {
		wait := s.Begin(now)
		now = now.Add(wait)
		if wait > 0 {
			continue
		}
		for !s.Enough() {
			s.Add(&record.Joined{Offset: uint64(sent), Line: []byte("x")}, func(*Record) { sent++ })
		}
	}
	if turns > 60 || stats.Delayed.Load() < 20 || stats.RateDropped.Load() > 0 {
		t.Errorf("%d turns, %d times delayed", turns, stats.Delayed.Load())
	}
}

// A turn ends when expressions have looked at much, whatever they are.
func TestTurnsAreBounded(t *testing.T) {
	s := spec(t, "exclude=(x+y?){40}z").New(&Stats{})
	s.Begin(time.Now())
	n := 0
	for ; !s.Enough(); n++ {
		s.Add(&record.Joined{Line: []byte(strings.Repeat("x", 10000))}, func(*Record) {})
	}
	if n > 10 {
		t.Errorf("%d lines of 10 kB in a turn", n)
	}
}

func TestUTF8(t *testing.T) {
	for _, tc := range []struct{ mode, in, want string }{
		{"pass", "a\xffb", "a\xffb"}, {"escape", "a\xff\x80b\u00fc\x00", "a\\xff\\x80b\u00fc\x00"}, {"replace", "a\xff\xc3b", "a\ufffd\ufffdb"},
		{"escape", "\ufffd", "\ufffd"}, {"replace", "plain", "plain"},
	} {
		var stats Stats
		got := run(spec(t, "utf8="+tc.mode, "max-line=1m").New(&stats), tc.in)
		if got[0].Line != tc.want || (stats.InvalidUTF8.Load() == 1) != (tc.want != tc.in) {
			t.Errorf("%s %q: %q", tc.mode, tc.in, got[0].Line)
		}
	}
}

func TestTruncation(t *testing.T) {
	var stats Stats
	s := spec(t, "max-line=64").New(&stats)
	for in, want := range map[string]string{
		strings.Repeat("x", 64):                  strings.Repeat("x", 64),
		strings.Repeat("x", 65):                  strings.Repeat("x", 64) + " [dockline: 1 bytes cut]",
		strings.Repeat("x", 62) + "€€":           strings.Repeat("x", 62) + " [dockline: 6 bytes cut]",
		strings.Repeat("\x80", 100):              strings.Repeat("\x80", 64) + " [dockline: 36 bytes cut]",
		strings.Repeat("x", 63) + "ü" + "\x00\n": strings.Repeat("x", 63) + " [dockline: 4 bytes cut]",
	} {
		if got := run(s, in); got[0].Line != want || utf8.ValidString(in) && !utf8.ValidString(got[0].Line) {
			t.Errorf("%q: %q", in, got[0].Line)
		}
		s.Reset(0)
		s.counted = 0
	}
	if stats.Truncated.Load() != 4 {
		t.Errorf("%d counted", stats.Truncated.Load())
	}
}

// Wherever a reader begins again, the same records pass and the same are dropped.
func TestRateIsTheSameAgain(t *testing.T) {
	s := spec(t, "rate=100", "burst=20").New(&Stats{})
	passed, places := map[uint64]bool{}, []int{0}
	again := false
	emit := func(r *Record) {
		if id := r.Offset; !strings.HasPrefix(string(r.Line), "x") {
			return
		} else if again && !passed[id] {
			t.Fatalf("%d passes only now", record.OffsetOf(id))
		} else {
			passed[id] = true
		}
	}
	write := func(i int) {
		s.Add(&record.Joined{Offset: uint64(100 * i), Time: sunday + int64(i)*int64(time.Millisecond), Line: []byte("x")}, emit)
	}
	for i := range 5000 {
		if _, open := s.Open(); !open {
			places = append(places, i)
		}
		write(i)
	}
	again = true
	for _, from := range []int{0, len(places) / 2, len(places) / 2, len(places) - 5, len(places) - 1} {
		s.Reset(uint64(100 * places[from]))
		for i := places[from]; i < 5000; i++ {
			write(i)
		}
	}
	if n := len(passed); n < 500 || n > 520 || len(places) < 20 {
		t.Errorf("%d passed, at %d places nothing was open", n, len(places))
	}
}
