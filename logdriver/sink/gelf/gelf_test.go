package gelf

import (
	"bufio"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"gelf+tcp", "gelf+tls"} {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, sinktest.Protocol{Scheme: scheme, New: New, Next: next})
		})
	}
}

func next(br *bufio.Reader) ([]string, []byte, error) {
	raw, err := br.ReadBytes(0)
	if err != nil {
		return nil, nil, err
	}
	fields, err := parse(raw[:len(raw)-1])
	if err != nil {
		return nil, nil, err
	}
	text, err := line(fields)
	return []string{text}, nil, err
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "gelf+tcp://host"},
		{URL: "gelf+tls://host:1?tls-insecure=on&max-line=64k&max-message=1m"},
		{URL: "gelf+udp://host?compress=gzip&max-datagram=8192"},
		{URL: "gelf+udp://host?compress=zlib&max-datagram=1024"},
		{URL: "gelf+udp://host?compress=none"},
		{URL: "gelf+udp://host?compress=lz4", Err: "none, gzip, zlib"},
		{URL: "gelf+udp://host?max-datagram=9000", Err: "not within 1024 to 8192"},
		{URL: "gelf+udp://host?max-datagram=0", Err: "not within 1024 to 8192"},
		{URL: "gelf+tcp://host?compress=gzip", Err: "is for gelf+udp"},
		{URL: "gelf+tcp://host?max-datagram=1420", Err: "max-datagram"},
		{URL: "gelf://host", Err: "scheme"},
		{URL: "gelf+tcp://user:secret@host", Err: "password"},
	})
	for _, scheme := range []string{"gelf+tcp", "gelf+udp"} {
		if s := sinktest.Open(t, New, sinktest.Host(), scheme+"://h"); s.(*collector).Addr != "h:12201" {
			t.Errorf("%s: %s", scheme, s.(*collector).Addr)
		}
	}
}

func TestMessages(t *testing.T) {
	const id = "s1-00000000deadbeef"
	base := map[string]any{
		"version": "1.1", "host": "host ü", "timestamp": json.Number("1700000000.000000120"), "level": json.Number("6"),
		"_stream": "stdout", "_record_id": id, "_tag": "täg/web", "_container_id": strings.Repeat("0123456789abcdef", 4), "_container_name": "web-1",
		"_image_id": "sha256:feed", "_image_name": `reg:5000/a"b]c\d`, "_command": "sh -c \"echo \x01\"", "_created": "2026-01-02T02:04:05.000000006Z",
		"_com.docker.compose.project.config_files": "a]b", "_com.docker.compose.project.config_hash": "c", "_id_2": "forged", "_team_x": "bad \ufffd utf-8",
	}
	for _, tc := range []struct {
		name string
		r    ship.Record
		want map[string]any
	}{
		{"a line", ship.Record{Line: []byte("a\tb")}, map[string]any{"short_message": "a\tb"}},
		{"stderr", ship.Record{Stderr: true, Line: []byte("x")}, map[string]any{"short_message": "x", "_stream": "stderr", "level": json.Number("3")}},
		{"level", ship.Record{Stderr: true, Level: process.Notice, Cut: true, Line: []byte("x")},
			map[string]any{"short_message": "x", "_stream": "stderr", "level": json.Number("5"), "_cut": "true"}},
		{"empty", ship.Record{}, map[string]any{"short_message": "-", "full_message": ""}},
		{"blank", ship.Record{Line: []byte(" \t\u2003")}, map[string]any{"short_message": "-", "full_message": " \t\u2003"}},
		{"several lines", ship.Record{Line: []byte("\n\r\npanic: x\n\tat y\n")}, map[string]any{"short_message": "panic: x", "full_message": "\n\r\npanic: x\n\tat y\n"}},
		{"a long first line", ship.Record{Line: []byte(strings.Repeat("ü", 1000) + "\n")},
			map[string]any{"short_message": strings.Repeat("ü", 512), "full_message": strings.Repeat("ü", 1000) + "\n"}},
		{"NUL", ship.Record{Line: []byte("\x00x")}, map[string]any{"short_message": "\x00x"}},
		{"not UTF-8", ship.Record{Line: []byte("\xffx\n")}, map[string]any{"short_message": "\ufffdx", "full_message": "\ufffdx\n", "_line_base64": "/3gK"}},
		{"fields", ship.Record{Line: []byte("x"), Fields: append(sinktest.Fields(), ship.Field{}, ship.Field{Key: []byte("message")})}, map[string]any{
			"short_message": "x", "_status": json.Number("200"), "_took": json.Number("1.5"), "_ok": "true", "_none": "null", "_list": `[1,{"a":"b"}]`, "_big": "12345678901234567890",
			"_user.name": `jo "ü"`, "_user_name": "x", "_status_2": "again", "_log.record.uid": "forged", "_id_3": "forged", "_raw": "\ufffd", "_k_": "", "_field": "", "_message_2": "",
		}},
	} {
		tc.r.Time, tc.r.Offset = 1_700_000_000_000_000_120, 0xdeadbeef
		tmpl := newTemplate(sinktest.Meta())
		for range 2 {
			got, err := parse(tmpl.Append(nil, &tc.r))
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			want := map[string]any{}
			for _, m := range []map[string]any{base, tc.want} {
				for k, v := range m {
					want[k] = v
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", tc.name, d)
			}
		}
	}
}

func TestNothingIsKnown(t *testing.T) {
	got := string(newTemplate(&ship.Meta{Stream: "s"}).Append(nil, &ship.Record{}))
	want := `{"version":"1.1","host":"-","timestamp":0.000000000,"level":6,"_stream":"stdout","_record_id":"s-0000000000000000","full_message":"","short_message":"-"}`
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestTime(t *testing.T) {
	for ns, want := range map[int64]string{
		0: "0.000000000", 1: "0.000000001", -1: "-0.000000001", 1_500_000_000: "1.500000000", -1_500_000_000: "-1.500000000",
		math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		if got := string(appendTime([]byte("x"), ns)); got != "x"+want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), true)
	f.Add([]byte("\xff\"\n"), "\xff", "\n", int64(-1), false)
	f.Add([]byte(" \u2003\x1c"), "", "1e5", int64(math.MinInt64), false)
	f.Fuzz(func(t *testing.T, raw []byte, key, value string, ns int64, flag bool) {
		if len(raw) > maxExact {
			return
		}
		m := &ship.Meta{Stream: value, Host: strings.TrimSpace(key), Attrs: []ship.Attr{{Key: key, Value: value}, {Key: value, Value: key}}}
		r := &ship.Record{Time: ns, Stderr: flag, Cut: flag, Line: raw, Fields: []ship.Field{{Key: []byte(key), Value: raw}, {Key: raw, Value: []byte(value)}}}
		out := newTemplate(m).Append(nil, r)
		fields, err := parse(out)
		if err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if got, err := line(fields); err != nil || got != string(raw) {
			t.Errorf("%q of %q, %v", got, raw, err)
		}
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := newTemplate(sinktest.Meta()), make([]byte, 0, 4096)
	for _, line := range []string{"plain", "not \xff UTF-8", "\x00\n", ""} {
		r := ship.Record{Line: []byte(line)}
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}
