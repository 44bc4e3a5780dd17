package ship

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// nothing is a collector that acknowledges everything at once.
type nothing struct{}

func (nothing) Prepare(*Meta) Template { return nothing{} }
func (nothing) Dial(context.Context) (Conn, error) {
	return &nothingConn{sent: make(chan uint64, 1)}, nil
}
func (nothing) Append(dst []byte, r *Record) []byte { return append(dst, r.Line...) }
func (nothing) Limits() Limits {
	return Limits{BatchBytes: 256 << 10, BatchRecords: 4096, InFlight: 8}
}

type nothingConn struct {
	n    uint64
	sent chan uint64
}

func (*nothingConn) Append(dst []byte, t Template, r *Record) []byte { return t.Append(dst, r) }

func (c *nothingConn) Send(context.Context, []byte) error {
	c.n++
	select {
	case <-c.sent: // what was not looked at
	default:
	}
	c.sent <- c.n
	return nil
}

func (c *nothingConn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	select {
	case n := <-c.sent:
		return n, nil
	case <-ctx.Done():
		return seen, ctx.Err()
	}
}

func (*nothingConn) Close() error { return nil }

// BenchmarkShip measures a record's way through this package alone: records of
// 120 bytes that lie ready in memory, to four collectors that cost nothing.
func BenchmarkShip(b *testing.B) {
	pool := membersOf(nil, nil)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		pool.Collectors = append(pool.Collectors, Collector{Name: name, Sink: nothing{}})
	}
	pool.Rank = func(key string) []string { return rank(names, key) }
	pool.Among = func(names []string) func([]byte) string {
		return func(key []byte) string { return names[int(key[len(key)-1])%len(names)] }
	}
	for _, key := range []Key{{Value: "s"}, {Value: "s", PerRecord: true}} {
		b.Run(fmt.Sprint("record=", key.PerRecord), func(b *testing.B) {
			b.ReportAllocs()
			m := newMemory()
			var enc record.Encoder
			frame, err := enc.Append(nil, false, 1, bytes.Repeat([]byte("x"), 120))
			if err != nil {
				b.Fatal(err)
			}
			for range b.N {
				m.data = append(m.data, frame...)
			}
			s := New(quiet)
			defer s.Close()
			b.ResetTimer()
			s.Add(m, &Meta{Stream: "s"}, pool, key)
			for m.Cursor() < uint64(len(m.data)) {
				time.Sleep(100 * time.Microsecond) // between two looks at the cursor
			}
		})
	}
}
