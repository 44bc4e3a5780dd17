package jsonl

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"json+tcp", "json+tls"} {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, sinktest.Protocol{Scheme: scheme, New: New, Next: nextObject})
		})
	}
}

// object is what a collector sees.
type object struct {
	Time          string            `json:"time"`
	Stream        string            `json:"stream"`
	ID            string            `json:"id"`
	Host          string            `json:"host"`
	Tag           string            `json:"tag"`
	ContainerID   string            `json:"container_id"`
	ContainerName string            `json:"container_name"`
	ImageID       string            `json:"image_id"`
	ImageName     string            `json:"image_name"`
	Command       string            `json:"command"`
	Created       string            `json:"created"`
	Attrs         map[string]string `json:"attrs"`
	Cut           bool              `json:"cut"`
	Message       string            `json:"message"`
	MessageBase64 []byte            `json:"message_base64"`
}

func nextObject(br *bufio.Reader) ([]string, []byte, error) {
	line, err := br.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	var o object
	if err := json.Unmarshal(line, &o); err != nil {
		return nil, nil, err
	}
	if o.MessageBase64 != nil {
		return []string{string(o.MessageBase64)}, nil, nil
	}
	return []string{o.Message}, nil, nil
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "json+tcp://host:1?timeout=1m"},
		{URL: "json+tcp://host", Err: "port is missing"},
		{URL: "json+tcp://host:1?timeuot=1m", Err: `did you mean "timeout"?`},
		{URL: "json+tcp://host:1?facility=1", Err: "facility"},
		{URL: "json+tcp://host:1?timeout=1h", Err: "within"},
		{URL: "json://host:1", Err: "scheme"},
	})
}

func TestGolden(t *testing.T) {
	const id = "s1-00000000deadbeef"
	const fields = `"host":"host ü","tag":"täg/web","container_id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",` +
		`"container_name":"web-1","image_id":"sha256:feed","image_name":"reg:5000/a\"b]c\\d","command":"sh -c \"echo \u0001\"",` +
		`"created":"2026-01-02T02:04:05.000000006Z","attrs":{"com.docker.compose.project.config_files":"a]b",` +
		`"com.docker.compose.project.config_hash":"c","id":"forged","team=x":"bad ` + "\ufffd" + ` utf-8"},`
	for _, tc := range []struct {
		name string
		r    ship.Record
		want string
	}{
		{"stdout", ship.Record{Line: []byte("a\tb")}, `"stream":"stdout","id":"` + id + `",` + fields + `"message":"a\tb"}`},
		{"empty", ship.Record{Stderr: true}, `"stream":"stderr","id":"` + id + `",` + fields + `"message":""}`},
		{"cut", ship.Record{Cut: true, Line: []byte("x")}, `"stream":"stdout","id":"` + id + `",` + fields + `"cut":true,"message":"x"}`},
		{"not UTF-8", ship.Record{Line: []byte("\xffx")}, `"stream":"stdout","id":"` + id + `",` + fields + `"message":"` + "\ufffd" + `x","message_base64":"/3g="}`},
		{"level and fields", ship.Record{Level: process.Notice, Line: []byte("x"), Fields: []ship.Field{
			{Key: []byte("n"), Value: []byte("42"), Raw: true}, {Key: []byte(`a"b`), Value: []byte("\xff\n")}, {Key: []byte("n"), Value: []byte("[1,\n2]"), Raw: true},
			{Key: []byte("n"), Value: []byte("[\"\xff\"]"), Raw: true}, {Key: []byte("o"), Value: []byte(`{"a":null}`), Raw: true},
		}}, `"stream":"stdout","id":"` + id + `",` + fields + `"level":"notice","fields":{"n":42,"a\"b":"` + "\ufffd" + `\n","n~2":"[1,\n2]","n~3":"[\"` + "\ufffd" + `\"]","o":{"a":null}},"message":"x"}`},
		{"names that a number would make the same", ship.Record{Line: []byte("x"), Fields: []ship.Field{
			{Key: []byte("n"), Value: []byte("1")}, {Key: []byte("n"), Value: []byte("2")}, {Key: []byte("n~2"), Value: []byte("3")}, {Key: []byte("\xff")}, {Key: []byte("\xfe")},
		}}, `"stream":"stdout","id":"` + id + `",` + fields + `"fields":{"n":"1","n~2":"2","n~2~2":"3","` + "\ufffd" + `":"","` + "\ufffd" + `~2":""},"message":"x"}`},
	} {
		tc.r.Time, tc.r.Offset = 1_700_000_000_000_000_120, 0xdeadbeef
		got := string(jsonline.New(sinktest.Meta()).Append(nil, &tc.r))
		if want := `{"time":"2023-11-14T22:13:20.000000120Z",` + tc.want; got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, want)
		}
	}
}

func TestEmptyValuesAreLeftOut(t *testing.T) {
	got := string(jsonline.New(&ship.Meta{Stream: "s"}).Append(nil, &ship.Record{}))
	want := `{"time":"1970-01-01T00:00:00.000000000Z","stream":"stdout","id":"s-0000000000000000","host":"","message":""}`
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestEqualAttrsStayApart(t *testing.T) {
	m := &ship.Meta{Attrs: []ship.Attr{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}, {Key: "x\xff", Value: "3"}, {Key: "x\xfe", Value: "4"}}}
	var o object
	if err := json.Unmarshal(jsonline.New(m).Append(nil, &ship.Record{}), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Attrs) != 4 || o.Attrs["k"] != "1" || o.Attrs["k~2"] != "2" || o.Attrs["x\ufffd~2"] != "4" {
		t.Errorf("%v", o.Attrs)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), true)
	f.Add([]byte("\xff\""), "\xff", "\n", int64(-1), false)
	f.Fuzz(func(t *testing.T, line []byte, key, value string, ns int64, flag bool) {
		m := &ship.Meta{Stream: value, Host: key, Attrs: []ship.Attr{{Key: key, Value: value}}}
		r := &ship.Record{Time: ns, Stderr: flag, Cut: flag, Line: line}
		var o object
		out := jsonline.New(m).Append(nil, r)
		if err := json.Unmarshal(out, &o); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		exact := o.MessageBase64
		if exact == nil {
			exact = []byte(o.Message)
		}
		if string(exact) != string(line) || o.Cut != flag || len(o.Attrs) != 1 || strings.ContainsRune(string(out), '\n') {
			t.Errorf("%q of %q", out, line)
		}
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := jsonline.New(sinktest.Meta()), make([]byte, 0, 4096)
	for _, line := range []string{"plain", "not \xff UTF-8", "\x00\n"} {
		r := ship.Record{Line: []byte(line), Fields: sinktest.Fields()}
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, line := range map[string]string{
		"ascii": strings.Repeat("0123456789 abcde", 8)[:120],
		"json":  `{"level":"info","msg":"request served","status":200,"path":"/api/v1/items","ms":12,"client":"192.0.2.7","trace":"4bf92f"}`,
		"utf8":  strings.Repeat("żółw и ёж ", 8)[:120],
	} {
		b.Run(name, func(b *testing.B) {
			tmpl, buf := jsonline.New(sinktest.Meta()), make([]byte, 0, 4096)
			r := ship.Record{Time: 1_700_000_000_000_000_000, Line: []byte(line)}
			b.ReportAllocs()
			for b.Loop() {
				r.Time += 1000
				buf = (&conn{}).Append(buf[:0], tmpl, &r)
			}
		})
	}
}
