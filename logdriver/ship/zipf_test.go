package ship_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
)

const (
	zipfCollectors = 8
	zipfSlices     = 30
	zipfWarm       = 3       // slices before that, in which rates become known
	zipfBytes      = 200_000 // a slice, of all streams together
	zipfLine       = 200
)

// Loads by Zipf's law, through the real code and over TCP: the collectors' loads
// are even where heavy keys are split. Time is the test's own; nothing depends
// on how fast the machine is.
func TestZipfLoadsAreEven(t *testing.T) {
	for _, keys := range []int{100, 1000} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) {
			whole := zipf(t, keys, 3, 0)
			split := zipf(t, keys, zipfSlices, zipfBytes/10/zipfCollectors/32) // a slice is ten seconds
			t.Logf("%d keys: max/mean is %.2f with splitting, %.2f without", keys, split, whole)
			if split > 1.3 || whole < 1.5 {
				t.Errorf("%d keys: max/mean is %.2f with splitting, %.2f without", keys, split, whole)
			}
		})
	}
}

// zipf returns the load of the most loaded collector over the mean, in so many
// time slices.
func zipf(t *testing.T, keys, count int, above int64) float64 {
	pool, got := tcpPool(t)
	s := ship.NewManual(slog.New(slog.DiscardHandler))
	defer s.Close()
	var streams []*ship.Memory
	total := 0.0
	for i := range keys {
		m, key := ship.NewMemory(), fmt.Sprintf("%064x", i)
		streams = append(streams, m)
		s.Add(m, &ship.Meta{Stream: key}, pool, ship.Key{Value: key, SplitAbove: above})
		total += math.Pow(float64(i+1), -1.1)
	}
	credit := make([]float64, keys)
	var enc record.Encoder
	now := time.Unix(1_800_000_000, 0)
	before := make([]int64, zipfCollectors)
	for slice := range zipfWarm + count {
		s.Tick(now)
		now = now.Add(10 * time.Second)
		if slice == zipfWarm {
			for i := range got {
				before[i] = got[i].Load()
			}
		}
		for i, m := range streams {
			credit[i] += zipfBytes / total * math.Pow(float64(i+1), -1.1)
			var b []byte
			for ; credit[i] >= zipfLine; credit[i] -= zipfLine {
				var err error
				if b, err = enc.Append(b, false, 1, bytes.Repeat([]byte("x"), zipfLine)); err != nil {
					t.Fatal(err)
				}
			}
			if len(b) > 0 {
				m.Write(b)
			}
		}
		delivered(t, streams)
	}
	s.Close() // what is acknowledged is read before the connection ends
	var loads []float64
	sum := 0.0
	for i := range got {
		loads = append(loads, float64(got[i].Load()-before[i]))
		sum += loads[i]
	}
	return slices.Max(loads) / (sum / zipfCollectors)
}

func delivered(t *testing.T, streams []*ship.Memory) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, m := range streams {
		for m.Cursor() < m.Len() {
			if time.Now().After(deadline) {
				t.Fatal("not everything was delivered")
			}
			time.Sleep(100 * time.Microsecond) // between two looks: an acknowledgement is no event here
		}
	}
}

// loopback looks up addresses that are numbers.
type loopback struct{}

func (loopback) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	addr, err := netip.ParseAddr(host)
	return []netip.Addr{addr}, err
}

// tcpPool is a pool of collectors that count what they read.
func tcpPool(t *testing.T) (ship.Pool, []*atomic.Int64) {
	t.Helper()
	var nodes []route.Node
	var got []*atomic.Int64
	pool := ship.Pool{ID: "pool"}
	for i := range zipfCollectors {
		n := new(atomic.Int64)
		got = append(got, n)
		u, err := url.Parse("json+tcp://" + count(t, n))
		if err != nil {
			t.Fatal(err)
		}
		s, err := jsonl.New(u, sink.Host{Resolver: loopback{}})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("collector-%d", i)
		pool.Collectors = append(pool.Collectors, ship.Collector{Name: name, Sink: s})
		nodes = append(nodes, route.Node{Name: name, Weight: 1})
	}
	table, err := route.New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	pool.Rank = func(key string) (names []string) {
		for _, r := range table.Rank(key, nil) {
			names = append(names, r.Name)
		}
		return names
	}
	pool.Share = func(key string, names []string, slice uint64) string {
		ranked := table.Only(names).Rank(key, nil)
		return ranked[route.Spread(key, ranked, len(ranked), slice)].Name
	}
	return pool, got
}

// count is a server that adds up the bytes that it reads.
func count(t *testing.T, n *atomic.Int64) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 64<<10)
				for {
					m, err := c.Read(buf)
					n.Add(int64(m))
					if err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}
