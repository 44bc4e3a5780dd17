package syslog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"unicode/utf8"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Bounds of max-message, in bytes. Receivers should take 2048 (RFC 5426 section
// 3.2); no datagram holds more than the largest.
const (
	standardMessage = 2048
	minMessage      = 1024
	largestMessage  = 65507
)

const (
	// markRoom is left for the mark of a piece.
	markRoom = 16
	// minPiece is how much of a line a piece has at least, however much there is
	// before it.
	minPiece = 64
)

func maxMessage(t *wire.Target) (int, error) {
	n, err := t.Size("max-message", standardMessage)
	if err == nil && (n < minMessage || n > largestMessage) {
		err = &options.ValueError{What: wire.ParamKind, Key: "max-message", Value: t.Params["max-message"],
			Err: fmt.Errorf("not within %d to %d bytes", minMessage, largestMessage)}
	}
	return n, err
}

// udpConn sends each message as a datagram. In a batch, each has its length
// before it. What it counts as acknowledged is what the kernel took; where the
// collector's host says that nobody listens, the connection ends.
type udpConn struct {
	conn    net.Conn
	max     int
	ledger  *wire.Ledger // counts batches
	watched chan struct{}
	close   func() error
}

func (c *collector) dialUDP(ctx context.Context) (*udpConn, error) {
	conn, err := c.DialUDP(ctx)
	if err != nil {
		return nil, err
	}
	u := &udpConn{conn: conn, max: c.datagram, ledger: wire.NewLedger(c.Timeout), watched: make(chan struct{})}
	u.close = sync.OnceValue(u.shut)
	go u.watch()
	return u, nil
}

// watch waits for ICMP's word that nobody listens.
func (c *udpConn) watch() {
	defer close(c.watched)
	var ignored [512]byte
	for {
		if _, err := c.conn.Read(ignored[:]); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.ledger.Fail(fmt.Errorf("watch collector: %w", err))
			}
			return
		}
	}
}

// Append implements ship.Conn: what makes too long a datagram is sent in pieces,
// with ids of their own, as ship does with lines that are too long.
func (c *udpConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	start := len(dst)
	dst, size := appendDatagram(dst, t, r)
	if size <= c.max {
		return dst
	}
	room := max(c.max-(size-len(r.Line))-markRoom, minPiece)
	dst = dst[:start]
	whole := *r
	for len(r.Line) > room {
		line, n := r.Line, runeEnd(r.Line, room)
		r.Line, r.Cut = line[:n], true
		dst, _ = appendDatagram(dst, t, r)
		r.Line, r.Offset = line[n:], r.Offset+uint64(n)
	}
	r.Cut = whole.Cut
	dst, _ = appendDatagram(dst, t, r)
	*r = whole
	return dst
}

// runeEnd returns where to cut s, at most at n, so that no rune is divided.
func runeEnd(s []byte, n int) int {
	for at := n; at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(s[at]) {
			return at
		}
	}
	return n
}

func appendDatagram(dst []byte, t ship.Template, r *ship.Record) (out []byte, size int) {
	start := len(dst)
	dst = t.Append(append(dst, 0, 0, 0, 0), r)
	size = len(dst) - start - 4
	// More than a datagram can hold is only ever there with attributes of that size.
	taken := min(size, largestMessage)
	binary.BigEndian.PutUint32(dst[start:], uint32(taken))
	return dst[:start+4+taken], size
}

// Send implements ship.Conn.
func (c *udpConn) Send(ctx context.Context, batch []byte) error {
	if err := c.ledger.Begin(1); err != nil {
		return err
	}
	if err := wire.Until(ctx, c.conn, func() error { return c.write(batch) }); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return c.ledger.FailAfter(err, c.conn, c.watched)
		}
		c.ledger.Fail(err)
		return err
	}
	_, begun := c.ledger.Outstanding()
	if err := c.ledger.Commit(); err != nil {
		return err
	}
	c.ledger.Advance(begun)
	return nil
}

func (c *udpConn) write(batch []byte) error {
	for len(batch) > 0 {
		end := 4 + binary.BigEndian.Uint32(batch)
		if _, err := c.conn.Write(batch[4:end]); err != nil {
			return err
		}
		batch = batch[end:]
	}
	return nil
}

// Wait implements ship.Conn.
func (c *udpConn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return c.ledger.Wait(ctx, seen, nil)
}

// Close implements ship.Conn.
func (c *udpConn) Close() error { return c.close() }

func (c *udpConn) shut() error {
	c.ledger.Fail(net.ErrClosed)
	err := c.conn.Close()
	<-c.watched
	return err
}
