package sinktest

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/ship"
)

// testDelivers sends many batches, several at a time, and expects every
// record once and in order, and every batch acknowledged.
func testDelivers(t *testing.T, p Protocol) {
	const batches, records = 40, 25
	var got []string
	ended := make(chan struct{})
	conn, tmpl := p.dial(t, func(peer *Peer) {
		defer close(ended)
		p.receive(peer, -1, func(line string) { got = append(got, line) })
	})
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := range batches {
			err = errors.Join(err, conn.Send(t.Context(), batch(conn, tmpl, i*records, records, 100+i*10)))
		}
		sent <- err
	}()
	acked, err := Wait(t, conn, batches)
	if acked != batches || err != nil {
		t.Fatalf("acked %d, %v", acked, errors.Join(err, <-sent))
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if len(got) != batches*records {
		t.Fatalf("got %d records", len(got))
	}
	for i, g := range got {
		if g != line(i, 100+i/records*10) {
			t.Fatalf("record %d reads %.40q", i, g)
		}
	}
}

// testCut resets the connection after the collector has read so many bytes.
// What counts as acknowledged, the collector must have taken over; or its
// kernel, which holds no more than its buffer beyond what was read.
func testCut(t *testing.T, p Protocol) {
	const batches, records = 3, 4
	size, step := 20<<10, int64(23<<10+7)
	if p.Confirms {
		size, step = 30, 97
	}
	total := int64(0)
	for cut := int64(0); p.Confirms || cut == 0 || cut <= total; cut += step {
		var mu sync.Mutex
		got := map[string]bool{}
		conn, tmpl := p.dial(t, func(peer *Peer) {
			p.receive(peer, cut, func(line string) { mu.Lock(); got[line] = true; mu.Unlock() })
		})
		ends := sendAll(t, conn, func(i int) []byte { return batch(conn, tmpl, i*records, records, size) }, batches)
		total = ends[batches-1]
		acked, err := p.ended(t, conn, batches)
		if err == nil && acked < batches {
			t.Fatalf("cut at %d: no error", cut)
		}
		_ = conn.Close()
		if !p.Confirms && acked > 0 && ends[acked-1] > cut+2*receiveBuffer {
			t.Errorf("cut at %d of %v: %d batches acknowledged", cut, ends, acked)
		}
		mu.Lock()
		for i := 0; p.Confirms && i < int(acked)*records; i++ {
			if !got[line(i, size)] {
				t.Errorf("cut at %d: %d batches acknowledged, record %d is missing", cut, acked, i)
			}
		}
		mu.Unlock()
		if p.Confirms && acked == batches {
			return // there is nothing behind it
		}
	}
}

// sendAll makes n batches, sends them until one cannot be sent, and returns
// where in the stream each ends.
func sendAll(t *testing.T, conn interface {
	Send(context.Context, []byte) error
}, mk func(i int) []byte, n int) []int64 {
	ends, end, failed := make([]int64, n), int64(0), false
	for i := range n {
		b := mk(i)
		end += int64(len(b))
		ends[i] = end
		failed = failed || conn.Send(t.Context(), b) != nil
	}
	return ends
}

// testReset has the collector take one batch into its kernel, leave the next
// one unread, and reset: what our kernel throws away then must not look like
// acknowledged.
func testReset(t *testing.T, p Protocol) {
	reset := make(chan struct{})
	conn, tmpl := p.dial(t, func(*Peer) { <-reset })
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 10)); err != nil {
		t.Fatal(err)
	}
	want := uint64(0)
	if !p.Confirms {
		want = 1
		if acked, err := Wait(t, conn, want); acked != want || err != nil {
			t.Fatalf("acked %d, %v", acked, err)
		}
	}
	if err := conn.Send(t.Context(), batch(conn, tmpl, 1, 1, 64<<10)); err != nil {
		t.Fatal(err)
	}
	close(reset)
	if acked, err := Wait(t, conn, 2); acked != want || err == nil {
		t.Errorf("acked %d, %v; want %d and an error", acked, err, want)
	}
	if acked, err := Wait(t, conn, 2); acked != want || err == nil {
		t.Errorf("again: acked %d, %v; want %d and an error", acked, err, want)
	}
}

func testSilent(t *testing.T, p Protocol) {
	conn, tmpl := p.impatient(t, 100*time.Millisecond)
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if acked, err := Wait(t, conn, 1); acked != 0 || err == nil {
		t.Errorf("acked %d, %v", acked, err)
	}
}

// impatient connects to a collector that never answers, by a sink that gives up after
// timeout: or after as much more as it needs to connect at all, on a machine that has
// no time for it.
func (p Protocol) impatient(t *testing.T, timeout time.Duration) (ship.Conn, ship.Template) {
	t.Helper()
	p.refuses = true // as of who has given up
	end := make(chan struct{})
	addr := p.listen(t, p.config(t), func(*Peer) { <-end })
	t.Cleanup(func() { close(end) })
	for ; ; timeout *= 2 {
		s := p.sink(t, addr, "timeout="+timeout.String())
		conn, err := s.Dial(t.Context())
		late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
		if late && timeout < 10*time.Second {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, s.Prepare(Meta())
	}
}

func testContext(t *testing.T, p Protocol) {
	for _, tc := range []struct {
		want error
		ctx  func() (context.Context, context.CancelFunc)
	}{
		{context.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 50*time.Millisecond)
		}},
		{context.Canceled, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}},
	} {
		t.Run(tc.want.Error(), func(t *testing.T) {
			end := make(chan struct{})
			defer close(end)
			conn, tmpl := p.dial(t, func(*Peer) { <-end })
			ctx, cancel := tc.ctx()
			defer cancel()
			if err := conn.Send(ctx, batch(conn, tmpl, 0, 1, 8<<20)); !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if acked, err := Wait(t, conn, 1); acked != 0 || err == nil {
				t.Errorf("after a torn batch: acked %d, %v", acked, err)
			}
		})
	}
}

func testWaitContext(t *testing.T, p Protocol) {
	conn, _ := p.dial(t, func(peer *Peer) { p.receive(peer, -1, func(string) {}) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if acked, err := conn.Wait(ctx, 0); acked != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acked %d, %v", acked, err)
	}
}

func testClose(t *testing.T, p Protocol) {
	end := make(chan struct{})
	defer close(end)
	conn, tmpl := p.dial(t, func(*Peer) { <-end })
	errs := make(chan error, 2)
	go func() {
		errs <- conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 8<<20))
	}()
	go func() {
		_, err := conn.Wait(t.Context(), 0)
		errs <- err
	}()
	time.AfterFunc(50*time.Millisecond, func() { _ = conn.Close() })
	for range 2 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want %v", err, net.ErrClosed)
		}
	}
	if err := conn.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func testIdleClose(t *testing.T, p Protocol) {
	conn, tmpl := p.dial(t, func(peer *Peer) { _ = peer.Close() })
	if acked, err := Wait(t, conn, 1); acked != 0 || err == nil {
		t.Errorf("acked %d, %v", acked, err)
	}
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 10)); err == nil {
		t.Error("send after that: no error")
	}
}

// testGarbage: where the peer has nothing to say, what it says is ignored.
func testGarbage(t *testing.T, p Protocol) {
	conn, tmpl := p.dial(t, func(peer *Peer) {
		_, _ = peer.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		p.receive(peer, -1, func(string) {})
	})
	err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 10))
	if p.Confirms {
		if acked, err := Wait(t, conn, 1); acked != 0 || err == nil {
			t.Errorf("acked %d, %v", acked, err)
		}
		return
	}
	if acked, waitErr := Wait(t, conn, 1); acked != 1 || err != nil || waitErr != nil {
		t.Errorf("acked %d, %v, %v", acked, err, waitErr)
	}
}

func testDial(t *testing.T, p Protocol) {
	addr := testport.Of(t)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.sink(t, addr).Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	_ = ln.Close()
	if _, err := p.sink(t, addr).Dial(t.Context()); err == nil {
		t.Error("nobody listens: no error")
	}
	limits := p.sink(t, addr).Limits()
	if limits.BatchBytes < 1 || limits.BatchRecords < 1 || limits.InFlight < 1 {
		t.Errorf("limits %+v", limits)
	}
}

func testAfterClose(t *testing.T, p Protocol) {
	conn, tmpl := p.dial(t, func(peer *Peer) { p.receive(peer, -1, func(string) {}) })
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Send(t.Context(), batch(conn, tmpl, 0, 1, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if acked, err := conn.Wait(t.Context(), 0); acked != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("wait: %d, %v", acked, err)
	}
}
