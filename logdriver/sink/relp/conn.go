package relp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// closeGrace is for how long Close waits for the server's goodbye.
const closeGrace = time.Second

// conn is one session.
type conn struct {
	link     net.Conn
	frames   *frameReader // owned by Dial, then by listen
	window   window       // owned by listen
	ledger   *wire.Ledger // counts frames
	listened chan struct{}
	close    func() error

	// Owned by the goroutine that calls Append and Send.
	appended uint64 // frames appended since Dial
	sent     uint64 // of these, the ones that were sent

	writing sync.Mutex // held while a frame is being written
	torn    bool       // guarded by writing: a batch was written in part
	next    uint32     // guarded by writing: txnr behind the last one sent
}

func newConn(link net.Conn, timeout time.Duration) *conn {
	c := &conn{
		link: link, frames: newFrameReader(link), ledger: wire.NewLedger(timeout),
		listened: make(chan struct{}), next: txnr(0),
	}
	c.close = sync.OnceValue(c.shut)
	return c
}

// open exchanges offers with the server.
func (c *conn) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.link.SetReadDeadline(time.Unix(1, 0)) })
	err := c.exchange(ctx)
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

func (c *conn) exchange(ctx context.Context) error {
	if err := wire.WriteAll(ctx, c.link, appendFrame(nil, openTxnr, cmdOpen, offers)); err != nil {
		return wire.Reason(c.link, err)
	}
	f, err := c.frames.next()
	if err != nil {
		return fmt.Errorf("read offers: %w", err)
	}
	if f.command == cmdServerClose {
		return ErrServerClosed
	}
	if f.command != cmdResponse || f.txnr != openTxnr {
		return fmt.Errorf("%w: %d %s instead of the answer to open", ErrFrame, f.txnr, f.command)
	}
	data, err := parseResponse(f)
	if err != nil {
		return err
	}
	return checkOffers(data)
}

// Append implements ship.Conn: TXNR SP "syslog" SP DATALEN SP DATA LF.
func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	dst = strconv.AppendUint(dst, uint64(txnr(c.appended)), 10)
	c.appended++
	dst = wire.AppendCounted(append(dst, " syslog "...), t, r)
	return append(dst, '\n')
}

// Send implements ship.Conn.
func (c *conn) Send(ctx context.Context, batch []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.ledger.Begin(c.appended - c.sent); err != nil {
		return err
	}
	if err := wire.WriteAll(ctx, c.link, batch); err != nil {
		c.torn = true
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return c.ledger.FailAfter(err, c.link, c.listened)
		}
		c.ledger.Fail(err)
		return err
	}
	c.sent, c.next = c.appended, txnr(c.appended)
	return c.ledger.Commit()
}

// Wait implements ship.Conn.
func (c *conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return c.ledger.Wait(ctx, seen, nil)
}

// listen reads the server's answers until the connection ends.
func (c *conn) listen() {
	defer close(c.listened)
	for {
		if err := c.answer(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return // FailAfter has something to say, or Close
			}
			c.ledger.Fail(fmt.Errorf("listen to RELP server: %w", err))
			return
		}
	}
}

// answer reads one frame of the server.
func (c *conn) answer() error {
	f, err := c.frames.next()
	if errors.Is(err, io.EOF) {
		return wire.ErrPeerClosed
	}
	if err != nil {
		return err
	}
	switch f.command {
	case cmdServerClose:
		return ErrServerClosed
	case cmdResponse:
		return c.acknowledge(f)
	}
	// Servers may only answer and give hints, and the only hint is serverclose.
	return fmt.Errorf("%w: command %q from a server", ErrFrame, f.command)
}

func (c *conn) acknowledge(f frame) error {
	_, sent := c.ledger.Outstanding()
	if err := c.window.check(f.txnr, sent); err != nil {
		return c.unexpected(f, err)
	}
	if _, err := parseResponse(f); err != nil {
		return err
	}
	c.ledger.Advance(c.window.take(f.txnr))
	return nil
}

// unexpected accepts the answer to our close, which has no data.
func (c *conn) unexpected(f frame, err error) error {
	if errors.Is(c.ledger.Err(), net.ErrClosed) && len(f.data) == 0 {
		return nil
	}
	return err
}

// Close implements ship.Conn: it ends the session in order where it can.
func (c *conn) Close() error { return c.close() }

func (c *conn) shut() error {
	whole := c.ledger.Err() == nil
	c.ledger.Fail(net.ErrClosed)
	if whole && c.goodbye() {
		<-c.listened
	}
	err := c.link.Close()
	<-c.listened
	return err
}

// goodbye sends the close frame, unless another frame is just being written,
// and gives the server a moment to end the session.
func (c *conn) goodbye() bool {
	if !c.writing.TryLock() {
		return false
	}
	defer c.writing.Unlock()
	deadline := time.Now().Add(closeGrace)
	if c.torn || c.link.SetDeadline(deadline) != nil {
		return false
	}
	_, err := c.link.Write(appendFrame(nil, c.next, cmdClose, ""))
	return err == nil
}
