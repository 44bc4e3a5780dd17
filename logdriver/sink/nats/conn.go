package nats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const inBuffer = 64 << 10

// conn is a connection to one server.
type conn struct {
	cluster   *cluster
	link      net.Conn
	in        *bufio.Reader // owned by Dial, then by listen
	window    wire.Window   // owned by listen
	holed     bool          // later messages are acknowledged, and hole is not; owned by listen
	hole      uint64        // owned by listen
	since     time.Time     // when that became so; owned by listen
	info      *info
	pieces    int      // for which size of a message records are cut, as Limits said at first
	shown     []string // secrets that the server was shown, and may repeat
	inbox     string   // the subject of acknowledgements, up to the message's number
	ledger    *wire.Ledger
	listened  chan struct{}
	pings     chan struct{} // the server waits for a PONG; closed by listen
	answering sync.WaitGroup
	refused   wire.Refusals
	largest   atomic.Int64 // message so far
	close     func() error

	// Owned by the goroutine that calls Append and Send.
	appended uint64 // messages appended since Dial
	sent     uint64 // of these, the ones that were sent
	batch    uint64 // number of the one that is being made, from 1
	scratch  []byte

	writing sync.Mutex // held while a batch or a PONG is being written
}

// Append implements ship.Conn:
//
//	HPUB subject inbox.number header-length length CR LF headers payload CR LF
//
// ship has seen to it that a message is no larger than the server takes, unless
// what goes with all records takes all of that.
func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	own := t.(*template) //nolint:forcetypeassert // Prepare makes no others
	// Pieces that were cut for another size are others, though they have its number.
	own.piece = 0
	if r.Piece {
		own.piece = c.pieces
	}
	c.scratch = own.Append(c.scratch[:0], r)
	own.piece = 0
	if len(c.scratch) > c.info.MaxPayload {
		c.refuse(own, r)
		return dst
	}
	if size := int64(len(c.scratch)); size > c.largest.Load() {
		c.largest.Store(size)
	}
	dst = append(append(append(dst, "HPUB "...), own.subject...), ' ')
	dst = strconv.AppendUint(append(dst, c.inbox...), c.appended, 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(own.head), 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(len(c.scratch)), 10)
	dst = append(append(append(dst, "\r\n"...), c.scratch...), "\r\n"...)
	c.appended++
	return dst
}

// refuse is for a record that has too much beside its line.
func (c *conn) refuse(t *template, r *ship.Record) {
	c.refused.Add(c.batch, ship.Refusal{
		ID: t.stream + "-" + string(stamp.AppendOffset(nil, r.Offset)), Container: t.container, Records: 1, Class: "too-large",
		Reason:  fmt.Sprintf("a message of %d bytes, and %d are taken: it is what goes with the line that is so large", len(c.scratch), c.info.MaxPayload),
		Encoded: wire.Kept(c.scratch),
	})
}

// Send implements ship.Conn.
func (c *conn) Send(ctx context.Context, batch []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.batch++
	if err := c.ledger.Begin(c.appended - c.sent); err != nil {
		return err
	}
	if err := wire.WriteAll(ctx, c.link, batch); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return c.ledger.FailAfter(err, c.link, c.listened)
		}
		c.ledger.Fail(err)
		return err
	}
	c.sent = c.appended
	return c.ledger.Commit()
}

// Wait implements ship.Conn.
func (c *conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	acked, err := c.ledger.Wait(ctx, seen, nil)
	c.refused.Tell(acked)
	return acked, err
}

// Refused implements ship.Refuser.
func (c *conn) Refused() []ship.Refusal { return c.refused.Refused() }

// answerPings is a goroutine of its own, so that whoever reads never waits for
// whoever writes: the server may wait for us to read.
func (c *conn) answerPings() {
	for range c.pings {
		c.writing.Lock()
		err := c.ledger.Err()
		if err == nil {
			_ = c.link.SetWriteDeadline(time.Now().Add(c.cluster.Timeout))
			if _, err = c.link.Write([]byte("PONG\r\n")); err != nil {
				c.ledger.Fail(fmt.Errorf("answer the server's ping: %w", err))
			}
		}
		c.writing.Unlock()
	}
}

// listen reads what the server says until the connection ends.
func (c *conn) listen() {
	defer close(c.listened)
	defer close(c.pings)
	for {
		if err := c.hear(); err != nil {
			if errors.Is(err, io.EOF) {
				err = wire.ErrPeerClosed
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) { // FailAfter has something to say
				c.ledger.Fail(fmt.Errorf("listen to NATS server: %w", err))
			}
			return
		}
	}
}

// Close implements ship.Conn.
func (c *conn) Close() error { return c.close() }

func (c *conn) shut() error {
	c.ledger.Fail(net.ErrClosed)
	err := c.link.Close()
	<-c.listened
	c.answering.Wait()
	return err
}
