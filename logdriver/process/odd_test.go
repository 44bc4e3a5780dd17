package process

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/record"
)

// captured returns what a program wrote.
func captured(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/odd", name))
	if err == nil && strings.HasSuffix(name, ".gz") {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(z)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entries is what the engine makes of what a program writes (moby
// daemon/logger/copier.go): lines, longer ones in chunks of 16 KiB, without their
// newlines; what has none is a chunk that more may follow.
func entries(out []byte) (all []record.Entry) {
	const most = 16 << 10
	for len(out) > 0 {
		line, rest, ended := bytes.Cut(out, []byte("\n"))
		if ended && len(line) < most {
			all = append(all, record.Entry{Line: line})
		} else {
			for n := int32(1); len(line) > 0; n++ {
				size := min(most, len(line))
				all = append(all, record.Entry{Line: line[:size], ID: []byte("id"), Ordinal: n, Partial: true, Last: ended && size == len(line)})
				line = line[size:]
			}
		}
		out = rest
	}
	return all
}

// through has what a program wrote joined and processed, as ship does.
func through(t testing.TB, out []byte, opts ...string) (all []out, stats *Stats) {
	t.Helper()
	s := spec(t, opts...)
	max := defaultRecord
	if s != nil {
		max = s.MaxRecord
	}
	stats = new(Stats)
	st := s.New(stats)
	emit := func(r *Record) { all = append(all, outOf(r)) }
	take := func(j *record.Joined) {
		if st != nil {
			st.Add(j, emit)
		} else {
			all = append(all, outOf(&Record{Offset: record.ID(j.Offset, j.Span), Cut: j.Cut, Line: j.Line}))
		}
	}
	join := record.Joiner{Max: max}
	for i, e := range entries(out) {
		e.Time = sunday
		join.Add(uint64(i)*100, &e, take)
	}
	join.Flush(take)
	if st != nil {
		st.Flush(emit)
	}
	return all, stats
}

// together undoes what the engine did to lines.
func together(all []out) string {
	var b strings.Builder
	for _, o := range all {
		if b.WriteString(o.Line); !o.Cut {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// What is hard on a log driver comes out as it went in, whatever else is done, and
// as asked for where it is to be made valid. Golden files have a record a line.
func TestOddOutputsOfRealPrograms(t *testing.T) {
	for _, name := range []string{"garbage", "crlf", "nul", "ansi", "no-newline"} {
		raw := captured(t, name)
		ended := bytes.HasSuffix(raw, []byte("\n"))
		want := strings.TrimSuffix(string(raw), "\n") + "\n"
		if ended == (name == "no-newline" || name == "garbage") {
			t.Errorf("%s ends in a newline: %v", name, ended)
		}
		for _, opts := range []string{"", "multiline=auto", "parse=auto", "redact=all", "exclude=^never$ max-line=64k", "multiline=auto parse=auto redact=all redact.x=^never$ rate=100000"} {
			got, stats := through(t, raw, strings.Fields(opts)...)
			if together(got) != want {
				t.Errorf("%s with %q: %s", name, opts, cmp.Diff(want, together(got)))
			}
			if n := stats.Filtered.Load() + stats.RateDropped.Load() + stats.Withheld.Load() + stats.Truncated.Load() + stats.Redactions.Load(); n > 0 {
				t.Errorf("%s with %q: something was done to %d records", name, opts, n)
			}
		}
		var text bytes.Buffer
		for _, opts := range []string{"utf8=pass", "utf8=escape", "utf8=replace multiline=auto"} {
			fmt.Fprintln(&text, opts)
			got, _ := through(t, raw, strings.Fields(opts)...)
			for _, o := range got {
				if fmt.Fprintf(&text, "%d %q\n", o.Offset, o.Line); opts != "utf8=pass" && !utf8.ValidString(o.Line) {
					t.Errorf("%s with %s: %q", name, opts, o.Line)
				}
			}
		}
		file := filepath.Join("testdata/odd", name+".golden")
		if *update {
			if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if expect, err := os.ReadFile(file); err != nil || string(expect) != text.String() {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(string(expect), text.String()))
		}
	}
}

// A line of 10 MiB comes whole, in pieces that end between runes and of which none
// is taken for JSON, under ids that are all different.
func TestTheLongLineOfARealProgram(t *testing.T) {
	raw := captured(t, "long.gz")
	for _, opts := range []string{"", "max-record=256k", "parse=auto redact=all multiline=auto max-record=3m", "utf8=escape exclude=^never$"} {
		got, _ := through(t, raw, strings.Fields(opts)...)
		if len(raw) < 10<<20 || together(got) != string(raw) || len(got) < 3 {
			t.Errorf("%q: %d bytes in %d pieces of %d", opts, len(together(got)), len(got), len(raw))
		}
		offsets := map[uint64]bool{}
		for i, o := range got {
			if offsets[o.Offset] = true; !utf8.ValidString(o.Line) || o.Fields != "" || o.Cut != (i < len(got)-1) {
				t.Errorf("%q: piece %d of %d is %.40q…", opts, i, len(got), o.Line)
			}
		}
		if len(offsets) != len(got) {
			t.Errorf("%q: %d ids for %d pieces", opts, len(offsets), len(got))
		}
	}
}
