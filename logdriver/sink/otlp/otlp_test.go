package otlp

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/process"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

func TestMain(m *testing.M) { testleak.Main(m) }

func TestConformance(t *testing.T) {
	for _, tc := range []struct{ scheme, query string }{{"otlp+http", "compress=gzip"}, {"otlp+https", ""}} {
		t.Run(tc.scheme, func(t *testing.T) {
			sinktest.RunHTTP(t, sinktest.HTTP{Scheme: tc.scheme, Query: tc.query, New: New, Take: take, Final500: true})
		})
	}
}

// take decodes a request twice: by the protocol's own definition, in which there
// must be nothing unknown, and as the OpenTelemetry Collector does.
func take(r *http.Request, body []byte) ([]sinktest.Got, []byte, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, nil, fmt.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	logs, err := decode(body)
	if err != nil {
		return nil, nil, err
	}
	var got []sinktest.Got
	for _, resource := range logs.ResourceLogs().All() {
		if id, ok := resource.Resource().Attributes().Get("container.id"); ok && len(id.Str()) != 64 {
			return nil, nil, fmt.Errorf("container.id is %q", id.Str())
		}
		for _, scope := range resource.ScopeLogs().All() {
			if scope.Scope().Name() != "github.com/dockline/dockline" {
				return nil, nil, fmt.Errorf("scope %q", scope.Scope().Name())
			}
			for _, l := range scope.LogRecords().All() {
				line := l.Body().Str()
				if l.Body().Type() == pcommon.ValueTypeBytes {
					line = string(l.Body().Bytes().AsRaw())
				}
				id, _ := l.Attributes().Get("log.record.uid")
				source, _ := l.Attributes().Get("log.iostream")
				if l.Body().Type() == pcommon.ValueTypeBytes == utf8.ValidString(line) || source.Str() != "stdout" && source.Str() != "stderr" {
					return nil, nil, fmt.Errorf("record %s from %q of type %v", id.Str(), source.Str(), l.Body().Type())
				}
				got = append(got, sinktest.Got{ID: id.Str(), Line: line})
			}
		}
	}
	answer, err := plogotlp.NewExportResponse().MarshalProto()
	return got, answer, err
}

func decode(body []byte) (plog.Logs, error) {
	var request collogs.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return plog.Logs{}, err
	}
	if err := known(request.ProtoReflect()); err != nil {
		return plog.Logs{}, err
	}
	same := plogotlp.NewExportRequest()
	err := same.UnmarshalProto(body)
	return same.Logs(), err
}

// known looks for fields that the protocol does not have.
func known(m protoreflect.Message) (err error) {
	if u := m.GetUnknown(); len(u) > 0 {
		return fmt.Errorf("unknown fields in %s: %x", m.Descriptor().FullName(), u)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				if err == nil {
					err = known(v.List().Get(i).Message())
				}
			}
		default:
			err = known(v.Message())
		}
		return err == nil
	})
	return err
}

// one makes a request of a record and decodes it.
func one(t *testing.T, m *ship.Meta, r *ship.Record) (pcommon.Map, plog.LogRecord) {
	t.Helper()
	tmpl := newTemplate(m)
	var b web.Builder
	b.Append(tmpl, r)
	logs, err := decode(b.Body(export{}))
	if err != nil || logs.LogRecordCount() != 1 {
		t.Fatalf("%d records, %v", logs.LogRecordCount(), err)
	}
	resource := logs.ResourceLogs().At(0)
	return resource.Resource().Attributes(), resource.ScopeLogs().At(0).LogRecords().At(0)
}

func TestRecord(t *testing.T) {
	r := &ship.Record{Time: 1_700_000_000_000_000_120, Stamped: 1_700_000_000_500_000_000, Offset: 0xdeadbeef, Stderr: true, Cut: true, Line: []byte("a\tb")}
	resource, record := one(t, sinktest.Meta(), r)
	for key, want := range map[string]string{
		"host.name": "host ü", "service.name": "web-1", "container.name": "web-1", "container.image.name": `reg:5000/a"b]c\d`, "container.image.id": "sha256:feed",
		"container.command_line": "sh -c \"echo \x01\"", "dockline.tag": "täg/web", "dockline.container.created": "2026-01-02T02:04:05.000000006Z", "com.docker.compose.project.config_hash": "c", "id": "forged", "team=x": "bad \ufffd utf-8",
	} {
		if v, _ := resource.Get(key); v.Str() != want {
			t.Errorf("%s is %q, want %q", key, v.Str(), want)
		}
	}
	uid, _ := record.Attributes().Get("log.record.uid")
	cut, _ := record.Attributes().Get("log.cut")
	if record.Timestamp() != pcommon.Timestamp(r.Time) || record.ObservedTimestamp() != pcommon.Timestamp(r.Stamped) || uid.Str() != "s1-00000000deadbeef" || !cut.Bool() || record.Body().Str() != "a\tb" {
		t.Errorf("%v %q %v %q", record.Timestamp(), uid.Str(), cut.Bool(), record.Body().Str())
	}
}

// TestResource: what the container is part of goes by the names of the
// conventions, and no attribute takes the place of a field.
func TestResource(t *testing.T) {
	m := &ship.Meta{
		Stream: "s", ContainerID: "c", ContainerName: "shop-web-1", Engine: "docker", Version: "v1",
		Workload: []ship.Attr{{Key: field.ComposeProject, Value: "shop"}, {Key: field.ComposeService, Value: "web"}, {Key: field.K8sPod, Value: "p"}},
		Attrs:    []ship.Attr{{Key: "container.id", Value: "forged"}, {Key: "\xfe", Value: "1"}, {Key: "\xff", Value: "2"}},
	}
	got, _ := one(t, m, &ship.Record{})
	want := map[string]any{
		"container.id": "c", "container.name": "shop-web-1", "container.runtime.name": "docker", "dockline.version": "v1",
		"dockline.compose.project": "shop", "dockline.compose.service": "web", "k8s.pod.name": "p", "service.name": "web", "service.namespace": "shop",
		"container.id~2": "forged", "\ufffd": "1", "\ufffd~2": "2",
	}
	if d := cmp.Diff(want, got.AsRaw()); d != "" {
		t.Error(d)
	}
	m.Attrs = []ship.Attr{{Key: "service.name", Value: "asked"}}
	if got, _ := one(t, m, &ship.Record{}); got.AsRaw()["service.name"] != "asked" {
		t.Errorf("service.name is %v", got.AsRaw()["service.name"])
	}
}

func TestFields(t *testing.T) {
	_, record := one(t, &ship.Meta{Stream: "s"}, &ship.Record{Level: process.Warn, Line: []byte("x"), Fields: sinktest.Fields()})
	want := map[string]any{
		"log.iostream": "stdout", "log.record.uid": "s-0000000000000000",
		"status": int64(200), "took": 1.5, "ok": true, "none": nil, "list": `[1,{"a":"b"}]`, "big": "12345678901234567890",
		"user.name": "jo \"ü\"", "user_name": "x", "status~2": "again", "log.record.uid~2": "forged", "id": "forged", "raw": []byte("\xff"), "k\ufffd": "",
	}
	if d := cmp.Diff(want, record.Attributes().AsRaw()); d != "" {
		t.Error(d)
	}
}

func TestSeverity(t *testing.T) {
	for level, want := range map[process.Level]plog.SeverityNumber{
		process.NoLevel: plog.SeverityNumberUnspecified, process.Trace: plog.SeverityNumberTrace, process.Debug: plog.SeverityNumberDebug,
		process.Info: plog.SeverityNumberInfo, process.Notice: plog.SeverityNumberInfo2, process.Warn: plog.SeverityNumberWarn,
		process.Error: plog.SeverityNumberError, process.Critical: plog.SeverityNumberFatal, process.Alert: plog.SeverityNumberFatal2, process.Emergency: plog.SeverityNumberFatal3,
	} {
		if _, r := one(t, &ship.Meta{Stream: "s"}, &ship.Record{Level: level}); r.SeverityNumber() != want || r.SeverityText() != level.String() {
			t.Errorf("%v: %v %q", level, r.SeverityNumber(), r.SeverityText())
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("line"), "key", "value", int64(1), uint64(2), true)
	f.Add([]byte("\xff"), "container.id", "\xff", int64(-1), uint64(0), false)
	f.Fuzz(func(t *testing.T, line []byte, key, value string, ns int64, offset uint64, flag bool) {
		m := &ship.Meta{Stream: "s", Host: value, Attrs: []ship.Attr{{Key: key, Value: value}}}
		fields := []ship.Field{{Key: []byte(key), Value: line}, {Key: []byte(key), Value: []byte(value), Raw: flag}}
		_, record := one(t, m, &ship.Record{Time: ns, Offset: offset, Stderr: flag, Cut: flag, Line: line, Fields: fields})
		got := record.Body().Str()
		if record.Body().Type() == pcommon.ValueTypeBytes {
			got = string(record.Body().Bytes().AsRaw())
		}
		if got != string(line) || int64(record.Timestamp()) != max(ns, 0) { //nolint:gosec // as it was put in
			t.Errorf("%q at %v", got, record.Timestamp())
		}
	})
}

func TestJudge(t *testing.T) {
	partial := func(n int64, why string) []byte {
		r := plogotlp.NewExportResponse()
		r.PartialSuccess().SetRejectedLogRecords(n)
		r.PartialSuccess().SetErrorMessage(why)
		b, err := r.MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		name    string
		answer  []byte
		partial int
		err     string
	}{
		{"empty", nil, 0, ""},
		{"nothing refused", partial(0, ""), 0, ""},
		{"a warning", partial(0, "take care"), 0, ""},
		{"three", partial(3, "too old"), 3, ""},
		{"more than there are", partial(30, ""), 10, ""},
		{"not protobuf", []byte("<html>"), 0, "no answer of the OpenTelemetry Protocol"},
	} {
		v, err := export{}.Judge(tc.answer, 10)
		if v.Partial != tc.partial || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || v.Partial > 0 && v.Reason == "" {
			t.Errorf("%s: %+v, %v", tc.name, v, err)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	tmpl, buf := newTemplate(sinktest.Meta()), make([]byte, 0, 4096)
	for _, line := range []string{"plain", "not \xff UTF-8"} {
		r := ship.Record{Line: []byte(line), Level: process.Error, Fields: sinktest.Fields()}
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}
