package otlp

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/dockline/dockline/logdriver/ship"
)

// exporter is a server of gRPC as the Collector's receiver has it.
type exporter struct {
	plogotlp.UnimplementedGRPCServer
	export func(ctx context.Context, streams map[string][]string) error
}

func (e *exporter) Export(ctx context.Context, r plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	streams := map[string][]string{}
	for _, resource := range r.Logs().ResourceLogs().All() {
		name, _ := resource.Resource().Attributes().Get("container.name")
		for _, l := range resource.ScopeLogs().At(0).LogRecords().All() {
			streams[name.Str()] = append(streams[name.Str()], l.Body().Str())
		}
	}
	return plogotlp.NewExportResponse(), e.export(ctx, streams)
}

func serveExporter(t *testing.T, e *exporter, options ...grpc.ServerOption) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	plogotlp.RegisterGRPCServer(server, e)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Stop(); <-ended })
	return ln.Addr().String()
}

func wait(t *testing.T, conn ship.Conn, want uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for acked := uint64(0); acked < want; {
		n, err := conn.Wait(ctx, acked)
		if err != nil {
			t.Fatalf("acked %d, %v", n, err)
		}
		acked = n
	}
}

// TestOrder: requests are under way together, but none with records of the same
// stream, and each stream's come in order.
func TestOrder(t *testing.T) {
	var mu sync.Mutex
	busy, got, most := map[string]bool{}, map[string]string{}, 0
	second := make(chan struct{}) // closed when two requests are under way
	addr := serveExporter(t, &exporter{export: func(ctx context.Context, streams map[string][]string) error {
		mu.Lock()
		for s, lines := range streams {
			if busy[s] {
				t.Errorf("two requests with records of %s", s)
			}
			busy[s] = true
			for _, l := range lines {
				got[s] += l
			}
		}
		if len(busy) > most {
			if most = len(busy); most == 2 {
				close(second)
			}
		}
		mu.Unlock()
		select { // the first one waits until there is another
		case <-second:
		case <-ctx.Done():
		}
		mu.Lock()
		defer mu.Unlock()
		for s := range streams {
			delete(busy, s)
		}
		return nil
	}})
	conn, _ := dialGRPC(t, addr, "timeout=10s")
	templates := map[byte]ship.Template{}
	for _, s := range []byte("abc") {
		templates[s] = newTemplate(&ship.Meta{Stream: string(s), ContainerName: string(s)})
	}
	// Each batch is of the streams that its letters name.
	batches := []string{"a", "a", "b", "ab", "c", "bc", "a", "c", "c", "abc", "b", "a"}
	want := map[string]string{}
	sent := make(chan error, 1)
	for n, streams := range batches {
		for _, s := range streams {
			want[string(s)] += string(rune('A' + n))
		}
	}
	go func() {
		for n, streams := range batches {
			var dst []byte
			for _, s := range []byte(streams) {
				dst = conn.Append(dst, templates[s], &ship.Record{Offset: uint64(n), Line: []byte{byte('A' + n)}})
			}
			if err := conn.Send(t.Context(), dst); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	wait(t, conn, uint64(len(batches)))
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for s := range want {
		if got[s] != want[s] {
			t.Errorf("%s got %s, want %s", s, got[s], want[s])
		}
	}
}

// TestConnectionAge: a server that asks for a new connection every now and then, as
// those behind load balancers do, is no reason to send anything twice.
func TestConnectionAge(t *testing.T) {
	var mu sync.Mutex
	got, peers := "", map[string]bool{}
	addr := serveExporter(t, &exporter{export: func(ctx context.Context, streams map[string][]string) error {
		mu.Lock()
		defer mu.Unlock()
		from, _ := peer.FromContext(ctx)
		peers[from.Addr.String()] = true
		for _, l := range streams["web-1"] {
			got += l
		}
		return nil
	}}, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second}))
	conn, tmpl := dialGRPC(t, addr)
	want := ""
	several := func() bool { mu.Lock(); defer mu.Unlock(); return len(peers) > 3 }
	for n := 0; n < 10 || !several() && n < 100_000; n++ {
		line := string(rune('A' + n%26))
		want += line
		if err := conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Offset: uint64(n), Line: []byte(line)})); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
		wait(t, conn, uint64(n)+1) //nolint:gosec // small
	}
	mu.Lock()
	defer mu.Unlock()
	if got != want || len(peers) < 2 {
		t.Errorf("%d of %d records over %d connections", len(got), len(want), len(peers))
	}
}

// TestUnavailable: a status of the collector's is not taken for a broken connection.
func TestUnavailable(t *testing.T) {
	addr := serveExporter(t, &exporter{export: func(context.Context, map[string][]string) error {
		return status.Error(codes.Unavailable, "the queue is full")
	}})
	conn, tmpl := dialGRPC(t, addr)
	if err := conn.Send(t.Context(), conn.Append(nil, tmpl, &ship.Record{Line: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	if acked, err := conn.Wait(t.Context(), 0); acked != 0 || !errors.Is(err, ship.ErrBusy) {
		t.Errorf("acked %d, %v", acked, err)
	}
}
