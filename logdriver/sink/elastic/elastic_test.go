package elastic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, tc := range []struct{ scheme, query string }{
		{"elasticsearch+http", ""}, {"opensearch+https", "compress=gzip"},
	} {
		t.Run(tc.scheme, func(t *testing.T) {
			sinktest.RunHTTP(t, sinktest.HTTP{
				Scheme: tc.scheme, Query: tc.query, New: New, Take: take, APIKey: "ApiKey",
				Busy: func(got []sinktest.Got, which int) []byte {
					return answerWith(got, which, 429, "es_rejected_execution_exception")
				},
				Refuse: func(got []sinktest.Got, which int) []byte { return answerWith(got, which, 400, "poison") },
			})
		})
	}
}

// answerWith is what a server answers where one record failed.
func answerWith(got []sinktest.Got, which, status int, kind string) []byte {
	items := make([]string, len(got))
	for i := range items {
		items[i] = `{"create":{"status":201}}`
		if i%7 == 3 {
			items[i] = `{"create":{"status":409,"error":{"type":"version_conflict_engine_exception"}}}`
		}
	}
	items[which] = fmt.Sprintf(`{"create":{"status":%d,"error":{"type":%q,"reason":"because"}}}`, status, kind)
	return []byte(`{"errors":true,"items":[` + strings.Join(items, ",") + `]}`)
}

// document is what a server sees.
type document struct {
	Timestamp     time.Time `json:"@timestamp"`
	Time          time.Time `json:"time"`
	Message       string    `json:"message"`
	MessageBase64 []byte    `json:"message_base64"`
	Stream        string    `json:"stream"`
	Event         struct {
		ID string `json:"id"`
	} `json:"event"`
	Host struct {
		Name string `json:"name"`
	} `json:"host"`
	Tags      []string `json:"tags"`
	Container struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Runtime string `json:"runtime"`
		Image   struct {
			Name string `json:"name"`
			ID   string `json:"id"`
		} `json:"image"`
	} `json:"container"`
	Process struct {
		CommandLine string `json:"command_line"`
	} `json:"process"`
	Agent struct {
		Version string `json:"version"`
	} `json:"agent"`
	Log struct {
		Level string `json:"level"`
	} `json:"log"`
	Labels map[string]string `json:"labels"`
	Fields map[string]any    `json:"fields"`
	Cut    bool              `json:"cut"`
}

// take is a server that takes nothing that the API reference does not have.
func take(r *http.Request, body []byte) (got []sinktest.Got, answer []byte, err error) {
	if r.Method != http.MethodPost || r.URL.Path != "/logs-dockline-default/_bulk" || r.Header.Get("Content-Type") != "application/x-ndjson" || r.URL.Query().Get("filter_path") == "" {
		return nil, nil, fmt.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	if !bytes.HasSuffix(body, []byte("\n")) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	lines := bytes.Split(body[:len(body)-1], []byte("\n"))
	if len(lines)%2 != 0 {
		return nil, nil, fmt.Errorf("%d lines", len(lines))
	}
	seen := map[string]bool{}
	for i := 0; i < len(lines); i += 2 {
		var action struct {
			Create *struct {
				ID string `json:"_id"`
			} `json:"create"`
		}
		var d document
		if err := strict(lines[i], &action); err != nil || action.Create == nil || len(action.Create.ID) > 512 {
			return nil, nil, fmt.Errorf("action %.200q: %w", lines[i], err)
		}
		if err := strict(lines[i+1], &d); err != nil || d.Event.ID != action.Create.ID || d.Timestamp.Before(time.Unix(0, 0)) || seen[d.Event.ID] {
			return nil, nil, fmt.Errorf("document %.300q: %w", lines[i+1], err)
		}
		seen[d.Event.ID] = true
		line := d.Message
		if d.MessageBase64 != nil {
			line = string(d.MessageBase64)
		}
		got = append(got, sinktest.Got{ID: d.Event.ID, Line: line})
	}
	return got, []byte(`{"errors":false,"items":[` + strings.TrimSuffix(strings.Repeat(`{"create":{"status":201}},`, len(got)), ",") + `]}`), nil
}

func strict(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func TestGolden(t *testing.T) {
	const want = `{"create":{"_id":"s1-00000000deadbeef"}}
{"@timestamp":"2023-11-14T22:13:20.000000120Z","stream":"stderr","event":{"id":"s1-00000000deadbeef"},"host":{"name":"host ü"},` +
		`"tags":["täg/web"],"container":{"id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","name":"web-1",` +
		`"image":{"name":"reg:5000/a\"b]c\\d","id":"sha256:feed"}},"process":{"command_line":"sh -c \"echo \u0001\""},` +
		`"labels":{"com_docker_compose_project_config_files":"a]b","com_docker_compose_project_config_hash":"c","id":"forged","team=x":"bad ` + "\ufffd" + ` utf-8"},` +
		`"cut":true,"message":"a\tb"}` + "\n"
	r := ship.Record{Time: 1_700_000_000_000_000_120, Offset: 0xdeadbeef, Stderr: true, Cut: true, Line: []byte("a\tb")}
	if got := string(newTemplate(sinktest.Meta()).Append(nil, &r)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, m := range []*ship.Meta{{Stream: "s"}, {Stream: "s", ImageName: "i"}, {Stream: "s", ContainerName: "c"}, {Stream: "s", Attrs: []ship.Attr{{Key: "a.b", Value: "1"}, {Key: "a_b", Value: "2"}}}} {
		for _, line := range strings.Split(strings.TrimSpace(string(newTemplate(m).Append(nil, &ship.Record{}))), "\n") {
			var d document
			if !json.Valid([]byte(line)) || !strings.Contains(line, "create") && strict([]byte(line), &d) != nil {
				t.Errorf("%s", line)
			}
			if len(m.Attrs) == 2 && d.Labels != nil && len(d.Labels) != 2 {
				t.Errorf("labels %q", d.Labels)
			}
		}
	}
}

func TestFields(t *testing.T) {
	m := &ship.Meta{Stream: "s", ContainerID: "c", Engine: "docker", Version: "v1", Workload: []ship.Attr{{Key: field.ComposeProject, Value: "shop"}, {Key: field.ComposeService, Value: "web"}}}
	r := ship.Record{Level: process.Warn, Line: []byte("x"), Fields: append(sinktest.Fields(), ship.Field{})}
	const want = `"container":{"id":"c","runtime":"docker"},"agent":{"version":"v1"},"labels":{"compose_project":"shop","compose_service":"web"},` +
		`"log":{"level":"warn"},"fields":{"status":200,"took":1.5,"ok":true,"none":null,"list":"[1,{\"a\":\"b\"}]","big":"12345678901234567890",` +
		`"user_name":"jo \"ü\"","user_name~2":"x","status~2":"again","log_record_uid":"forged","id":"forged","raw":"` + "\ufffd" + `","k` + "\ufffd" + `":"","_":""},"message":"x"}` + "\n"
	got := newTemplate(m).Append(nil, &r)
	if !bytes.HasSuffix(got, []byte(want)) {
		t.Errorf("\n got %s\nwant …%s", got, want)
	}
	var d document
	if err := strict(bytes.Split(got, []byte("\n"))[1], &d); err != nil || len(d.Fields) != len(r.Fields) {
		t.Errorf("%v: %v", err, d.Fields)
	}
}

// TestIndexTemplate: what is sent is mapped.
// TestLongAgo: an index with dates in nanoseconds refuses what is from before 1970.
func TestLongAgo(t *testing.T) {
	for _, tc := range []struct {
		time, stamped int64
		at, also      string
	}{
		{1, 5, "1970-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00Z"},
		{-1, 5, "1970-01-01T00:00:00.000000005Z", "1969-12-31T23:59:59.999999999Z"},
		{-1, -7, "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z"},
	} {
		_, text, _ := bytes.Cut(newTemplate(&ship.Meta{Stream: "s"}).Append(nil, &ship.Record{Time: tc.time, Stamped: tc.stamped}), []byte("\n"))
		var d document
		if err := strict(text, &d); err != nil || d.Timestamp.Format(time.RFC3339Nano) != tc.at || d.Time.Format(time.RFC3339Nano) != tc.also {
			t.Errorf("%d, %d: %v, %s", tc.time, tc.stamped, err, text)
		}
	}
}

// TestBlankLabels: a name of nothing, or of spaces alone, has a document refused.
func TestBlankLabels(t *testing.T) {
	m := &ship.Meta{Stream: "s", Attrs: []ship.Attr{{Key: "", Value: "1"}, {Key: " ", Value: "2"}, {Key: ".", Value: "3"}, {Key: "_", Value: "4"}}}
	_, text, _ := bytes.Cut(newTemplate(m).Append(nil, new(ship.Record)), []byte("\n"))
	var d document
	if err := strict(text, &d); err != nil || !reflect.DeepEqual(d.Labels, map[string]string{"_": "1", " _": "2", "_~2": "3", "_~3": "4"}) {
		t.Errorf("%v, %q", err, d.Labels)
	}
}

func TestIndexTemplate(t *testing.T) {
	text, err := os.ReadFile("../../../plugin-config/dockline-log/index-template.json")
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Template struct {
			Mappings struct {
				Properties map[string]any `json:"properties"`
			} `json:"mappings"`
		} `json:"template"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	for f := range reflect.TypeFor[document]().Fields() {
		if name := f.Tag.Get("json"); index.Template.Mappings.Properties[name] == nil {
			t.Errorf("%s is not mapped", name)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name, answer  string
		refused, busy int
		err           string
	}{
		{"well", `{"errors":false}`, 0, 0, ""},
		{"well, in another order", `{"took":3,"errors":false,"items":[{"create":{"_id":"a","status":201}},{"create":{"_id":"b","status":201}}]}`, 0, 0, ""},
		{"well, and of nothing", `{"errors":false,"items":[]}`, 0, 0, "of 0 records"},
		{"well, and of fewer", `{"errors":false,"items":[{"create":{"status":201}}]}`, 0, 0, "of 1 records"},
		{"well, and it is not", `{"errors":false,"items":[{"create":{"status":201}},{"create":{"error":{},"status":400}}]}`, 1, 0, ""},
		{"there already", `{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{}}}]}`, 0, 0, ""},
		{"one of each", `{"errors":true,"items":[{"create":{"status":400,"error":{"type":"t"}}},{"create":{"status":429}}]}`, 1, 1, ""},
		{"too few", `{"errors":true,"items":[{"create":{"status":201}}]}`, 0, 0, "of 1 records"},
		{"something else", `{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":201}}]}`, 0, 0, "something else"},
		{"no such index", `{"errors":true,"items":[{"create":{"status":404,"error":{}}},{"create":{"status":404}}]}`, 0, 0, "no such data stream"},
		{"disk full", `{"errors":true,"items":[{"create":{"status":403,"error":{}}},{"create":{"status":403}}]}`, 0, 0, "disk is full"},
		{"shard failed", `{"errors":true,"items":[{"create":{"status":500,"error":{}}},{"create":{"status":201}}]}`, 0, 0, "500 for a record"},
		{"nothing", ``, 0, 0, "no answer to a bulk request"},
		{"HTML", `<html>welcome</html>`, 0, 0, "no answer to a bulk request"},
		{"JSON", `{"status":"ok"}`, 0, 0, "no answer to a bulk request"},
	} {
		v, err := bulk{}.Judge([]byte(tc.answer), 2)
		if len(v.Refused) != tc.refused && err == nil || len(v.Busy) != tc.busy && err == nil || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %+v, %v", tc.name, v, err)
		}
	}
}

func TestNew(t *testing.T) {
	sinktest.CheckURLs(t, New, []sinktest.URL{
		{URL: "elasticsearch+https://u:p@host:9243/prefix?index=logs-x-y"},
		{URL: "opensearch+http://host?api-key-file=key"},
		{URL: "elasticsearch+http://host?index=Logs", Err: "upper case"},
		{URL: "elasticsearch+http://host?index=a/b", Err: "not a name"},
		{URL: "elasticsearch+http://host?index=_all", Err: "not a name"},
		{URL: "elasticsearch+http://host?index=", Err: "255"},
		{URL: "elasticsearch://host", Err: "scheme"},
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := newTemplate(sinktest.Meta()), make([]byte, 0, 4096)
	r := ship.Record{Line: []byte("not \xff UTF-8"), Level: process.Error, Fields: sinktest.Fields()}
	if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
