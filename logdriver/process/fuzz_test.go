package process

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// What goes in as lines comes out as lines, in order for each source, none more
// and none less, whatever belongs together and whenever it is given out.
func FuzzMultiline(f *testing.F) {
	f.Add("Traceback (most recent call last):\n  File\nE\n\nx", uint64(0), byte(0))
	f.Add("panic: a\n\ngoroutine 1 [running]:\nmain.main()\n\tx\nexit status 2", uint64(5), byte(1))
	f.Add("/a:1\nx\n^\n\nError: e\n    at x {\n  a\n}\n\nNode.js v1", uint64(3), byte(2))
	f.Add("a: b\n\tat c\nCaused by: d\n\t... 1 more", uint64(1<<40), byte(3))
	f.Fuzz(func(t *testing.T, text string, sources uint64, how byte) {
		opts := []string{"multiline=auto", "max-record=16k"}
		if how&1 != 0 {
			opts[0] = "multiline-start=^[a-zA-Z]"
		}
		s := spec(t, opts...).New(&Stats{})
		var in, got [2][]string
		last := [2]int{-1, -1}
		emit := func(r *Record) {
			at := 0
			if r.Stderr {
				at = 1
			}
			if open, ok := s.Open(); ok && open > record.OffsetOf(r.Offset) {
				t.Fatalf("%d is given out, and open is what is behind %d", record.OffsetOf(r.Offset), open)
			}
			offset := int(record.OffsetOf(r.Offset))
			if offset <= last[at] {
				t.Fatalf("%d comes after %d", offset, last[at])
			}
			last[at] = offset
			got[at] = append(got[at], strings.Split(string(r.Line), "\n")...)
		}
		for i, line := range strings.Split(text, "\n") {
			at := int(sources >> (i % 64) & 1)
			in[at] = append(in[at], line)
			s.Add(&record.Joined{Offset: uint64(i), Time: int64(i), Line: []byte(line), Stderr: at == 1}, emit)
			if how&2 != 0 && i%3 == 0 {
				s.ExpireIdle(time.Now().Add(time.Hour), emit)
			}
			if how&4 != 0 && i%5 == 0 {
				s.Flush(emit)
			}
		}
		s.Flush(emit)
		if _, open := s.Open(); open {
			t.Fatal("something is open after all was given out")
		}
		for at := range in {
			if a, b := strings.Join(in[at], "\n"), strings.Join(got[at], "\n"); a != b {
				t.Fatalf("went in as\n%q\ncame out as\n%q", a, b)
			}
		}
	})
}

// The scanner takes what encoding/json takes, up to its bounds, and reads the
// same values.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":{"b":[1,2e5,-0.1]},"c":"\u00fc\ud83d\ude00\ud800"}`, `{"msg":"x","level":"info","ts":1}`, `{"a":tru}`, `{"a":"` + "\xff" + `"}`, `{"a":01}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		trimmed := bytes.TrimSpace(line)
		p := parserOf(trimmed)
		got := p.json()
		var want map[string]json.RawMessage
		valid := json.Unmarshal(trimmed, &want) == nil && len(trimmed) > 0 && trimmed[0] == '{'
		if got && !valid || valid && !got && bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) < maxNesting {
			t.Fatalf("taken: %v, by encoding/json: %v", got, valid)
		}
		if !got {
			return
		}
		for _, fl := range p.fields[1:] {
			if fl.Raw && !json.Valid(fl.Value) {
				t.Fatalf("%s is no JSON", fl.Value)
			}
			raw, top := want[string(fl.Key)]
			if fl.Raw || !top || len(raw) == 0 || raw[0] != '"' || !same(p.fields, fl.Key) {
				continue
			}
			var text string
			if err := json.Unmarshal(raw, &text); err == nil && text != string([]rune(string(fl.Value))) {
				t.Fatalf("%s reads %q, by encoding/json %q", raw, fl.Value, text)
			}
		}
	})
}

// same reports whether a name is there once.
func same(fields []Field, key []byte) bool {
	n := 0
	for _, f := range fields {
		if bytes.Equal(f.Key, key) {
			n++
		}
	}
	return n == 1
}

// Nothing makes a step panic, a record is neither lost nor made, and what hides
// no secret changes no byte.
func FuzzSteps(f *testing.F) {
	f.Add([]byte(`level=info msg="a b" mail=a@b.org`), byte(0))
	f.Add([]byte("Bearer abcdefghij http://u:p@h AKIAIOSFODNN7EXAMPLE \xff"), byte(1))
	f.Add([]byte(`{"aws\u005fsecret_access_key":"abcd\u0065fghijk","n":["a\u0040b.org"]}`), byte(2))
	f.Add([]byte(`{"a":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"}`), byte(7))
	f.Fuzz(func(t *testing.T, line []byte, how byte) {
		opts := []string{"redact=all", `redact.n=\b\d{6,9}\b`}
		opts = append(opts, [][]string{{}, {"parse=auto"}, {"parse=json", "parse-keep=true"}, {"parse=logfmt", "utf8=escape", "max-line=64", "parse-keep=true"}}[how%4]...)
		var stats Stats
		s := spec(t, opts...).New(&stats)
		n := 0
		given := bytes.Clone(line)
		s.Add(&record.Joined{Line: line}, func(r *Record) {
			if n++; how%4 == 0 && stats.Redactions.Load() == 0 && !bytes.Equal(r.Line, given) {
				t.Fatalf("%q became %q", given, r.Line)
			}
			sent := [][]byte{r.Line}
			for _, f := range r.Fields {
				sent = append(sent, slices.Concat(f.Key, []byte("="), f.Value))
			}
			for i := range s.spec.secrets {
				for _, text := range sent {
					if d := &s.spec.secrets[i]; d.find != nil && how%4 < 3 {
						if from, to := d.find(text, 0); from >= 0 && !bytes.Contains(text[from:to], []byte("redacted:")) {
							t.Fatalf("%q still has %q", text, text[from:to])
						}
					}
				}
			}
		})
		if n != 1 || !bytes.Equal(line, given) {
			t.Fatalf("%d records", n)
		}
	})
}
