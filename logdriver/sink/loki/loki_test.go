package loki

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gogo/protobuf/proto"
	"github.com/google/go-cmp/cmp"
	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, scheme := range []string{"loki+http", "loki+https"} {
		t.Run(scheme, func(t *testing.T) {
			sinktest.RunHTTP(t, sinktest.HTTP{Scheme: scheme, Query: "tenant=team-a", New: New, Take: take, OK: "204 No Content"})
		})
	}
}

// take decodes a request with Loki's own module, and refuses what Loki would.
func take(r *http.Request, body []byte) ([]sinktest.Got, []byte, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/loki/api/v1/push" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Scope-OrgID") != "team-a" {
		return nil, nil, fmt.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	request, err := decode(body)
	if err != nil {
		return nil, nil, err
	}
	var got []sinktest.Got
	streams := map[string]bool{}
	for _, s := range request.Streams {
		if streams[s.Labels] || !strings.HasPrefix(s.Labels, `{host="`) && s.Labels != `{job="dockline"}` || len(s.Entries) == 0 {
			return nil, nil, fmt.Errorf("stream %s with %d entries", s.Labels, len(s.Entries))
		}
		streams[s.Labels] = true
		for _, e := range s.Entries {
			meta := metadata(e)
			if !utf8.ValidString(e.Line) || meta["id"] == "" || len(meta) != len(e.StructuredMetadata) {
				return nil, nil, fmt.Errorf("entry %.100q with %v", e.Line, e.StructuredMetadata)
			}
			line := e.Line
			if text, exact := meta["line_base64"]; exact {
				raw, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					return nil, nil, err
				}
				line = string(raw)
			}
			got = append(got, sinktest.Got{ID: meta["id"], Line: line})
		}
	}
	return got, nil, nil
}

// decode refuses fields that Loki does not know by making the request again.
func decode(body []byte) (*push.PushRequest, error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	request := new(push.PushRequest)
	if err := proto.Unmarshal(raw, request); err != nil {
		return nil, err
	}
	if request.Size() > len(raw) || len(request.Streams) == 0 {
		return nil, fmt.Errorf("%d bytes became %d", len(raw), request.Size())
	}
	return request, nil
}

func metadata(e push.Entry) map[string]string {
	all := map[string]string{}
	for _, m := range e.StructuredMetadata {
		all[m.Name] = m.Value
	}
	return all
}

// entry makes a record and reads it with Loki's module.
func entry(t *testing.T, m *ship.Meta, labels []string, r *ship.Record) (string, push.Entry) {
	t.Helper()
	tmpl := newTemplate(m, labels)
	stream := append(append([]byte{}, tmpl.group.Head...), tmpl.Append(nil, r)...)
	var s push.Stream
	if err := s.Unmarshal(stream); err != nil || len(s.Entries) != 1 {
		t.Fatalf("%v in %q", err, stream)
	}
	return s.Labels, s.Entries[0]
}

// A time that Loki would refuse the record for is beside it.
func TestATimeThatIsFarOff(t *testing.T) {
	const stamped = 1_700_000_000_000_000_120
	for _, off := range []time.Duration{0, time.Minute, -astray, astray, astray + 1, -astray - 1, -24 * time.Hour} {
		r := &ship.Record{Time: stamped + int64(off), Stamped: stamped, Line: []byte("a")}
		want, beside := r.Time, ""
		if off.Abs() > astray {
			want, beside = stamped, time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano)
		}
		_, e := entry(t, sinktest.Meta(), nil, r)
		if got := metadata(e)["time"]; !e.Timestamp.Equal(time.Unix(0, want)) || got != beside {
			t.Errorf("%v off: at %v, beside %q, want %v, %q", off, e.Timestamp, got, time.Unix(0, want), beside)
		}
	}
}

func TestEntry(t *testing.T) {
	r := &ship.Record{Time: 1_700_000_000_000_000_120, Offset: 0xdeadbeef, Stderr: true, Cut: true, Line: []byte("a\xffb")}
	labels, e := entry(t, sinktest.Meta(), []string{"host", "container_name", "team=x"}, r)
	if want := `{host="host ü", container_name="web-1", team_x="bad ` + "\ufffd" + ` utf-8"}`; labels != want {
		t.Errorf("labels %s, want %s", labels, want)
	}
	if !e.Timestamp.Equal(time.Unix(0, r.Time)) || e.Line != "a\ufffdb" {
		t.Errorf("%v %q", e.Timestamp, e.Line)
	}
	for key, want := range map[string]string{
		"id": "s1-00000000deadbeef", "source": "stderr", "cut": "true", "image_name": `reg:5000/a"b]c\d`, "tag": "täg/web", "id_2": "forged",
		"com_docker_compose_project_config_hash": "c", "line_base64": "Yf9i", "host": "", "container_name": "",
	} {
		if got := metadata(e)[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if labels, _ := entry(t, &ship.Meta{Stream: "s"}, []string{"host"}, &ship.Record{}); labels != `{job="dockline"}` {
		t.Errorf("labels %s", labels)
	}
}

func TestFields(t *testing.T) {
	m := &ship.Meta{Stream: "s", Host: "h", ContainerName: "web-1", Engine: "docker", Version: "v1", Workload: []ship.Attr{{Key: field.SwarmService, Value: "web"}, {Key: field.SwarmNode, Value: "n"}}}
	labels, e := entry(t, m, []string{"host", "swarm_service"}, &ship.Record{Level: process.Warn, Line: []byte("x"), Fields: sinktest.Fields()})
	if labels != `{host="h", swarm_service="web"}` || e.Line != "x" {
		t.Errorf("%s %q", labels, e.Line)
	}
	want := map[string]string{
		"id": "s-0000000000000000", "source": "stdout", "level": "warn", "container_name": "web-1", "engine": "docker", "dockline_version": "v1", "swarm_node": "n",
		"status": "200", "took": "1.5", "ok": "true", "none": "null", "list": `[1,{"a":"b"}]`, "big": "12345678901234567890",
		"user_name": `jo "ü"`, "user_name_2": "x", "status_2": "again", "log_record_uid": "forged", "id_2": "forged", "raw": "\ufffd",
	}
	if d := cmp.Diff(want, metadata(e)); d != "" {
		t.Error(d)
	}
}

// TestManyFields: Loki bounds metadata, and nothing is lost for it.
func TestManyFields(t *testing.T) {
	m := &ship.Meta{Stream: "s", Host: "h"}
	for i := range 200 {
		m.Attrs = append(m.Attrs, ship.Attr{Key: fmt.Sprint("a", i), Value: "v"})
	}
	r := &ship.Record{Level: process.Info, Cut: true, Line: []byte(strings.Repeat("\xff", 100<<10)), Fields: []ship.Field{
		{Key: []byte("large"), Value: []byte(strings.Repeat("x", 20<<10))}, {Key: []byte("fits"), Value: []byte(strings.Repeat("y", 15<<10))},
	}}
	for i := range 64 {
		r.Fields = append(r.Fields, ship.Field{Key: []byte("n"), Value: fmt.Append(nil, i, "\n")})
	}
	_, e := entry(t, m, []string{"host"}, r)
	size := 0
	for _, p := range e.StructuredMetadata {
		size += len(p.Name) + len(p.Value)
	}
	if size > 64000 || len(e.StructuredMetadata) > 128 || len(metadata(e)) != len(e.StructuredMetadata) {
		t.Errorf("%d bytes of metadata, %d pairs", size, len(e.StructuredMetadata))
	}
	for i := range r.Fields {
		key := string(r.Fields[i].Key)
		if i > 2 {
			key = fmt.Sprint("n_", i-1)
		}
		value := string(r.Fields[i].Value)
		if behind := " " + key + "=" + strconv.Quote(value); metadata(e)[key] != value && !strings.Contains(e.Line, behind) {
			t.Errorf("%s is lost", key)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, ns := range []int64{0, -1, 1, -1_000_000_001, 1 << 62, 999_999_999} {
		if _, e := entry(t, &ship.Meta{Stream: "s"}, nil, &ship.Record{Time: ns}); !e.Timestamp.Equal(time.Unix(0, ns)) {
			t.Errorf("%d reads %v", ns, e.Timestamp)
		}
	}
}

func TestLargeMetadataIsBounded(t *testing.T) {
	m := &ship.Meta{Stream: "s", Host: "h", Command: strings.Repeat("ü", 10000)}
	for i := range 100 {
		m.Attrs = append(m.Attrs, ship.Attr{Key: fmt.Sprintf("0key.%d", i), Value: strings.Repeat("v", 5000)})
	}
	line := []byte(strings.Repeat("\xff", 100<<10))
	_, e := entry(t, m, []string{"host"}, &ship.Record{Line: line})
	size := 0
	for _, p := range e.StructuredMetadata {
		size += len(p.Name) + len(p.Value)
	}
	if size > 64000 || len(metadata(e)["command"]) != 2048 || e.Line != strings.Repeat("\ufffd", len(line)) {
		t.Errorf("%d bytes of metadata", size)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), uint64(2), true)
	f.Fuzz(func(t *testing.T, line []byte, key, value string, ns int64, offset uint64, flag bool) {
		m := &ship.Meta{Stream: "s", Host: value, Attrs: []ship.Attr{{Key: key, Value: value}}}
		_, e := entry(t, m, []string{"host"}, &ship.Record{Time: ns, Offset: offset, Stderr: flag, Cut: flag, Line: line})
		if e.Line != string([]rune(string(line))) || !e.Timestamp.Equal(time.Unix(0, ns)) {
			t.Errorf("%q at %v", e.Line, e.Timestamp)
		}
	})
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "loki+https://u:p@host/prefix?tenant=a&labels=host+com.example.team"},
		{URL: "loki+http://host?tenant=", Err: "not the name"},
		{URL: "loki+http://host?labels=id", Err: "many records share"},
		{URL: "loki+http://host?labels=", Err: "many records share"},
		{URL: "loki+http://host?compress=gzip", Err: "unknown"},
	})
}

// TestJudge: a page to log in to is no answer of Loki's, whatever its status.
func TestJudge(t *testing.T) {
	for answer, err := range map[string]bool{"": false, "\n": false, `{"status":"success"}`: false, "<!DOCTYPE html><html>log in</html>": true, "welcome": true} {
		if _, got := (requests{}).Judge([]byte(answer), 1); (got != nil) != err {
			t.Errorf("%q: %v", answer, got)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := newTemplate(sinktest.Meta(), []string{"host"}), make([]byte, 0, 4096)
	for _, line := range []string{"plain", "not \xff UTF-8"} {
		r := ship.Record{Line: []byte(line), Level: process.Error, Fields: sinktest.Fields()}
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}

// TestLinesAreBounded: Loki bounds lines, with what is put behind them.
func TestLinesAreBounded(t *testing.T) {
	s := sinktest.Open(t, New, sinktest.Host(), "loki+http://"+sinktest.Idle(t))
	conn := sinktest.Connect(t, s)
	r := &ship.Record{Line: []byte(strings.Repeat("\xff", 200_000)), Fields: []ship.Field{
		{Key: []byte("a"), Value: []byte(strings.Repeat("\x01", 100_000))}, {Key: []byte("b"), Value: []byte(strings.Repeat("v", 100_000))},
	}}
	dst, pieces := ship.AppendRecord(nil, s, conn, sinktest.Meta(), r)
	var stream push.Stream
	if err := stream.Unmarshal(dst); err != nil || len(stream.Entries) != pieces || pieces > 12 {
		t.Fatalf("%d entries, %d pieces, %v", len(stream.Entries), pieces, err)
	}
	bytes, values := 0, 0
	for _, e := range stream.Entries {
		if len(e.Line) > defaultMaxLine {
			t.Errorf("a line of %d bytes", len(e.Line))
		}
		bytes += strings.Count(e.Line, "\ufffd")
		values += strings.Count(e.Line, "v") + strings.Count(e.Line, `\u0001`)
	}
	if bytes != 200_000 || values != 200_000 {
		t.Errorf("%d bytes of the line and %d of the fields came", bytes, values)
	}
}
