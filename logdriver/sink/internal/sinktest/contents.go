package sinktest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
)

// lines are what lines may hold: every byte, and much of it.
func lines() []string {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	huge := strings.Repeat("0123456789abcdef", 5<<20/16) // more than any buffer holds, and than gRPC takes unless told
	all := []string{"", string(every), "\n", "\r\n", "\x00", "a\nb", strings.Repeat(string(every), 5), huge, "", "the end"}
	for i := range every {
		all = append(all, string(every[i:i+1]))
	}
	return all
}

// testContents sends what lines may hold, and expects the same bytes.
func testContents(t *testing.T, p Protocol) {
	want := lines()
	var got []string
	ended := make(chan struct{})
	conn, tmpl := p.dial(t, func(peer *Peer) {
		defer close(ended)
		p.receive(peer, -1, func(line string) { got = append(got, line) })
	})
	var dst []byte
	for i, line := range want {
		dst = conn.Append(dst, tmpl, &ship.Record{Offset: uint64(i), Line: []byte(line)})
	}
	if err := conn.Send(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	_ = conn.Close()
	<-ended
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("record %d reads %.80q, want %.80q", i, got[i], want[i])
		}
	}
}

// tlsOverhead is what TLS 1.3 adds to a batch that fits into one of its records.
const tlsOverhead = 5 + 1 + 16

// testCutEverywhere cuts at each byte of what is sent, and sends on another
// connection what was not acknowledged, as ship does: where the collector
// confirms, it has everything then.
func testCutEverywhere(t *testing.T, p Protocol) {
	const batches, records, size = 2, 2, 12
	step := int64(1)
	if p.secure() {
		step = 29 // two handshakes each
	}
	var got received
	cuts := make(chan int64) // without room: each connection takes its own
	addr := p.listen(t, p.config(t), func(peer *Peer) { p.receive(peer, <-cuts, got.add) })
	s := p.sink(t, addr)
	tmpl, total := s.Prepare(&ship.Meta{Stream: "s1"}), int64(0)
	for cut := int64(0); p.Confirms || cut == 0 || cut <= total; cut += step {
		got.reset()
		conn := Connect(t, s)
		cuts <- cut
		ends := sendAll(t, conn, func(i int) []byte { return batch(conn, tmpl, i*records, records, size) }, batches)
		if total = ends[batches-1]; p.secure() {
			total += batches * tlsOverhead
		}
		acked, err := p.ended(t, conn, batches)
		if err == nil && acked < batches {
			t.Fatalf("cut at %d: no error", cut)
		}
		_ = conn.Close()
		if p.Confirms {
			got.want(t, int(acked)*records, size)
		}
		if p.Confirms && acked == batches {
			break // there is nothing behind it
		}
		conn = Connect(t, s)
		cuts <- -1
		if rest := batches - int(acked); rest > 0 {
			sendAll(t, conn, func(i int) []byte { return batch(conn, tmpl, (i+int(acked))*records, records, size) }, rest)
			if acked, err := Wait(t, conn, uint64(rest)); err != nil {
				t.Fatalf("again: acked %d, %v", acked, err)
			}
		}
		if p.Confirms {
			got.want(t, batches*records, size)
		}
		_ = conn.Close()
	}
}

// ended waits for the end of a connection that was cut; where the collector
// confirms, all that was sent being confirmed is an end, too.
func (p Protocol) ended(t *testing.T, conn ship.Conn, batches uint64) (uint64, error) {
	t.Helper()
	if !p.Confirms {
		batches++
	}
	return Wait(t, conn, batches)
}

// received is what came, in any order.
type received struct {
	mu    sync.Mutex // guards lines
	lines map[string]bool
}

func (r *received) reset() { r.mu.Lock(); defer r.mu.Unlock(); r.lines = map[string]bool{} }

func (r *received) add(line string) { r.mu.Lock(); defer r.mu.Unlock(); r.lines[line] = true }

// want looks for the first n records.
func (r *received) want(t *testing.T, n, size int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range n {
		if !r.lines[line(i, size)] {
			t.Fatalf("record %d of %d acknowledged ones is missing", i, n)
		}
	}
}

// testSlow: a collector that takes its time is not given up as long as it goes on.
func testSlow(t *testing.T, p Protocol) {
	var got received
	got.reset()
	conn, tmpl := p.dial(t, func(peer *Peer) {
		p.receive(peer, -1, func(line string) {
			got.add(line)
			time.Sleep(time.Millisecond) // this is what is slow about it
		})
	})
	const batches, records, size = 4, 50, 10 << 10
	errs := make(chan error, 1)
	go func() {
		var err error
		for i := range batches {
			err = errors.Join(err, conn.Send(t.Context(), batch(conn, tmpl, i*records, records, size)))
		}
		errs <- err
	}()
	if acked, err := Wait(t, conn, batches); acked != batches || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	if p.Confirms {
		got.want(t, batches*records, size)
	}
}

// testRestart ends a collector that has acknowledged a batch, and starts one at
// the same place.
func testRestart(t *testing.T, p Protocol) {
	var got received
	got.reset()
	end := make(chan struct{})
	serve := func(peer *Peer) { p.receive(peer, -1, got.add) }
	addr, stop := p.listenAt(t, testport.Of(t), p.config(t), func(peer *Peer) {
		go func() { <-end; _ = peer.tcp.Close() }()
		serve(peer)
	})
	s := p.sink(t, addr)
	tmpl, conn := s.Prepare(Meta()), Connect(t, s)
	sendAll(t, conn, func(int) []byte { return batch(conn, tmpl, 0, 5, 100) }, 1)
	if acked, err := Wait(t, conn, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	close(end)
	stop()
	if acked, err := Wait(t, conn, 2); acked != 1 || err == nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("nobody listens: no error")
	}
	_, stop = p.listenAt(t, addr, p.config(t), serve)
	again := Connect(t, s)
	sendAll(t, again, func(int) []byte { return batch(again, tmpl, 5, 5, 100) }, 1)
	if acked, err := Wait(t, again, 1); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	_ = again.Close()
	stop()
	if p.Confirms {
		got.want(t, 10, 100)
	}
}
