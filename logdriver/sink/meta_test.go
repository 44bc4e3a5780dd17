package sink_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/tinylib/msgp/msgp"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// fullMeta is a stream of which all is known that a Compose project's containers have.
func fullMeta() *ship.Meta {
	m := benchMeta()
	m.Command, m.Created, m.Engine, m.Version = "nginx -g daemon off;", time.Date(2026, 11, 21, 9, 41, 58, 0, time.UTC), "docker", "v0.1.0"
	m.Workload = []ship.Attr{{Key: "compose_project", Value: "shop"}, {Key: "compose_service", Value: "web"}, {Key: "compose_number", Value: "1"}}
	m.Attrs = []ship.Attr{{Key: "com.example.team", Value: "checkout"}, {Key: "dc", Value: "fra"}, {Key: "swarm_node", Value: "forged"}}
	return m
}

func template(tb testing.TB, at string, m *ship.Meta) ship.Template {
	tb.Helper()
	for _, b := range benchmarks {
		if !strings.HasPrefix(b.url, strings.Replace(at, "?", "://%s?", 1)) {
			continue
		}
		u, err := url.Parse(strings.Replace(b.url, "%s", "127.0.0.1:1", 1))
		if err != nil {
			tb.Fatal(err)
		}
		s, err := b.make(u, sink.Host{Resolver: net.DefaultResolver, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			tb.Fatal(err)
		}
		return s.Prepare(m)
	}
	tb.Fatalf("there is no sink for %s", at)
	return nil
}

// values is what is the same in every protocol.
func values() map[string]string {
	return map[string]string{
		"container_id": strings.Repeat("0123456789abcdef", 4), "container_name": "shop-web-1", "image_id": "sha256:" + strings.Repeat("fe", 32),
		"image_name": "registry.example.com/shop/web:1.4.2", "id": "k3v9q0x7m2-0000000000000096", "compose_project": "shop", "compose_service": "web", "compose_number": "1",
	}
}

func with(all map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// Each protocol has all that is known of a stream, under the same names.
func TestMetadata(t *testing.T) {
	r := record(1)
	message := func(at string) []byte { return template(t, at, fullMeta()).Append(nil, &r) }
	rest := []string{"host", "node-17", "tag", "shop-web-1", "command", "nginx -g daemon off;", "created", "2026-11-21T09:41:58Z", "engine", "docker", "dockline_version", "v0.1.0"}
	attrs := []string{"com.example.team", "checkout", "dc", "fra"}

	for _, at := range []string{"syslog+tcp", "relp"} {
		m, err := rfc5424.NewParser().Parse(message(at))
		if err != nil {
			t.Fatal(err)
		}
		got := (*m.(*rfc5424.SyslogMessage).StructuredData)["dockline@32473"]
		want := with(with(values(), attrs...), "source", "stdout", "swarm_node~2", "forged")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", at, d)
		}
	}

	var object map[string]any
	if err := json.Unmarshal(message("json+tcp"), &object); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for k, v := range object {
		if text, ok := v.(string); ok && k != "time" && k != "message" {
			got[k] = text
		}
	}
	if d := cmp.Diff(with(with(values(), rest...), "stream", "stdout"), got); d != "" {
		t.Errorf("json: %s", d)
	}
	asked := map[string]any{"com.example.team": "checkout", "dc": "fra", "swarm_node": "forged"}
	if d := cmp.Diff(asked, object["attrs"]); d != "" {
		t.Errorf("json: %s", d)
	}

	var text bytes.Buffer
	if _, err := msgp.UnmarshalAsJSON(&text, message("forward")); err != nil {
		t.Fatal(err)
	}
	var entry []map[string]any
	if err := json.Unmarshal(text.Bytes(), &entry); err != nil || len(entry) != 2 {
		t.Fatalf("%s: %v", text.Bytes(), err)
	}
	got = map[string]string{}
	for k, v := range entry[1] {
		got[k], _ = v.(string)
	}
	delete(got, "log")
	if d := cmp.Diff(with(with(with(values(), rest...), attrs...), "source", "stdout", "swarm_node~2", "forged"), got); d != "" {
		t.Errorf("forward: %s", d)
	}
}

// Those whose messages their own tests take apart have the service, too.
func TestWorkloadIsThere(t *testing.T) {
	r := record(1)
	for at, want := range map[string][]string{
		"gelf+tcp":           {`"_compose_service":"web"`, `"_compose_project":"shop"`, `"_dockline_version":"v0.1.0"`, `"_swarm_node_2":"forged"`, `"_com.example.team":"checkout"`},
		"otlp+http":          {"service.name", "dockline.compose.service", "service.namespace", "dockline.version", "v0.1.0", "swarm_node", "forged"},
		"loki+http":          {"compose_service", "compose_project", "dockline_version", "v0.1.0", "swarm_node_2", "forged"},
		"elasticsearch+http": {`"agent":{"version":"v0.1.0"}`, `"runtime":"docker"`, `"labels":{"compose_project":"shop","compose_service":"web","compose_number":"1","com_example_team":"checkout","dc":"fra"`},
	} {
		tmpl := template(t, at, fullMeta())
		message := tmpl.Append(nil, &r)
		if g, ok := tmpl.(interface{ Group() *web.Group }); ok {
			message = append(message, g.Group().Head...)
		}
		for _, w := range want {
			if !bytes.Contains(message, []byte(w)) {
				t.Errorf("%s: %q is not in %q", at, w, message)
			}
		}
	}
}

// What is known of a stream costs nothing for a record but its bytes.
func TestMetadataDoesNotAllocate(t *testing.T) {
	for _, at := range []string{"syslog+tcp", "syslog+tcp?format=rfc3164", "json+tcp", "gelf+tcp", "nats?subject=logs.bench", "nats?subject=logs.bench&format=line", "forward", "relp", "otlp+http", "loki+http", "elasticsearch+http"} {
		tmpl, buf, r := template(t, at, fullMeta()), make([]byte, 0, 4096), record(0)
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = tmpl.Append(buf[:0], &r) }); n != 0 {
			t.Errorf("%s: %v allocations", at, n)
		}
	}
}

// BenchmarkMetadata is a record of 120 bytes to its message: with nothing but what
// every container has, and with all that a Compose project's has.
func BenchmarkMetadata(b *testing.B) {
	for _, at := range []string{"syslog+tcp", "json+tcp", "forward"} {
		for _, meta := range []struct {
			name string
			*ship.Meta
		}{{"plain", benchMeta()}, {"full", fullMeta()}} {
			b.Run(at+"/"+meta.name, func(b *testing.B) {
				tmpl, buf, r := template(b, at, meta.Meta), make([]byte, 0, 4096), record(0)
				b.SetBytes(int64(len(tmpl.Append(nil, &r))))
				b.ReportAllocs()
				for b.Loop() {
					r.Time += 1000
					r.Offset += 150
					buf = tmpl.Append(buf[:0], &r)
				}
			})
		}
	}
}
