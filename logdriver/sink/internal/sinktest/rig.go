package sinktest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink"
)

// New makes a sink of a collector's URL.
type New func(*url.URL, sink.Host) (ship.Sink, error)

// Open makes a sink that the test needs.
func Open(t *testing.T, newSink New, host sink.Host, collector string) ship.Sink {
	t.Helper()
	u, err := url.Parse(collector)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSink(u, host)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Connect connects a sink until the test ends.
func Connect(t *testing.T, s ship.Sink) ship.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Wait waits until want batches are acknowledged, or for the error.
func Wait(t *testing.T, conn ship.Conn, want uint64) (acked uint64, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for acked < want && err == nil {
		acked, err = conn.Wait(ctx, acked)
	}
	if ctx.Err() != nil {
		t.Fatalf("nothing comes of waiting: acked %d, %v", acked, err)
	}
	return acked, err
}

// Idle returns an address at which connections are taken by the kernel, and no more.
func Idle(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// Serve returns an address at which serve talks to those who connect, one after the
// other. The test ends after it.
func Serve(t *testing.T, serve func(c net.Conn, br *bufio.Reader)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serve(c, bufio.NewReader(c))
			_ = c.Close()
		}
	}()
	return ln.Addr().String()
}

// Receiver is a socket that is sent datagrams.
type Receiver struct {
	t    *testing.T
	conn net.PacketConn
	buf  [65536]byte
}

// Receive connects a sink to a receiver, by a URL of scheme and params.
func Receive(t *testing.T, newSink New, scheme, params string) (*Receiver, ship.Sink, ship.Conn) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := Open(t, newSink, Host(), scheme+"://"+conn.LocalAddr().String()+params)
	return &Receiver{t: t, conn: conn}, s, Connect(t, s)
}

// Next returns the next datagram. It is overwritten by the one behind it.
func (r *Receiver) Next() []byte {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	n, _, err := r.conn.ReadFrom(r.buf[:])
	if err != nil {
		r.t.Fatal(err)
	}
	return r.buf[:n]
}

// RunDatagrams runs what every sink has to pass that sends datagrams.
func RunDatagrams(t *testing.T, newSink New, scheme string) {
	for name, run := range map[string]func(*testing.T, *Receiver, ship.Sink, ship.Conn){
		"nobody listens": nobodyListens, "close": datagramClose,
	} {
		t.Run(name, func(t *testing.T) {
			r, s, conn := Receive(t, newSink, scheme, "")
			run(t, r, s, conn)
		})
	}
}

func nobodyListens(t *testing.T, r *Receiver, s ship.Sink, conn ship.Conn) {
	_ = r.conn.Close()
	dst := conn.Append(nil, s.Prepare(Meta()), &ship.Record{})
	if err := conn.Send(t.Context(), dst); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := conn.Wait(ctx, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	if err := conn.Send(t.Context(), dst); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("again: %v", err)
	}
}

func datagramClose(t *testing.T, _ *Receiver, s ship.Sink, conn ship.Conn) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dst := conn.Append(nil, s.Prepare(Meta()), &ship.Record{})
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Send(ctx, dst); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if _, err := conn.Wait(t.Context(), 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if _, err := s.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v", err)
	}
}
