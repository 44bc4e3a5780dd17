package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gogo/protobuf/proto"
	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/dockline/dockline/test/harness/collector"
)

// web is a collector over HTTP.
type web struct {
	scheme, query string
	// take reads a request, strictly, and returns what it holds and the answer.
	take func(r *http.Request, body []byte) ([]collector.Record, []byte, error)
}

func webs() map[string]web {
	return map[string]web{
		"elastic": {"elasticsearch+http", "compress=gzip", takeBulk},
		"loki":    {"loki+http", "tenant=team-a", takePush},
		"otlp":    {"otlp+http", "", takeExport},
	}
}

// A container's records, spread over an Elasticsearch, a Loki and an OpenTelemetry
// Collector, all arrive, whatever is in their lines. Each is busy at first, and
// each breaks a connection after it has taken a request.
func TestCollectorsOverHTTP(t *testing.T) {
	b := newBench(t, testContext(t), shared.engine)
	for name, w := range webs() {
		requests := 0
		turn := make(chan struct{}, 1)
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			turn <- struct{}{}
			defer func() { <-turn }()
			if requests++; requests == 1 {
				rw.Header().Set("Retry-After", "0")
				rw.WriteHeader(http.StatusTooManyRequests)
				return
			}
			records, answer, err := w.read(r)
			if err != nil {
				t.Errorf("%s was sent something wrong: %v", name, err)
				http.Error(rw, err.Error(), http.StatusBadRequest)
				return
			}
			for _, record := range records {
				record.Collector, record.Received = name, time.Now()
				b.check.Record(record)
			}
			if requests == 3 {
				panic(http.ErrAbortHandler) // all of it is sent again
			}
			_, _ = rw.Write(answer)
		}))
		t.Cleanup(s.Close)
		b.urls = append(b.urls, w.scheme+"://"+s.Listener.Addr().String()+"?name="+name+"&"+w.query)
	}
	slices.Sort(b.urls)
	for name, workload := range map[string][]string{
		"web-seq":    {"workload", "seq", "-n", "20000", "-stderr-every", "7"},
		"web-binary": {"workload", "binary"},
	} {
		b.start(name, []string{"--log-opt", "hash=record"}, workload...)
	}
	b.finish("web-seq", "web-binary")
	b.settleSomewhere()
	if at := slices.Sorted(maps.Keys(b.check.Where("web-seq"))); !slices.Equal(at, []string{"elastic", "loki", "otlp"}) {
		t.Errorf("records are at %v", at)
	}
}

func (w web) read(r *http.Request) ([]collector.Record, []byte, error) {
	in := r.Body
	if strings.HasSuffix(w.query, "compress=gzip") != (r.Header.Get("Content-Encoding") == "gzip") || r.Method != http.MethodPost {
		return nil, nil, fmt.Errorf("%s, %q", r.Method, r.Header)
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		zip, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, nil, err
		}
		in = zip
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, nil, err
	}
	return w.take(r, body)
}

// takeBulk is Elasticsearch's.
func takeBulk(r *http.Request, body []byte) (got []collector.Record, answer []byte, err error) {
	lines := bytes.Split(body, []byte("\n"))
	if r.URL.Path != "/logs-dockline-default/_bulk" || len(lines)%2 != 1 || len(lines[len(lines)-1]) > 0 {
		return nil, nil, fmt.Errorf("%d lines to %s", len(lines), r.URL)
	}
	for i := 0; i+1 < len(lines); i += 2 {
		var action struct {
			Create struct {
				ID string `json:"_id"`
			}
		}
		var d struct {
			Time      time.Time `json:"@timestamp"`
			Message   string
			Exact     []byte `json:"message_base64"`
			Stream    string
			Container struct{ Name string }
		}
		if err := errors.Join(json.Unmarshal(lines[i], &action), json.Unmarshal(lines[i+1], &d)); err != nil || action.Create.ID == "" || d.Time.IsZero() {
			return nil, nil, fmt.Errorf("%.100q, %.200q: %w", lines[i], lines[i+1], err)
		}
		record := collector.Record{ID: action.Create.ID, Container: d.Container.Name, Source: d.Stream, Line: []byte(d.Message)}
		if d.Exact != nil {
			record.Line = d.Exact
		}
		got = append(got, record)
	}
	return got, []byte(`{"errors":false}`), nil
}

// takePush is Loki's.
func takePush(r *http.Request, body []byte) (got []collector.Record, answer []byte, err error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil || r.URL.Path != "/loki/api/v1/push" || r.Header.Get("X-Scope-OrgID") != "team-a" {
		return nil, nil, fmt.Errorf("%s, %q: %w", r.URL, r.Header, err)
	}
	request := new(push.PushRequest)
	if err := proto.Unmarshal(raw, request); err != nil {
		return nil, nil, err
	}
	for _, s := range request.Streams {
		_, rest, _ := strings.Cut(s.Labels, `container_name="`)
		container, _, _ := strings.Cut(rest, `"`)
		for _, e := range s.Entries {
			record := collector.Record{Container: container, Line: []byte(e.Line)}
			for _, m := range e.StructuredMetadata {
				switch m.Name {
				case "id":
					record.ID = m.Value
				case "source":
					record.Source = m.Value
				case "line_base64":
					if record.Line, err = base64.StdEncoding.DecodeString(m.Value); err != nil {
						return nil, nil, err
					}
				}
			}
			if !utf8.ValidString(e.Line) {
				return nil, nil, fmt.Errorf("%q", e.Line)
			}
			got = append(got, record)
		}
	}
	return got, nil, nil
}

// takeExport is the OpenTelemetry Collector's.
func takeExport(r *http.Request, body []byte) (got []collector.Record, answer []byte, err error) {
	request := plogotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil || r.URL.Path != "/v1/logs" {
		return nil, nil, fmt.Errorf("%s: %w", r.URL, err)
	}
	for _, resource := range request.Logs().ResourceLogs().All() {
		container, _ := resource.Resource().Attributes().Get("container.name")
		for _, scope := range resource.ScopeLogs().All() {
			for _, l := range scope.LogRecords().All() {
				id, _ := l.Attributes().Get("log.record.uid")
				source, _ := l.Attributes().Get("log.iostream")
				record := collector.Record{ID: id.Str(), Container: container.Str(), Source: source.Str(), Line: []byte(l.Body().Str())}
				if l.Body().Type() == pcommon.ValueTypeBytes {
					record.Line = l.Body().Bytes().AsRaw()
				}
				got = append(got, record)
			}
		}
	}
	answer, err = plogotlp.NewExportResponse().MarshalProto()
	return got, answer, err
}
