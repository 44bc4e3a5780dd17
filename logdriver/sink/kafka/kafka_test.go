package kafka

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestDelivers(t *testing.T) {
	for _, compress := range []string{"zstd", "lz4", "snappy", "gzip", "none"} {
		p := start(t)
		c, tmpl := p.dial("compress=" + compress)
		sent(t, c, tmpl, 0, 40, 25)
		if again := p.exactly("k1", 1000); again != 0 {
			t.Errorf("%s: %d came again though nothing failed", compress, again)
		}
		if got := line(t, p.kept("logs")[7].Value); got != "record 7" {
			t.Errorf("%s: %q", compress, got)
		}
	}
}

// Records of one key are in the partition where every Kafka client puts them.
func TestKeySelectsPartition(t *testing.T) {
	p := start(t, kfake.SeedTopics(16, "wide"))
	s := p.open("kafka://", "topic=wide")
	c := connect(t, s)
	want := kgo.StickyKeyPartitioner(nil).ForTopic("wide")
	perRecord := meta("each")
	perRecord.PerRecord = true
	tmpls := []ship.Template{s.Prepare(perRecord)}
	for i := range 20 {
		tmpls = append(tmpls, s.Prepare(meta(fmt.Sprint("key", i))))
	}
	for i, tmpl := range tmpls {
		sent(t, c, tmpl, i*100, 1, 100)
	}
	spread := map[int32]int{}
	for _, r := range p.kept("wide") {
		if at := want.Partition(&kgo.Record{Key: r.Key}, 16); int32(at) != r.Partition {
			t.Fatalf("key %q is in partition %d, not %d", r.Key, r.Partition, at)
		}
		if strings.HasPrefix(string(r.Key), "s-each-") {
			if string(r.Key) != header(r, "id") {
				t.Errorf("the key is %q, the id %q", r.Key, header(r, "id"))
			}
			spread[r.Partition]++
		}
	}
	if len(spread) < 12 {
		t.Errorf("keys of their own are in partitions %v", spread)
	}
}

// A heavy key goes to partitions behind its own, in turn.
func TestSpread(t *testing.T) {
	p := start(t)
	c, tmpl := p.dial()
	for place := range 4 {
		tmpl.(ship.Spreader).Spread(place)
		sent(t, c, tmpl, place*10, 1, 10)
	}
	own := kgo.StickyKeyPartitioner(nil).ForTopic("logs").Partition(&kgo.Record{Key: []byte("k1")}, partitions)
	for _, r := range p.kept("logs") {
		var n int
		_, _ = fmt.Sscanf(line(t, r.Value), "record %d", &n)
		if want := (own + n/10) % partitions; int(r.Partition) != want || string(r.Key) != "k1" {
			t.Errorf("record %d with key %s is in partition %d, not %d", n, r.Key, r.Partition, want)
		}
	}
}

func TestContents(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	huge := make([]byte, 10<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(huge)
	want := []string{"", string(every), "\n", "\r\n", "\x00", "a\nb", strings.Repeat(string(every), 5), string(huge), "", "the end"}
	for i := range every {
		want = append(want, string(every[i:i+1]))
	}
	for format, compress := range map[string]string{"json": "none", "line": "zstd"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			contents(t, want, "format="+format, "compress="+compress)
		})
	}
}

// contents sends lines, and looks whether they are what comes.
func contents(t *testing.T, want []string, params ...string) {
	t.Helper()
	p := start(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(64 << 20)}))
	c, tmpl := p.dial(append(params, "max-message=64m", "max-line=0")...)
	var dst []byte
	for i, l := range want {
		dst = c.Append(dst, tmpl, &ship.Record{Offset: uint64(i), Line: []byte(l), Stderr: i%2 == 1, Cut: i%3 == 0})
	}
	if err := c.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if acked, err := sinktest.Wait(t, c, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	if refused := c.Refused(); len(refused) > 0 {
		t.Fatalf("refused %s: %s", refused[0].ID, refused[0].Reason)
	}
	got := p.kept("logs")
	if len(got) != len(want) {
		t.Fatalf("%d records", len(got))
	}
	for i, r := range got {
		text := string(r.Value)
		if slices.Contains(params, "format=json") {
			text = line(t, r.Value)
		}
		if text != want[i] {
			t.Errorf("record %d reads %.80q, want %.80q", i, text, want[i])
		}
	}
}

// However long a line is, and whatever is in it, no message of it is refused.
func TestPiecesFit(t *testing.T) {
	worst := append(bytes.Repeat([]byte{1}, 200<<10), 0xff)
	for _, params := range []string{"format=json&max-message=100k", "format=line&max-message=100k", "format=line&max-line=10k", "headers=all&max-message=20k"} {
		p := start(t)
		s := p.open("kafka://", params, "compress=none")
		m := meta("k1")
		for i := range 30 {
			m.Attrs = append(m.Attrs, ship.Attr{Key: fmt.Sprint("long", i), Value: strings.Repeat("x", 200)})
		}
		fields := []ship.Field{{Key: []byte("f"), Value: worst[:50<<10]}}
		c := connect(t, s)
		dst, pieces := ship.AppendRecord(nil, s, c, m, &ship.Record{Line: worst, Fields: fields})
		if err := c.Send(t.Context(), dst); err != nil {
			t.Fatal(err)
		}
		acked, err := sinktest.Wait(t, c, 1)
		if refused := c.Refused(); acked != 1 || err != nil || len(refused) > 0 {
			t.Errorf("%s: acked %d, %v, %d refused of %d", params, acked, err, len(refused), pieces)
		}
		text := ""
		for _, r := range p.kept("logs") {
			if params[:8] == "format=l" {
				text += string(r.Value)
			} else {
				text += line(t, r.Value)
			}
		}
		if text != string(worst) {
			t.Errorf("%s: %d bytes of %d in %d pieces", params, len(text), len(worst), pieces)
		}
	}
}

func TestHeaders(t *testing.T) {
	p := start(t)
	for i, tc := range []struct {
		params string
		want   map[string]string
	}{
		{"format=json", map[string]string{"id": "s-k1-0000000000000007"}},
		{"format=line", map[string]string{
			"id": "s-k1-0000000000000007", "time": "2023-11-14T22:13:20.000000009Z", "source": "stderr", "container_name": "web-1", "host": "host ü",
			"id~2": "forged", "team=x": "bad \xff utf-8", "level": "error", "cut": "true", "fields": `{"status":200,"status~2":"again"}`,
		}},
		{"format=line&headers=id", map[string]string{"id": "s-k1-0000000000000007"}},
	} {
		topic := fmt.Sprint("t", i)
		if err := p.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		c, tmpl := p.dial("topic="+topic, tc.params)
		r := &ship.Record{
			Offset: 7, Time: 1_700_000_000_000_000_009, Stderr: true, Cut: true, Level: 7, Line: []byte("x"),
			Fields: []ship.Field{{Key: []byte("status"), Value: []byte("200"), Raw: true}, {Key: []byte("status"), Value: []byte("again")}},
		}
		tc.want["level"] = r.Level.String()
		if len(tc.want) == 2 {
			delete(tc.want, "level")
		}
		if err := c.Send(t.Context(), c.Append(nil, tmpl, r)); err != nil {
			t.Fatal(err)
		}
		if acked, err := sinktest.Wait(t, c, 1); acked != 1 || err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
		got := p.kept(topic)[0]
		for key, want := range tc.want {
			if header(got, key) != want {
				t.Errorf("%s: %s reads %q, want %q", tc.params, key, header(got, key), want)
			}
		}
		if len(tc.want) == 1 && len(got.Headers) != 1 {
			t.Errorf("%s: %d headers", tc.params, len(got.Headers))
		}
		if !got.Timestamp.Equal(time.UnixMilli(1_700_000_000_000)) {
			t.Errorf("the time is %v", got.Timestamp)
		}
	}
}

// A connection that is cut after each byte, of what is sent and of the answers,
// loses nothing that was acknowledged, and nothing comes twice to whoever looks
// at ids.
func TestCutEverywhere(t *testing.T) {
	// Most of the time somebody waits for somebody, so that many clusters cut at once.
	const workers, step = 8, 31
	for name, cut := range map[string]func(p *peer, at int64){
		"requests": func(p *peer, at int64) { p.cut(at, -1) },
		"answers":  func(p *peer, at int64) { p.cut(-1, at) },
	} {
		t.Run(name, func(t *testing.T) {
			for n := range workers {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					t.Parallel()
					cutAnywhere(t, cut, int64(n*step), workers*step)
				})
			}
		})
	}
}

func cutAnywhere(t *testing.T, cut func(p *peer, at int64), first, step int64) {
	const batches, each = 2, 3
	p := start(t)
	s := p.open("kafka://", "timeout=100ms", "compress=none")
	patient := p.open("kafka://", "timeout=30s", "compress=none")
	// As many bytes as it takes when nothing is cut.
	const plenty = 1 << 40
	cut(p, plenty)
	whole := connect(t, patient)
	sent(t, whole, s.Prepare(meta("whole")), 0, batches, each)
	_ = whole.Close()
	p.mu.Lock()
	all := plenty - max(p.in, p.out)
	p.mu.Unlock()
	for at, round := first, 0; at <= all; at, round = at+step, round+1 {
		key := fmt.Sprint("k", round)
		tmpl, acked := s.Prepare(meta(key)), uint64(0)
		cut(p, at)
		c, err := s.Dial(t.Context())
		if err == nil {
			acked, err = send(t, c.(*conn), tmpl, 0, batches, each)
			_ = c.Close()
		}
		if err == nil && acked < batches {
			t.Fatalf("cut at %d: acked %d and no error", at, acked)
		}
		p.cut(-1, -1)
		if acked < batches {
			c := connect(t, patient)
			sent(t, c, tmpl, int(acked)*each, batches-int(acked), each)
			_ = c.Close()
		}
		p.exactly(key, batches*each)
	}
}

// What is acknowledged is there when the brokers have been killed, and come back.
func TestBrokersDownAndBack(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := t.TempDir()
	var ports []int
	for range brokers {
		addr, err := net.ResolveTCPAddr("tcp", testport.Of(t))
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, addr.Port)
	}
	first := start(t, kfake.DataDir(dir), kfake.SyncWrites(), kfake.Ports(ports...))
	s := first.open("kafka://", "timeout=1s")
	c, tmpl := connect(t, s), s.Prepare(meta("k1"))
	sent(t, c, tmpl, 0, 3, 10)
	first.dropAll()
	first.Close()
	if acked, err := send(t, c, tmpl, 30, 1, 10); acked != 0 && acked != 3 || err == nil {
		t.Fatalf("nobody is there: acked %d, %v", acked, err)
	}
	if _, err := s.Dial(t.Context()); err == nil {
		t.Fatal("nobody is there: no error")
	}
	again := start(t, kfake.DataDir(dir), kfake.SyncWrites(), kfake.Ports(ports...))
	sent(t, connect(t, again.open("kafka://")), tmpl, 30, 3, 10)
	again.exactly("k1", 60)
}

// A connection survives that all of its connections to brokers end.
func TestConnectionsDrop(t *testing.T) {
	p := start(t)
	c, tmpl := p.dial()
	for i := range 5 {
		sent(t, c, tmpl, i*20, 2, 10)
		p.dropAll()
	}
	p.exactly("k1", 100)
}

func TestSilent(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := start(t)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	c, tmpl := p.dial("timeout=500ms")
	p.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		p.KeepControl()
		p.SleepControl(func() { <-end })
		return nil, nil, false
	})
	began := time.Now()
	acked, err := send(t, c, tmpl, 0, 1, 10)
	if acked != 0 || err == nil || !strings.Contains(err.Error(), "acknowledged nothing") || time.Since(began) > 10*time.Second {
		t.Errorf("acked %d, %v after %v", acked, err, time.Since(began))
	}
}

// A cluster that takes its time is not given up as long as it goes on.
func TestSlow(t *testing.T) {
	t.Parallel()                                                   // it waits most of the time
	patiently(t, time.Second, func(patience time.Duration) error { // all of it takes twice as long
		p := start(t)
		c, tmpl := p.dial("timeout=" + patience.String())
		p.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			p.KeepControl()
			time.Sleep(patience / 10) // this is what is slow about it
			return nil, nil, false
		})
		if acked, err := send(t, c, tmpl, 0, 20, 10); acked != 20 || err != nil {
			return fmt.Errorf("acked %d, %w", acked, err)
		}
		p.exactly("k1", 200)
		return nil
	})
}

func TestClose(t *testing.T) {
	p := start(t)
	c, tmpl := p.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if acked, err := c.Wait(ctx, 0); acked != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acked %d, %v", acked, err)
	}
	errs := make(chan error)
	go func() {
		_, err := c.Wait(t.Context(), 0)
		errs <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if err := c.Send(t.Context(), c.Append(nil, tmpl, record(1))); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// Another's port: what speaks no Kafka is told so.
func TestGarbage(t *testing.T) {
	for _, text := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "", "\x00\x00\x00\x04abcd"} {
		addr := sinktest.Serve(t, func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, text) })
		s := sinktest.Open(t, newOne, sinktest.Host(), "kafka://"+addr+"?topic=logs&timeout=2s")
		if _, err := s.Dial(t.Context()); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
