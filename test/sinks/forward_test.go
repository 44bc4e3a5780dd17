package sinks

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/fluentforwardreceiver"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.yaml.in/yaml/v3"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/forward"
)

// TestForward sends to the OpenTelemetry Collector's receiver.
func TestForward(t *testing.T) {
	for _, params := range []string{"", "?compress=gzip"} {
		var got consumertest.LogsSink
		addr := testport.Of(t)
		var documents struct {
			Receivers map[string]map[string]any
		}
		if err := yaml.Unmarshal([]byte(strings.ReplaceAll(documented(t, "forward.md", "yaml"), "0.0.0.0:24224", addr)), &documents); err != nil {
			t.Fatal(err)
		}
		factory := fluentforwardreceiver.NewFactory()
		config := factory.CreateDefaultConfig()
		if err := confmap.NewFromStringMap(documents.Receivers["fluentforward"]).Unmarshal(config); err != nil {
			t.Fatal(err)
		}
		receiver, err := factory.CreateLogs(t.Context(), receivertest.NewNopSettings(factory.Type()), config, &got)
		if err != nil {
			t.Fatal(err)
		}
		if err := receiver.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse("forward://" + addr + params)
		if err != nil {
			t.Fatal(err)
		}
		s, err := forward.New(u, sink.Host{Resolver: net.DefaultResolver})
		if err != nil {
			t.Fatal(err)
		}
		const batches = 20
		send(t, s, batches)
		// It acknowledges what is in its own queue.
		eventually(t, func() error {
			if n := got.LogRecordCount(); n != batches*records {
				return fmt.Errorf("%d records, want %d", n, batches*records)
			}
			return nil
		})
		checkForward(t, got.AllLogs())
		if err := receiver.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func checkForward(t *testing.T, logs []plog.Logs) {
	t.Helper()
	n := 0
	for _, l := range logs {
		for _, r := range l.ResourceLogs().All() {
			for _, s := range r.ScopeLogs().All() {
				for _, record := range s.LogRecords().All() {
					checkEntry(t, record, n)
					n++
				}
			}
		}
	}
}

func checkEntry(t *testing.T, r plog.LogRecord, n int) {
	t.Helper()
	want := map[string]any{
		"source": "stdout", "id": fmt.Sprintf("s1-%016x", n), "container_id": strings.Repeat("ab", 32), "container_name": "web",
		"host": "node-1", "tag": "web-1", "team": `a"b]c\d ü`, "fluent.tag": "web-1",
	}
	if n%2 == 1 {
		want["source"] = "stderr"
	}
	if n == 7 {
		want["cut"] = true
	}
	got := r.Attributes().AsRaw()
	if len(got) != len(want) || r.Body().AsString() != line(n) || r.Timestamp() != 1_700_000_000_123_456_789 {
		t.Fatalf("record %d: %.300q, %v at %v", n, r.Body().AsString(), got, r.Timestamp())
	}
	for key, value := range want {
		if got[key] != value {
			t.Fatalf("record %d: %s is %v, want %v", n, key, got[key], value)
		}
	}
}
