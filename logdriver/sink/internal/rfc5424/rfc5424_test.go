package rfc5424

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	parser "github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

func TestGolden(t *testing.T) {
	const element = `container_id="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" container_name="web-1" ` +
		`image_name="reg:5000/a\"b\]c\\d" image_id="sha256:feed"`
	const attrs = `com.docker.compose.project.confi="a\]b" com.docker.compose.project.con~2="c" id~2="forged" team_x="bad ` + "\ufffd" + ` utf-8"`
	const head = `1 2023-11-14T22:13:20.123456Z host__ t_g/web 0123456789ab - [dockline@32473 id="s1-00000000deadbeef" `
	for _, tc := range []struct {
		name     string
		facility int
		r        ship.Record
		want     string
	}{
		{"stdout", 3, ship.Record{Line: []byte("hello")}, "<30>" + head + element + ` source="stdout" ` + attrs + `] hello`},
		{"stderr", 23, ship.Record{Stderr: true, Line: []byte(" a\n\x00\xff")}, "<187>" + head + element + ` source="stderr" ` + attrs + "]  a\n\x00\xff"},
		{"cut", 0, ship.Record{Cut: true}, "<6>" + head + element + ` source="stdout" ` + attrs + ` cut="true"] `},
		{"level", 1, ship.Record{Level: process.Warn, Stderr: true, Line: []byte("x")}, "<12>" + head + element + ` source="stderr" ` + attrs + `] x`},
		{"fields", 1, ship.Record{Level: process.Critical, Line: []byte("x"), Fields: someFields()}, "<10>" + head + element + ` source="stdout" ` + attrs +
			`][fields@32473 user.id="42" a_b="\"q\" \] \\ ü ` + "\ufffd" + `" a_b~2="[1,2\]" aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa="" aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa~2="x" _="y"] x`},
	} {
		tc.r.Time, tc.r.Offset = 1_700_000_000_123_456_789, 0xdeadbeef
		m := sinktest.Meta()
		m.Host = "host \x7f"
		got := string(New(m, tc.facility, 0).Append([]byte(nil), &tc.r))
		if got != tc.want {
			t.Errorf("%s:\n got %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

func someFields() []ship.Field {
	long := strings.Repeat("a", 40)
	return []ship.Field{
		{Key: []byte("user.id"), Value: []byte("42"), Raw: true}, {Key: []byte("a b"), Value: []byte(`"q" ] \ ü ` + "\xff")},
		{Key: []byte("a=b"), Value: []byte("[1,2]"), Raw: true}, {Key: []byte(long)}, {Key: []byte(long + "b"), Value: []byte("x")}, {Value: []byte("y")},
	}
}

func TestFieldsAreRead(t *testing.T) {
	m := parse(t, New(sinktest.Meta(), 3, 0).Append(nil, &ship.Record{Fields: someFields(), Line: []byte("x")}))
	got := (*m.StructuredData)[fieldsID]
	if len(got) != 6 || got["user.id"] != "42" || got["a_b~2"] != "[1,2]" {
		t.Errorf("%v", got)
	}
}

func TestEmptyMeta(t *testing.T) {
	got := string(New(&ship.Meta{Stream: "s"}, 1, 0).Append(nil, &ship.Record{}))
	want := `<14>1 1970-01-01T00:00:00.000000Z - - - - [dockline@32473 id="s-0000000000000000" source="stdout"] `
	if got != want {
		t.Errorf("got %q", got)
	}
}

func TestAppName(t *testing.T) {
	for _, tc := range []struct{ tag, name, want string }{
		{"tag", "name", "tag"}, {"", "name", "name"}, {"", "", ""}, {"a b\tü", "", "a_b__"}, {strings.Repeat("é", 60), "", strings.Repeat("_", 48)},
	} {
		m := parse(t, New(&ship.Meta{Tag: tc.tag, ContainerName: tc.name}, 3, 0).Append(nil, &ship.Record{}))
		if got := text(m.Appname); got != tc.want {
			t.Errorf("%q, %q: %q, want %q", tc.tag, tc.name, got, tc.want)
		}
	}
}

func TestParamNames(t *testing.T) {
	for key, want := range map[string]string{
		"": "_", "a": "a", `a=b]c"d e`: "a_b_c_d_e", "ü\n": "__", strings.Repeat("k", 33): strings.Repeat("k", 32), `\`: `\`,
	} {
		if got := paramName(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

func TestNobodyForgesOurParameters(t *testing.T) {
	attrs := []ship.Attr{{Key: "cut", Value: "x"}, {Key: "id", Value: "x"}, {Key: "id", Value: "y"}, {Key: "source", Value: "x"}}
	m := parse(t, New(&ship.Meta{Stream: "s", Attrs: attrs}, 3, 0).Append(nil, &ship.Record{}))
	got := (*m.StructuredData)[elementID]
	if got["id"] != "s-0000000000000000" || got["id~2"] != "x" || got["id~3"] != "y" || got["source"] != "stdout" || got["cut"] != "" {
		t.Errorf("%v", got)
	}
}

func TestFacility(t *testing.T) {
	for text, want := range map[string]int{
		"kern": 0, "daemon": 3, "authpriv": 10, "ftp": 11, "local0": 16, "local7": 23, "0": 0, "13": 13, "23": 23, "24": -1, "-1": -1, "": -1, "Daemon": -1,
	} {
		got, err := Facility(&wire.Target{Params: map[string]string{"facility": text}})
		if want >= 0 && (got != want || err != nil) || want < 0 && err == nil {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	if got, err := Facility(&wire.Target{}); got != DefaultFacility || err != nil {
		t.Errorf("default: %d, %v", got, err)
	}
}

func parse(t *testing.T, message []byte) *parser.SyslogMessage {
	t.Helper()
	m, err := parser.NewParser().Parse(message)
	if err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	return m.(*parser.SyslogMessage)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func FuzzMessage(f *testing.F) {
	f.Add("stream", "host", "tag", "key", "value", "line", int64(1), uint64(1))
	f.Add("", "", "", "", "", "", int64(-1), uint64(0))
	f.Add(`"`, "a b", "ü", `]="`, `\]"`, "a\nb", int64(1<<62), uint64(1<<63))
	f.Add("\xff", "\xff", "\xff", "\xff", "\xff\\", "\xff", int64(-1<<63), ^uint64(0))
	f.Fuzz(func(t *testing.T, stream, host, tag, key, value, line string, ns int64, offset uint64) {
		m := &ship.Meta{Stream: stream, Host: host, Tag: tag, Attrs: []ship.Attr{{Key: key, Value: value}, {Key: key, Value: value}}}
		raw := New(m, 3, 0).Append(nil, &ship.Record{Time: ns, Offset: offset, Line: []byte(line)})
		if !strings.HasSuffix(string(raw), "] "+line) {
			t.Fatalf("%q does not end in the line %q", raw, line)
		}
		// The parser takes no line that is not UTF-8, which others do.
		head := raw[:len(raw)-len(line)]
		if !utf8.Valid(head) {
			t.Fatalf("%q is not UTF-8", head)
		}
		got := parse(t, head)
		if want := floorMicro(ns); !got.Timestamp.Equal(want) {
			t.Errorf("time %v, want %v", got.Timestamp, want)
		}
		checkParam(t, *got.StructuredData, value)
	})
}

func floorMicro(ns int64) time.Time {
	at := time.Unix(0, ns).UTC()
	return at.Add(-time.Duration(at.Nanosecond() % 1000))
}

// checkParam looks for the value that two attributes have.
func checkParam(t *testing.T, elements map[string]map[string]string, value string) {
	t.Helper()
	want, found := string([]rune(value)), 0
	for name, got := range elements[elementID] {
		if len(name) > maxParam {
			t.Errorf("name %q is too long", name)
		}
		if name != "id" && name != "source" && got == want {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%v: %q is there %d times", elements, want, found)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := New(sinktest.Meta(), 3, 0), make([]byte, 0, 4096)
	r := ship.Record{Line: []byte("line"), Fields: someFields()}
	if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	tmpl, buf := New(sinktest.Meta(), 3, 0), make([]byte, 0, 4096)
	r := ship.Record{Time: 1_700_000_000_000_000_000, Line: []byte(strings.Repeat("x", 120))}
	b.ReportAllocs()
	for b.Loop() {
		r.Time += 1000
		buf = wire.AppendCounted(buf[:0], tmpl, &r)
	}
}
