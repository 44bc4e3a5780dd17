package syslog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

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

func checkDatagram(t *wire.Target) error {
	if n := t.MaxMessage; n < minMessage || n > largestMessage {
		return &options.ValueError{What: wire.ParamKind, Key: "max-message", Value: t.Params["max-message"],
			Err: fmt.Errorf("not within %d to %d bytes", minMessage, largestMessage)}
	}
	return nil
}

// udpConn sends each message as a datagram. In a batch, each has its length
// before it. What it counts as acknowledged is what the kernel took; where the
// collector's host says that nobody listens, the connection ends.
type udpConn struct {
	conn    net.Conn
	ledger  *wire.Ledger // counts batches
	watched chan struct{}
	close   func() error
}

func (c *collector) dialUDP(ctx context.Context) (*udpConn, error) {
	conn, err := c.DialUDP(ctx)
	if err != nil {
		return nil, err
	}
	u := &udpConn{conn: conn, ledger: wire.NewLedger(c.Timeout), watched: make(chan struct{})}
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

// Append implements ship.Conn.
func (c *udpConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	start := len(dst)
	dst = t.Append(append(dst, 0, 0, 0, 0), r)
	// ship has seen to it that it is no longer than max-message, unless the name of
	// the host and the like take all of that.
	size := min(len(dst)-start-4, largestMessage)
	binary.BigEndian.PutUint32(dst[start:], uint32(size)) //nolint:gosec // bounded
	return dst[:start+4+size]
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
