package gelf

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Words of the parameter compress.
const (
	none     = "none"
	withGzip = "gzip"
	withZlib = "zlib"
)

// A chunk begins with two bytes of magic, the message's id, its own number and how
// many there are.
const (
	chunkHead = 2 + 8 + 1 + 1
	maxChunks = 128
)

// deflater compresses messages one by one.
type deflater interface {
	Write(p []byte) (int, error)
	Close() error
	Reset(to *bytes.Buffer)
}

type gzipper struct{ *gzip.Writer }

func (g gzipper) Reset(to *bytes.Buffer) { g.Writer.Reset(to) }

type zlibber struct{ *zlib.Writer }

func (z zlibber) Reset(to *bytes.Buffer) { z.Writer.Reset(to) }

// udpConn sends each message as a datagram, or in chunks.
type udpConn struct {
	*wire.Datagrams
	max     int
	deflate deflater // nil for none
	refused wire.Refusals

	// Owned by the goroutine that calls Append and Send.
	next   uint64 // id of the next message in chunks
	batch  uint64 // number of the one that is being made, from 1
	plain  []byte // scratch for a message
	packed bytes.Buffer
}

func (c *collector) dialUDP(ctx context.Context) (*udpConn, error) {
	d, err := c.DialDatagrams(ctx)
	if err != nil {
		return nil, err
	}
	u := &udpConn{Datagrams: d, max: c.datagram, batch: 1}
	switch c.compress {
	case withGzip:
		w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is a valid one
		u.deflate = gzipper{w}
	case withZlib:
		w, _ := zlib.NewWriterLevel(io.Discard, zlib.BestSpeed)
		u.deflate = zlibber{w}
	}
	// Receivers tell the chunks of all senders apart by id alone.
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	u.next = binary.BigEndian.Uint64(id[:])
	return u, nil
}

// Append implements ship.Conn.
func (c *udpConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	message := c.message(t, r)
	if len(message) <= c.max {
		start := len(dst)
		return wire.EndDatagram(append(wire.BeginDatagram(dst), message...), start)
	}
	if room := c.max - chunkHead; len(message) <= room*maxChunks {
		return c.appendChunks(dst, message, room)
	}
	c.refuse(t, r, len(message))
	return dst
}

// message returns a record's message, which is valid until the next.
func (c *udpConn) message(t ship.Template, r *ship.Record) []byte {
	c.plain = t.Append(c.plain[:0], r)
	if c.deflate == nil {
		return c.plain
	}
	c.packed.Reset()
	c.deflate.Reset(&c.packed)
	_, _ = c.deflate.Write(c.plain) // a buffer takes everything
	_ = c.deflate.Close()
	return c.packed.Bytes()
}

func (c *udpConn) appendChunks(dst, message []byte, room int) []byte {
	count := (len(message) + room - 1) / room
	for i := range count {
		start := len(dst)
		dst = append(wire.BeginDatagram(dst), 0x1e, 0x0f)
		dst = binary.BigEndian.AppendUint64(dst, c.next)
		dst = append(dst, byte(i), byte(count)) //nolint:gosec // at most maxChunks
		dst = wire.EndDatagram(append(dst, message[:min(room, len(message))]...), start)
		message = message[min(room, len(message)):]
	}
	c.next++
	return dst
}

// refuse is for a record that has too much beside its line.
func (c *udpConn) refuse(t ship.Template, r *ship.Record, size int) {
	refusal := ship.Refusal{
		Records: 1, Class: "too-large", Encoded: wire.Kept(c.plain),
		Reason: fmt.Sprintf("a message of %d bytes, more than %d chunks of %d bytes: it is what goes with the line that is so large", size, maxChunks, c.max),
	}
	if own, ok := t.(*template); ok {
		refusal.ID, refusal.Container = own.stream+"-"+string(stamp.AppendOffset(nil, r.Offset)), own.container
	}
	c.refused.Add(c.batch, refusal)
}

// Send implements ship.Conn.
func (c *udpConn) Send(ctx context.Context, batch []byte) error {
	c.batch++
	return c.Datagrams.Send(ctx, batch)
}

// Wait implements ship.Conn.
func (c *udpConn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	acked, err := c.Datagrams.Wait(ctx, seen)
	c.refused.Tell(acked)
	return acked, err
}

// Refused implements ship.Refuser.
func (c *udpConn) Refused() []ship.Refusal { return c.refused.Refused() }
