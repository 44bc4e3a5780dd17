package process

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

func spec(t testing.TB, opts ...string) *Spec {
	t.Helper()
	given := map[string]string{}
	for _, o := range opts {
		k, v, _ := strings.Cut(o, "=")
		given[k] = v
	}
	s, err := Parse("log-opt", given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sunday is when the records of these tests are written.
var sunday = time.Date(2026, 1, 4, 12, 0, 0, 0, time.UTC).UnixNano()

// out is a record as these tests look at it.
type out struct {
	Offset uint64
	Line   string
	Fields string // key=value, in order; raw ones in brackets
	Level  string
	Cut    bool
	Stderr bool
}

func outOf(r *Record) out {
	o := out{Offset: record.OffsetOf(r.Offset), Line: string(r.Line), Level: r.Level.String(), Cut: r.Cut, Stderr: r.Stderr}
	var fields []string
	for _, f := range r.Fields {
		if f.Raw {
			fields = append(fields, fmt.Sprintf("%s=<%s>", f.Key, f.Value))
		} else {
			fields = append(fields, fmt.Sprintf("%s=%s", f.Key, f.Value))
		}
	}
	o.Fields = strings.Join(fields, " ")
	return o
}

// run sends lines through a state, a millisecond apart, the i-th at offset i.
// Lines that begin with ! are on stderr.
func run(s *State, lines ...string) (all []out) {
	emit := func(r *Record) { all = append(all, outOf(r)) }
	for i, line := range lines {
		text, stderr := strings.CutPrefix(line, "!")
		s.Add(&record.Joined{Offset: uint64(i), Time: sunday + int64(i)*int64(time.Millisecond), Line: []byte(text), Stderr: stderr}, emit)
	}
	s.Flush(emit)
	return all
}

func lines(all []out) (texts []string) {
	for _, o := range all {
		texts = append(texts, o.Line)
	}
	return texts
}

// What real programs wrote comes out as the records that a person would make of
// it. Golden files have > before a record's first line.
func TestOutputsOfRealPrograms(t *testing.T) {
	for _, tc := range []struct{ glob, preset string }{
		{"java*", "java"}, {"python*", "python"}, {"go-*", "go"}, {"node*", "node"}, {"*", "auto"},
	} {
		files, err := filepath.Glob(filepath.Join("testdata/outputs", tc.glob+".txt"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			t.Run(tc.preset+"/"+filepath.Base(file), func(t *testing.T) { golden(t, file, tc.preset) })
		}
	}
}

func golden(t *testing.T, file, preset string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var stats Stats
	var got bytes.Buffer
	written := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	records := run(spec(t, "multiline="+preset).New(&stats), written...)
	for _, o := range records {
		fmt.Fprintf(&got, "> %s\n", strings.ReplaceAll(o.Line, "\n", "\n  "))
		if o.Line != strings.Join(written[o.Offset:int(o.Offset)+strings.Count(o.Line, "\n")+1], "\n") {
			t.Errorf("the record at line %d is not what was written", o.Offset)
		}
	}
	if joined := len(written) - len(records); stats.Joined.Load() != uint64(joined) {
		t.Errorf("%d lines were joined, %d are counted", joined, stats.Joined.Load())
	}
	want := strings.TrimSuffix(file, ".txt") + ".golden"
	if *update {
		if err := os.WriteFile(want, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(expect), got.String()); d != "" {
		t.Error(d)
	}
}
