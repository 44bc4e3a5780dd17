package process

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/logdriver/record"
)

func parserOf(line []byte) *parser {
	return &parser{scan: scanner{b: line}, fields: make([]Field, 1), spots: make([]spot, 1)}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct{ name, mode, in, line, level, fields string }{
		{"zap", "json", `{"level":"info","ts":1767528000.5,"caller":"a.go:1","msg":"served","status":200}`, "served", "info", "caller=a.go:1 status=<200>"},
		{"pino", "json", `{"level":50,"time":1767528000123,"pid":1,"msg":"no"}`, "no", "error", "pid=<1>"},
		{"logrus", "json", `{"level":"warning","msg":"w","time":"2026-01-04T13:00:00+01:00"}`, "w", "warn", ""},
		{"nested", "json", `{"message":"m","user":{"id":42,"name":{"first":"eve"}},"tags":["a", "b"],"e":{}}`, "m", "", `user.id=<42> user.name.first=eve tags=<["a", "b"]> e=<{}>`},
		{"too deep", "json", `{"a":{"b":{"c":{"d":{"e":1}}}}}`, `{"a":{"b":{"c":{"d":{"e":1}}}}}`, "", `a.b.c.d=<{"e":1}>`},
		{"escapes", "json", `{"msg":"a\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00\ud83dx","\u006b":"v"}`, "a\"\\/\b\f\n\r\tü😀\ufffdx", "", "k=v"},
		{"no message", "json", `{"a":true,"b":null}`, `{"a":true,"b":null}`, "", "a=<true> b=<null>"},
		{"unknown level, no time", "json", `{"level":"loud","time":"noon","msg":"m"}`, "m", "", "level=loud time=noon"},
		{"twice", "json", `{"a":1,"a":2,"msg":"x","msg":"y"}`, "x", "", "a=<1> a=<2> msg=y"},
		{"around it", "json", " {\"msg\":\"m\"}\r", "m", "", ""},
		{"message that is none", "json", `{"msg":{"a":1}}`, `{"msg":{"a":1}}`, "", "msg.a=<1>"},
		{"an array", "json", `[1]`, `[1]`, "", ""},
		{"text", "json", `hello`, `hello`, "", ""},
		{"torn", "json", `{"msg":"m"`, `{"msg":"m"`, "", ""},
		{"more behind it", "json", `{"msg":"m"} x`, `{"msg":"m"} x`, "", ""},
		{"logfmt", "logfmt", `time=2026-01-04T12:00:00Z level=warn msg="it is \"slow\"" took=1.5s ok path=/a?b=c`, `it is "slow"`, "warn", "took=1.5s ok= path=/a?b=c"},
		{"logfmt without pairs", "logfmt", `just some words`, `just some words`, "", ""},
		{"logfmt with a quote left open", "logfmt", `a="b`, `a="b`, "", ""},
		{"auto json", "auto", `{"msg":"m"}`, "m", "", ""},
		{"auto logfmt", "auto", `level=info msg=m a=b`, "m", "info", "a=b"},
		{"auto text", "auto", `the answer is a=b c=d`, `the answer is a=b c=d`, "", ""},
		{"auto one pair", "auto", `a=b`, `a=b`, "", ""},
		{"auto access log", "auto", `127.0.0.1 - - "GET /?a=b HTTP/1.1" 200`, `127.0.0.1 - - "GET /?a=b HTTP/1.1" 200`, "", ""},
	} {
		got := run(spec(t, "parse="+tc.mode).New(&Stats{}), tc.in)
		if d := cmp.Diff([]out{{Line: tc.line, Level: tc.level, Fields: tc.fields}}, got); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

func TestParseBounds(t *testing.T) {
	var many strings.Builder
	for i := range maxFields + 1 {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	var stats Stats
	s := spec(t, "parse=json").New(&stats)
	for name, in := range map[string]string{
		"fields": `{` + many.String() + `"msg":"m"}`,
		"key":    `{"` + strings.Repeat("k", maxKey+1) + `":1,"msg":"m"}`,
	} {
		if got := run(s, in); got[0].Line != in {
			t.Errorf("%s: something is lost: %s", name, got[0].Line)
		}
	}
	if stats.ParseFailures.Load() != 0 {
		t.Error("that is no failure")
	}
	deep := `{"a":` + strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting) + `}`
	long := `{"msg":"` + strings.Repeat("x", maxParsed) + `"}`
	s = spec(t, "parse=json").New(&stats)
	if got := run(s, deep, long); got[0].Line != deep || got[1].Line != long || stats.ParseFailures.Load() != 2 {
		t.Errorf("%d failures", stats.ParseFailures.Load())
	}
}

func TestParseKeep(t *testing.T) {
	in := `{"msg":"m","a":1}`
	got := run(spec(t, "parse=json", "parse-keep=true").New(&Stats{}), in)
	if got[0].Line != "m" || got[0].Fields != "a=<1> original="+in {
		t.Errorf("%+v", got)
	}
}

// A time that is not believed, and what it says of time twice, is not lost.
func TestTimesThatDoNotCount(t *testing.T) {
	for in, want := range map[string]string{
		`{"msg":"m","ts":"2020-01-01T00:00:00Z","a":1}`:    "a=<1> ts=2020-01-01T00:00:00Z",
		`{"msg":"m","ts":1577836800}`:                      "ts=<1577836800>",
		`{"msg":"m","time":"2026-01-04T12:00:00Z","ts":1}`: "ts=<1>",
	} {
		if got := run(spec(t, "parse=json").New(&Stats{}), in); got[0].Fields != want || got[0].Line != "m" {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

// The application's time counts if it is near the one at which it was written.
func TestTimes(t *testing.T) {
	noon := time.Unix(0, sunday).UTC()
	for value, want := range map[string]int64{
		`"2026-01-04T12:00:00.123456789Z"`: sunday + 123456789, `1767528000`: sunday, `1767528000.25`: sunday + 25e7, `"1767528000"`: sunday,
		`1767528000123`: sunday + 123e6, `1767528000123456`: sunday + 123456e3, `1767528000123456789`: sunday + 123456789,
		`"2026-01-06T12:00:00Z"`: sunday, `"2025-01-04T12:00:00Z"`: sunday, `12`: sunday, `99999999999999999999`: sunday, `"1.2.3"`: sunday, `-1767528001`: sunday, `1.7675e9`: sunday,
		`"` + noon.Add(-time.Hour).Format(time.RFC3339) + `"`: sunday - int64(time.Hour),
	} {
		s := spec(t, "parse=json").New(&Stats{})
		s.finish(&record.Joined{Time: sunday, Line: []byte(`{"ts":` + value + `}`)}, func(r *Record) {
			if r.Time != want || r.Stamped != sunday {
				t.Errorf("%s: %d, want %d", value, r.Time, want)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for text, want := range map[string]Level{"INFO": Info, "Warning": Warn, "ERR": Error, "fatal": Critical, "20": Debug, "0": Emergency, "": NoLevel, "x": NoLevel, strings.Repeat("x", 20): NoLevel} {
		if got, ok := levelOf([]byte(text)); got != want || ok != (want != NoLevel) {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	for l, want := range map[Level]int{Trace: 7, Debug: 7, Info: 6, Notice: 5, Warn: 4, Error: 3, Critical: 2, Alert: 1, Emergency: 0} {
		if got := l.Severity(); got != want {
			t.Errorf("%v: %d", l, got)
		}
	}
}

func TestWhatIsLiftedIsJSON(t *testing.T) {
	for _, in := range []string{`{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":1-2}`, `{"a":NaN}`, `{"a":+1}`, `{"a":tru}`, "{\"a\":\"\n\"}", `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a" 1}`, `{"a":1,}`, `{,}`, `{"a":[1,]}`, `{'a':1}`} {
		p := parserOf([]byte(in))
		if p.json() || json.Valid([]byte(in)) {
			t.Errorf("%s is taken", in)
		}
	}
}
