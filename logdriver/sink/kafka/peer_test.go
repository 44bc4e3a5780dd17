package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestMain(m *testing.M) { testleak.Main(m) }

const (
	partitions = 3
	brokers    = 2
)

// peer is a cluster, whose connections a test may cut.
type peer struct {
	*kfake.Cluster
	t    *testing.T
	host sink.Host

	mu    sync.Mutex // guards what follows
	in    int64      // bytes that the connections together may still send, -1 for any
	out   int64      // and receive
	conns map[net.Conn]struct{}
}

func start(t *testing.T, opts ...kfake.Opt) *peer {
	t.Helper()
	p := &peer{t: t, host: sinktest.Host(), in: -1, out: -1, conns: map[net.Conn]struct{}{}}
	p.host.Config = t.TempDir()
	opts = append([]kfake.Opt{kfake.SeedTopics(partitions, "logs"), kfake.NumBrokers(brokers), kfake.ListenFn(p.listen)}, opts...)
	var err error
	if p.Cluster, err = kfake.NewCluster(opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	// Every broker leads some of them: by chance, as they come, one might lead none.
	for n := range int32(partitions) {
		if err := p.MoveTopicPartition("logs", n, n%brokers); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *peer) listen(network, addr string) (net.Listener, error) {
	ln, err := net.Listen(network, addr)
	return cutListener{ln, p}, err
}

type cutListener struct {
	net.Listener
	peer *peer
}

func (l cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.peer.mu.Lock()
	defer l.peer.mu.Unlock()
	l.peer.conns[c] = struct{}{}
	return &cutConn{c, l.peer}, nil
}

// cutConn is a broker's side of a connection.
type cutConn struct {
	net.Conn
	peer *peer
}

var errCut = errors.New("cut by the test")

func (p *peer) spend(budget *int64, n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *budget < 0 {
		return n
	}
	n = min(n, int(*budget))
	*budget -= int64(n)
	return n
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if left := c.peer.spend(&c.peer.in, n); left < n {
		c.reset()
		return left, errCut
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	left := c.peer.spend(&c.peer.out, len(b))
	n, err := c.Conn.Write(b[:left])
	if left < len(b) {
		c.reset()
		return n, errCut
	}
	return n, err
}

func (c *cutConn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *peer) cut(in, out int64) { p.mu.Lock(); defer p.mu.Unlock(); p.in, p.out = in, out }

// dropAll ends all connections.
func (p *peer) dropAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		(&cutConn{c, p}).reset()
	}
	clear(p.conns)
}

// open returns the sink for the cluster.
func (p *peer) open(before string, params ...string) *cluster {
	p.t.Helper()
	if !slices.ContainsFunc(params, func(s string) bool { return strings.HasPrefix(s, "topic=") }) {
		params = append(params, "topic=logs")
	}
	var urls []*url.URL
	for _, addr := range p.ListenAddrs() {
		u, err := url.Parse(before + addr + "?" + strings.Join(params, "&"))
		if err != nil {
			p.t.Fatal(err)
		}
		urls = append(urls, u)
	}
	s, err := New(urls, p.host)
	if err != nil {
		p.t.Fatal(err)
	}
	return s.(*cluster)
}

// dial connects.
func (p *peer) dial(params ...string) (*conn, ship.Template) {
	p.t.Helper()
	s := p.open("kafka://", params...)
	return connect(p.t, s), s.Prepare(meta("k1"))
}

func connect(t *testing.T, s ship.Sink) *conn {
	t.Helper()
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*conn)
}

func meta(key string) *ship.Meta {
	m := sinktest.Meta()
	m.Key, m.Stream = key, "s-"+key
	return m
}

// acknowledged is how many batches of a connection are.
var acknowledged sync.Map

// send appends records, numbered from first, in batches of so many, and waits for
// their acknowledgement.
func send(t *testing.T, c *conn, tmpl ship.Template, first, batches, each int) (uint64, error) {
	t.Helper()
	errs := make(chan error, 1)
	before, _ := acknowledged.LoadOrStore(c, uint64(0))
	go func() { errs <- sendAll(t.Context(), c, tmpl, first, batches, each) }()
	acked, err := sinktest.Wait(t, c, before.(uint64)+uint64(batches))
	if err != nil {
		_ = c.Close() // as ship does
	}
	acknowledged.Store(c, acked)
	return acked - before.(uint64), errors.Join(err, <-errs)
}

func sendAll(ctx context.Context, c *conn, tmpl ship.Template, first, batches, each int) error {
	for b := range batches {
		var dst []byte
		for i := range each {
			dst = c.Append(dst, tmpl, record(first+b*each+i))
		}
		if err := c.Send(ctx, dst); err != nil {
			return err
		}
	}
	return nil
}

func record(i int) *ship.Record {
	return &ship.Record{Offset: uint64(i), Time: 1_700_000_000_000_000_000 + int64(i), Line: fmt.Appendf(nil, "record %d", i)}
}

func sent(t *testing.T, c *conn, tmpl ship.Template, first, batches, each int) {
	t.Helper()
	if acked, err := send(t, c, tmpl, first, batches, each); acked != uint64(batches) || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
}

// patiently is for what has to come to pass while somebody is patient: where the
// machine has no time for that, it is tried with more patience.
func patiently(t *testing.T, patience time.Duration, try func(patience time.Duration) error) {
	t.Helper()
	for ; ; patience *= 3 {
		err := try(patience)
		if err == nil {
			return
		}
		if patience > 20*time.Second {
			t.Fatal(err)
		}
	}
}

// kept returns what is in a topic, in the order of each partition.
func (p *peer) kept(topic string, opts ...kgo.Opt) (all []*kgo.Record) {
	p.t.Helper()
	p.cut(-1, -1)
	want := int64(0)
	for _, i := range p.PartitionInfos(topic) {
		want += i.HighWatermark
	}
	opts = append(opts, kgo.SeedBrokers(p.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(100<<20), kgo.FetchMaxPartitionBytes(100<<20))
	c, err := kgo.NewClient(opts...)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for int64(len(all)) < want {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			p.t.Fatalf("%d of %d records can be read: %v", len(all), want, f.Err())
		}
		f.EachRecord(func(r *kgo.Record) { all = append(all, r) })
	}
	slices.SortStableFunc(all, func(a, b *kgo.Record) int { return int(a.Partition-b.Partition)*1e9 + int(a.Offset-b.Offset) })
	return all
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// exactly expects the records from 0 to n of a stream in its topic, each once
// after those that came again are taken out, in order.
func (p *peer) exactly(key string, n int) (again int) {
	p.t.Helper()
	var got []string
	seen := map[string]bool{}
	for _, r := range p.kept("logs") {
		id := header(r, "id")
		if string(r.Key) != key {
			continue
		}
		if seen[id] {
			again++
			continue
		}
		seen[id] = true
		got = append(got, id)
	}
	for i := range max(n, len(got)) {
		want := fmt.Sprintf("s-%s-%016x", key, i)
		if i >= len(got) || i >= n || got[i] != want {
			p.t.Fatalf("record %d of %d (there are %d) is not %s: %.300q", i, n, len(got), want, got[min(i, max(0, len(got)-1)):])
		}
	}
	return again
}

// line returns the line in a message.
func line(t *testing.T, value []byte) string {
	t.Helper()
	var o struct {
		Message string `json:"message"`
		Base64  []byte `json:"message_base64"`
	}
	if err := json.Unmarshal(value, &o); err != nil {
		t.Fatal(err)
	}
	if o.Base64 != nil {
		return string(o.Base64)
	}
	return o.Message
}
