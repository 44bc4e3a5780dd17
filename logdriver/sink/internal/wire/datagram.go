package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// LargestDatagram is what one holds at most, over IPv4.
const LargestDatagram = 65507

// datagramHead is the length before each datagram in a batch.
const datagramHead = 4

// Datagrams is a socket for a protocol whose messages are datagrams. What it
// counts as acknowledged is what the kernel took; where the collector's host says
// that nobody listens, the connection ends.
type Datagrams struct {
	conn    net.Conn
	ledger  *Ledger // counts batches
	watched chan struct{}
	close   func() error
}

// DialDatagrams is Dial for such a protocol.
func (t *Target) DialDatagrams(ctx context.Context) (*Datagrams, error) {
	conn, err := t.DialUDP(ctx)
	if err != nil {
		return nil, err
	}
	d := &Datagrams{conn: conn, ledger: NewLedger(t.Timeout), watched: make(chan struct{})}
	d.close = sync.OnceValue(d.shut)
	go d.watch()
	return d, nil
}

// BeginDatagram appends room for the length of a datagram that is to be appended
// next; EndDatagram is given where that was.
func BeginDatagram(dst []byte) []byte { return append(dst, make([]byte, datagramHead)...) }

// EndDatagram fills it in, and cuts off what is more than a datagram can hold.
func EndDatagram(dst []byte, start int) []byte {
	size := min(len(dst)-start-datagramHead, LargestDatagram)
	binary.BigEndian.PutUint32(dst[start:], uint32(size)) //nolint:gosec // bounded
	return dst[:start+datagramHead+size]
}

// watch waits for ICMP's word that nobody listens.
func (d *Datagrams) watch() {
	defer close(d.watched)
	var ignored [512]byte
	for {
		if _, err := d.conn.Read(ignored[:]); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				d.ledger.Fail(fmt.Errorf("watch collector: %w", err))
			}
			return
		}
	}
}

// Send is ship.Conn's Send, of datagrams that each have their length before them.
func (d *Datagrams) Send(ctx context.Context, batch []byte) error {
	if err := d.ledger.Begin(1); err != nil {
		return err
	}
	if err := Until(ctx, d.conn, func() error { return d.write(batch) }); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return d.ledger.FailAfter(err, d.conn, d.watched)
		}
		d.ledger.Fail(err)
		return err
	}
	_, begun := d.ledger.Outstanding()
	if err := d.ledger.Commit(); err != nil {
		return err
	}
	d.ledger.Advance(begun)
	return nil
}

func (d *Datagrams) write(batch []byte) error {
	for len(batch) > 0 {
		end := datagramHead + binary.BigEndian.Uint32(batch)
		if _, err := d.conn.Write(batch[datagramHead:end]); err != nil {
			return err
		}
		batch = batch[end:]
	}
	return nil
}

// Wait is ship.Conn's Wait.
func (d *Datagrams) Wait(ctx context.Context, seen uint64) (uint64, error) {
	return d.ledger.Wait(ctx, seen, nil)
}

// Close is ship.Conn's Close.
func (d *Datagrams) Close() error { return d.close() }

func (d *Datagrams) shut() error {
	d.ledger.Fail(net.ErrClosed)
	err := d.conn.Close()
	<-d.watched
	return err
}
