package forward

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/tinylib/msgp/msgp"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// A chunk's id is 16 bytes: those of the connection, and the message's number.
const (
	idBytes = 16
	idText  = 24 // in base64, as the specification has it
)

// conn is one connection.
type conn struct {
	link     net.Conn
	replies  replies      // owned by Dial, then by listen
	window   wire.Window  // owned by listen
	ledger   *wire.Ledger // counts messages
	listened chan struct{}
	close    func() error
	prefix   [idBytes / 2]byte

	// Owned by the goroutine that calls Append and Send.
	parts []part // of the batch
	next  uint64 // number of the next message
	out   []byte
	zip   *gzip.Writer // nil where nothing is compressed
}

// part is what of a batch becomes one message: entries with the same tag.
type part struct {
	tag     string
	bytes   int
	records int
}

func newConn(link net.Conn, timeout time.Duration, compress bool) (*conn, error) {
	c := &conn{link: link, replies: replies{r: link}, ledger: wire.NewLedger(timeout), listened: make(chan struct{})}
	c.close = sync.OnceValue(c.shut)
	_, _ = rand.Read(c.prefix[:]) // never an error
	if compress {
		var err error
		if c.zip, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Append implements ship.Conn. What stands around the entries is for Send.
func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	tmpl := t.(*template)
	before := len(dst)
	dst = tmpl.Append(dst, r)
	if n := len(c.parts); n == 0 || c.parts[n-1].tag != tmpl.tag {
		c.parts = append(c.parts, part{tag: tmpl.tag})
	}
	last := &c.parts[len(c.parts)-1]
	last.bytes += len(dst) - before
	last.records++
	return dst
}

// Send implements ship.Conn.
func (c *conn) Send(ctx context.Context, batch []byte) error {
	parts := c.parts
	c.parts, c.out = c.parts[:0], c.out[:0]
	for _, p := range parts {
		if err := c.message(p, batch[:p.bytes]); err != nil {
			return err
		}
		batch = batch[p.bytes:]
	}
	if err := c.ledger.Begin(uint64(len(parts))); err != nil {
		return err
	}
	if err := wire.WriteAll(ctx, c.link, c.out); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return c.ledger.FailAfter(err, c.link, c.listened)
		}
		c.ledger.Fail(err)
		return err
	}
	return c.ledger.Commit()
}

// message appends one to what is sent: [tag, entries, options].
func (c *conn) message(p part, entries []byte) error {
	c.out = msgp.AppendArrayHeader(c.out, 3)
	c.out = msgp.AppendString(c.out, p.tag)
	options := uint32(2)
	if c.zip == nil {
		c.out = msgp.AppendBytes(c.out, entries)
	} else {
		if err := c.compress(entries); err != nil {
			return err
		}
		options++
	}
	c.out = msgp.AppendMapHeader(c.out, options)
	c.out = msgp.AppendInt(msgp.AppendString(c.out, "size"), p.records)
	c.out = c.appendID(msgp.AppendString(c.out, "chunk"), c.next)
	c.next++
	if c.zip != nil {
		c.out = msgp.AppendString(msgp.AppendString(c.out, "compressed"), "gzip")
	}
	return nil
}

// binHeader is how long the header of a bin is that may be of any length.
const binHeader = 5

// compress appends entries as one bin of gzip.
func (c *conn) compress(entries []byte) error {
	c.out = append(c.out, 0xc6, 0, 0, 0, 0) // bin 32
	start := len(c.out)
	c.zip.Reset((*appender)(&c.out))
	_, err := c.zip.Write(entries)
	if err = errors.Join(err, c.zip.Close()); err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	binary.BigEndian.PutUint32(c.out[start-binHeader+1:], uint32(len(c.out)-start))
	return nil
}

// appender is a slice to write to.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// appendID appends the id of message n.
func (c *conn) appendID(dst []byte, n uint64) []byte {
	var id [idBytes]byte
	copy(id[:], c.prefix[:])
	binary.BigEndian.PutUint64(id[len(c.prefix):], n)
	dst = append(dst, 0xa0|idText) // a string of that length
	return base64.StdEncoding.AppendEncode(dst, id[:])
}

// Wait implements ship.Conn.
func (c *conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return c.ledger.Wait(ctx, seen, nil)
}

// listen reads the server's acknowledgements until the connection ends.
func (c *conn) listen() {
	defer close(c.listened)
	for {
		if err := c.answer(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return // FailAfter has something to say
			}
			c.ledger.Fail(fmt.Errorf("listen to Forward server: %w", err))
			return
		}
	}
}

// answer reads one reply.
func (c *conn) answer() error {
	object, err := c.replies.next()
	if errors.Is(err, io.EOF) {
		return wire.ErrPeerClosed
	}
	if err != nil {
		return err
	}
	if kind, _, err := parseArray(object); err == nil && kind == kindHello {
		return ErrKeyWanted
	}
	id, err := parseAck(object)
	if err != nil {
		return err
	}
	var raw [idBytes + 2]byte // DecodedLen counts what pads it
	n, err := base64.StdEncoding.Decode(raw[:], id[:min(len(id), idText)])
	if err != nil || n != idBytes || len(id) != idText || [idBytes / 2]byte(raw[:idBytes/2]) != c.prefix {
		return fmt.Errorf("%w: acknowledges chunk %.40q, which is none of ours", ErrReply, id)
	}
	number := binary.BigEndian.Uint64(raw[idBytes/2 : idBytes])
	if _, sent := c.ledger.Outstanding(); !c.window.Waiting(number, sent) {
		return fmt.Errorf("%w: acknowledges chunk %d, which waits for nothing", ErrReply, number)
	}
	c.ledger.Advance(c.window.Take(number))
	return nil
}

// Close implements ship.Conn.
func (c *conn) Close() error { return c.close() }

func (c *conn) shut() error {
	c.ledger.Fail(net.ErrClosed)
	err := c.link.Close()
	<-c.listened
	return err
}
