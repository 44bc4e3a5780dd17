package sink_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/elastic"
	"github.com/dockline/dockline/logdriver/sink/forward"
	"github.com/dockline/dockline/logdriver/sink/gelf"
	"github.com/dockline/dockline/logdriver/sink/journald"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
	"github.com/dockline/dockline/logdriver/sink/kafka"
	"github.com/dockline/dockline/logdriver/sink/loki"
	"github.com/dockline/dockline/logdriver/sink/nats"
	"github.com/dockline/dockline/logdriver/sink/otlp"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

var benchmarks = []struct {
	url  string // with %s for the peer's address
	peer string
	make func(*url.URL, sink.Host) (ship.Sink, error)
}{
	{"syslog+tcp://%s", "discard", syslog.New},
	{"syslog+tcp://%s?framing=newline", "discard", syslog.New},
	{"syslog+tcp://%s?format=rfc3164", "discard", syslog.New},
	{"syslog+tcp://%s?format=rfc3164&metadata=cee", "discard", syslog.New},
	{"syslog+udp://%s", "udp", syslog.New},
	{"syslog+tls://%s?tls-ca=ca.pem", "discard+tls", syslog.New},
	{"json+tcp://%s", "discard", jsonl.New},
	{"json+tls://%s?tls-ca=ca.pem", "discard+tls", jsonl.New},
	{"gelf+tcp://%s", "discard", gelf.New},
	{"gelf+tls://%s?tls-ca=ca.pem", "discard+tls", gelf.New},
	{"gelf+udp://%s", "udp", gelf.New},
	{"gelf+udp://%s?compress=gzip", "udp", gelf.New},
	{"gelf+udp://%s?compress=zlib", "udp", gelf.New},
	{"relp://%s", "relp", relp.New},
	{"relp+tls://%s?tls-ca=ca.pem", "relp+tls", relp.New},
	{"nats://%s?subject=logs.bench", "nats", one(nats.New)},
	{"nats://%s?subject=logs.bench&format=line", "nats", one(nats.New)},
	{"nats://%s?subject=logs.bench", "nats-server", one(nats.New)},
	{"forward://%s", "forward", forward.New},
	{"forward://%s?compress=gzip", "forward", forward.New},
	{"forward+tls://%s?tls-ca=ca.pem", "forward+tls", forward.New},
	{"json+http://%s", "http", jsonl.NewHTTP},
	{"json+http://%s?compress=gzip", "http", jsonl.NewHTTP},
	{"json+https://%s?tls-ca=ca.pem", "http+tls", jsonl.NewHTTP},
	{"elasticsearch+http://%s", "http", elastic.New},
	{"elasticsearch+http://%s?compress=gzip", "http", elastic.New},
	{"elasticsearch+https://%s?tls-ca=ca.pem", "http+tls", elastic.New},
	{"loki+http://%s", "http", loki.New},
	{"loki+https://%s?tls-ca=ca.pem", "http+tls", loki.New},
	{"otlp+http://%s", "http", otlp.New},
	{"otlp+http://%s?compress=gzip", "http", otlp.New},
	{"otlp+https://%s?tls-ca=ca.pem", "http+tls", otlp.New},
	{"kafka://%s?topic=logs", "kafka", one(kafka.New)},
	{"kafka://%s?topic=logs&compress=lz4", "kafka", one(kafka.New)},
	{"kafka://%s?topic=logs&compress=none", "kafka", one(kafka.New)},
	{"kafka://%s?topic=logs&format=line", "kafka", one(kafka.New)},
	{"kafka+tls://%s?topic=logs&tls-ca=ca.pem", "kafka+tls", one(kafka.New)},
	{"otlp+grpc://%s", "grpc", otlp.NewGRPC},
	{"otlp+grpc://%s?compress=gzip", "grpc", otlp.NewGRPC},
	{"otlp+grpc+tls://%s?tls-ca=ca.pem", "grpc+tls", otlp.NewGRPC},
	{"journald://%s", "journal", journald.New},
}

// one is a cluster of one.
func one(make func([]*url.URL, sink.Host) (ship.Sink, error)) func(*url.URL, sink.Host) (ship.Sink, error) {
	return func(u *url.URL, host sink.Host) (ship.Sink, error) { return make([]*url.URL{u}, host) }
}

// benchLine is 120 bytes of what programs write.
const benchLine = `2026-11-21T09:17:03Z INFO request served method=GET path=/api/v1/items status=200 ms=12 client=192.0.2.7 trace=4bf92f357`

func benchMeta() *ship.Meta {
	return &ship.Meta{
		Stream: "k3v9q0x7m2", ContainerID: strings.Repeat("0123456789abcdef", 4), ContainerName: "shop-web-1",
		ImageID: "sha256:" + strings.Repeat("fe", 32), ImageName: "registry.example.com/shop/web:1.4.2", Host: "node-17", Tag: "shop-web-1",
		Attrs: []ship.Attr{{Key: "com.example.team", Value: "checkout"}},
	}
}

// dial returns a connection to a peer that is a process of its own.
func dial(b *testing.B, i int) (ship.Sink, ship.Conn) {
	b.Helper()
	bench := benchmarks[i]
	dir := b.TempDir()
	u, err := url.Parse(fmt.Sprintf(bench.url, startPeer(b, bench.peer, dir)))
	if err != nil {
		b.Fatal(err)
	}
	s, err := bench.make(u, sink.Host{Resolver: net.DefaultResolver, Config: dir, Journal: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := s.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return s, conn
}

func secure(i int) bool { return strings.HasSuffix(benchmarks[i].peer, "+tls") }

func name(i int) string {
	name := strings.ReplaceAll(benchmarks[i].url, "://%s", "")
	if benchmarks[i].peer == "nats-server" {
		name += "#nats-server"
	}
	return name
}

// BenchmarkEncode is from a record to the bytes of its message, framed.
func BenchmarkEncode(b *testing.B) {
	for i := range benchmarks {
		if secure(i) || strings.Contains(benchmarks[i].url, "compress=") {
			continue // the same
		}
		b.Run(name(i), func(b *testing.B) {
			s, conn := dial(b, i)
			tmpl, buf, r := s.Prepare(benchMeta()), make([]byte, 0, 4096), record(0)
			b.SetBytes(int64(len(conn.Append(nil, tmpl, &r))))
			b.ReportAllocs()
			for b.Loop() {
				r.Time += 1000
				r.Offset += 150
				buf = conn.Append(buf[:0], tmpl, &r)
			}
		})
	}
}

func record(n int) ship.Record {
	return ship.Record{Offset: uint64(n) * 150, Time: 1_700_000_000_000_000_000 + int64(n)*1000, Line: []byte(benchLine)}
}

// BenchmarkThroughput sends records to a peer that discards them, until all are
// acknowledged, with batches of different sizes. With -cpu 1 the sink has one
// core; the peer is another process. cpu-ns/record is what this process took.
func BenchmarkThroughput(b *testing.B) {
	for i := range benchmarks {
		for _, size := range []int{0, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
			label := fmt.Sprintf("%s/%dKiB", name(i), size>>10)
			if size == 0 {
				label = name(i) + "/own"
			}
			b.Run(label, func(b *testing.B) { throughput(b, i, size) })
		}
	}
}

func throughput(b *testing.B, i, size int) {
	s, conn := dial(b, i)
	limits := s.Limits()
	if size > 0 {
		limits.BatchBytes, limits.BatchRecords = size, size // by bytes alone
	}
	tmpl, r := s.Prepare(benchMeta()), record(0)
	window := make(chan struct{}, limits.InFlight)
	var waiting sync.WaitGroup
	batches := make(chan struct{}, limits.InFlight) // those that were sent
	waiting.Go(func() { acknowledge(b, conn, batches, window) })
	var buf []byte
	records := 0
	b.ResetTimer()
	before := cpu(b)
	for n := range b.N {
		r.Time += 1000
		r.Offset += 150
		buf = conn.Append(buf, tmpl, &r)
		if records++; len(buf) < limits.BatchBytes && records < limits.BatchRecords && n < b.N-1 {
			continue
		}
		window <- struct{}{}
		if err := conn.Send(context.Background(), buf); err != nil {
			b.Fatal(err)
		}
		batches <- struct{}{}
		buf, records = buf[:0], 0
	}
	close(batches)
	waiting.Wait()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func acknowledge(b *testing.B, conn ship.Conn, batches, window chan struct{}) {
	seen, taken := uint64(0), uint64(0)
	for range batches {
		for taken == seen {
			n, err := conn.Wait(context.Background(), seen)
			if err != nil {
				b.Error(err)
				return
			}
			seen = n
		}
		taken++
		<-window
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestMain(m *testing.M) {
	if kind := os.Getenv("DOCKLINE_TEST_PEER"); kind != "" {
		runPeer(kind, os.Getenv("DOCKLINE_TEST_PEER_DIR"))
		return
	}
	os.Exit(m.Run())
}

// TestNothingIsAllocated holds every sink to it.
func TestNothingIsAllocated(t *testing.T) {
	if len(benchLine) != 120 {
		t.Fatalf("%d bytes", len(benchLine))
	}
	for i := range benchmarks {
		if secure(i) {
			continue // the same
		}
		if benchmarks[i].peer == "journal" {
			continue // it has no address; see its own test
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, no more
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(fmt.Sprintf(benchmarks[i].url, ln.Addr()))
		s, err := benchmarks[i].make(u, sink.Host{Resolver: net.DefaultResolver})
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(u.Scheme, "relp") || strings.HasPrefix(u.Scheme, "kafka") || u.Scheme == "nats" {
			_ = ln.Close()
			continue // it does not connect without a server; see its own test
		}
		conn, err := s.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tmpl, buf, r := s.Prepare(benchMeta()), make([]byte, 0, 1<<20), record(0)
		if n := testing.AllocsPerRun(100, func() { r.Time += 1e8; buf = conn.Append(buf, tmpl, &r) }); n != 0 {
			t.Errorf("%s: %v allocations", name(i), n)
		}
		_ = conn.Close()
		_ = ln.Close()
	}
}

func writeCA(dir string, pem []byte) error {
	return os.WriteFile(filepath.Join(dir, "ca.pem"), pem, 0o600)
}
