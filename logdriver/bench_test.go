package logdriver

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"

	"github.com/dockline/dockline/logdriver/config"
)

// BenchmarkPath measures a record's way from the FIFO, into which it is
// written with a call of its own, as the engine does, to three collectors that
// discard what they read. What the writer and the collectors cost is in it;
// the floor that they set is measured beside it, with a reader that discards.
func BenchmarkPath(b *testing.B) {
	var frame bytes.Buffer
	if err := stock.NewLogEntryEncoder(&frame).Encode(&stock.LogEntry{Source: "stdout", TimeNano: 1e18, Line: []byte(strings.Repeat("x", 120))}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, scheme string
		opts         map[string]string
	}{
		{"json+tcp", "json+tcp", nil},
		{"syslog+tcp", "syslog+tcp", nil},
		{"json+tcp,record", "json+tcp", map[string]string{"hash": "record"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var got atomic.Int64
			var urls []string
			for range 3 {
				urls = append(urls, c.scheme+"://"+discard(b, &got))
			}
			h := newHost(b, strings.Join(urls, ","))
			r := h.run(1, c.opts)
			for b.Loop() {
				if _, err := r.pipe.Write(frame.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
			r.stop()
			st := h.plugin.spool.Of(r.info.ContainerID)
			for st.Cursor(config.DefaultPool) < st.End() { // polled: an acknowledgement is no event of the stream
				time.Sleep(time.Millisecond) // between two looks at the cursor
			}
		})
	}
}

// BenchmarkLife measures what the engine waits for when a container starts and
// when it stops: the calls on the plugin's socket, one container at a time.
func BenchmarkLife(b *testing.B) {
	var got atomic.Int64
	s := newHost(b, "json+tcp://"+discard(b, &got)).listen()
	var starts, stops []time.Duration
	for b.Loop() {
		start, stop, err := s.life(info(len(starts), map[string]string{"max-size": "0"}), "one", "two", "three")
		if err != nil {
			b.Fatal(err)
		}
		starts, stops = append(starts, start), append(stops, stop)
	}
	for name, d := range map[string][]time.Duration{"start": starts, "stop": stops} {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// discard is a collector that counts bytes.
func discard(tb testing.TB, got *atomic.Int64) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
			got.Add(n)
			_ = c.Close()
		}
	}()
	tb.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}
