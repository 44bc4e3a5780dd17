package sinks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.yaml.in/yaml/v3"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/otlp"
	harness "github.com/dockline/dockline/test/harness/otlp"
)

// otlpCollector is the OpenTelemetry Collector's receiver, with the configuration
// that the documentation gives.
type otlpCollector struct {
	host       sink.Host
	grpc, http string // where it listens

	mu     sync.Mutex // guards what follows
	bodies map[string]string
	err    func(id string) error // what is said to a request with such a record
}

func startOTLP(t *testing.T, secure bool, change func(grpc map[string]any)) *otlpCollector {
	t.Helper()
	dir := t.TempDir()
	c := &otlpCollector{
		host: sink.Host{Resolver: net.DefaultResolver, Config: t.TempDir()}, bodies: map[string]string{},
		grpc: testport.Of(t), http: testport.Of(t),
	}
	issue(t, dir, c.host.Config)
	text := strings.NewReplacer("/etc/dockline", dir, "0.0.0.0:4317", c.grpc, "0.0.0.0:4318", c.http).Replace(documented(t, "otlp.md", "yaml"))
	var all struct {
		Receivers map[string]map[string]any
	}
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	grpc := all.Receivers["otlp"]["protocols"].(map[string]any)["grpc"].(map[string]any)
	if !secure {
		delete(grpc, "tls")
	}
	if change != nil {
		change(grpc)
	}
	next, err := consumer.NewLogs(c.take)
	if err != nil {
		t.Fatal(err)
	}
	harness.Receive(t, all.Receivers["otlp"], next)
	return c
}

func (c *otlpCollector) take(_ context.Context, logs plog.Logs) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := map[string]string{}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, l := range scope.LogRecords().All() {
				id, _ := l.Attributes().Get("log.record.uid")
				if c.err != nil {
					if err := c.err(id.Str()); err != nil {
						return err
					}
				}
				got[id.Str()] = l.Body().AsString()
			}
		}
	}
	maps.Copy(c.bodies, got)
	return nil
}

func (c *otlpCollector) sink(t *testing.T, text string) ship.Sink {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	open := otlp.New
	if strings.HasPrefix(u.Scheme, "otlp+grpc") {
		open = otlp.NewGRPC
	}
	s, err := open(u, c.host)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOTLP(t *testing.T) {
	const tls = "?tls-ca=ca.pem&tls-cert=client.pem&tls-key=client.key"
	for _, tc := range []struct {
		name, url string
		secure    bool
	}{
		{"gRPC", "otlp+grpc://%s", false}, {"gRPC, gzip", "otlp+grpc://%s?compress=gzip", false}, {"gRPC, TLS", "otlp+grpc+tls://%s" + tls, true},
		{"HTTP", "otlp+http://%s", false}, {"HTTP, gzip", "otlp+http://%s?compress=gzip", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startOTLP(t, tc.secure, nil)
			addr := c.grpc
			if strings.HasPrefix(tc.url, "otlp+http") {
				addr = c.http
			}
			const batches = 20
			send(t, c.sink(t, fmt.Sprintf(tc.url, addr)), batches)
			if len(c.bodies) != batches*records {
				t.Fatalf("%d records", len(c.bodies))
			}
			for n := range batches * records {
				if got := c.bodies[fmt.Sprintf("s1-%016x", n)]; got != line(n) {
					t.Fatalf("record %d reads %.80q", n, got)
				}
			}
		})
	}
}

// TestOTLPRefuses: what the receiver makes of its pipeline's errors.
func TestOTLPRefuses(t *testing.T) {
	c := startOTLP(t, false, nil)
	for _, url := range []string{"otlp+grpc://" + c.grpc, "otlp+http://" + c.http} {
		t.Run(url[:len("otlp+grpc")], func(t *testing.T) { c.refuses(t, c.sink(t, url)) })
	}
}

func (c *otlpCollector) refuses(t *testing.T, s ship.Sink) {
	c.bodies = map[string]string{}
	poison := []string{"s1-0000000000000003", "s1-0000000000000063"}
	c.err = func(id string) error {
		if slices.Contains(poison, id) {
			return consumererror.NewPermanent(errors.New("not this one"))
		}
		return nil
	}
	acked, refused, err := sendOne(t, s, 100)
	if acked != 1 || err != nil || len(c.bodies) != 98 || len(refused) != 2 || refused[0].ID != poison[0] || refused[0].Class != "invalid" || !strings.Contains(refused[0].Reason, "not this one") {
		t.Errorf("acked %d, %v; %d records; refused %+v", acked, err, len(c.bodies), refused)
	}
	c.err = func(string) error { return errors.New("the queue is full") }
	if acked, _, err := sendOne(t, s, 100); acked != 0 || !errors.Is(err, ship.ErrBusy) || !strings.Contains(err.Error(), "queue is full") {
		t.Errorf("acked %d, %v", acked, err)
	}
}

// TestOTLPTooLarge: a receiver that is not told takes messages of 4 MiB.
func TestOTLPTooLarge(t *testing.T) {
	c := startOTLP(t, false, func(grpc map[string]any) { delete(grpc, "max_recv_msg_size_mib") })
	for params, class := range map[string]string{"": "", "?max-line=0": "too-large"} {
		s := c.sink(t, "otlp+grpc://"+c.grpc+params)
		size := s.Limits().RecordBytes
		if size == 0 {
			size = 4 << 20
		}
		conn, err := s.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tmpl := s.Prepare(meta())
		b := batch(conn, tmpl, 0, 3)
		b = conn.Append(b, tmpl, &ship.Record{Offset: 3, Line: make([]byte, size)})
		if err := conn.Send(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		acked, err := conn.Wait(t.Context(), 0)
		refused := conn.(ship.Refuser).Refused()
		_ = conn.Close()
		if acked != 1 || err != nil || (class == "") != (len(refused) == 0) || class != "" && refused[0].Class != class {
			t.Errorf("%s: acked %d, %v; %d refused", params, acked, err, len(refused))
		}
	}
}

// sendOne sends one batch of n records.
func sendOne(t *testing.T, s ship.Sink, n int) (uint64, []ship.Refusal, error) {
	t.Helper()
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Send(t.Context(), batch(conn, s.Prepare(meta()), 0, n)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	acked, err := conn.Wait(ctx, 0)
	return acked, conn.(ship.Refuser).Refused(), err
}
