package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// conn is the connections to one cluster's brokers, which one client keeps.
type conn struct {
	cluster *cluster
	link    *link
	client  *kgo.Client
	ledger  *wire.Ledger // counts records
	batches *wire.Handover[batch]
	refused wire.Refusals
	worker  sync.WaitGroup
	close   func() error

	// Owned by the goroutine that calls Append and Send.
	next *batch
	sent uint64 // batches

	done  uint64 // records that are taken or refused; owned by the worker, then by its promises
	known bool   // it was written to; owned by the worker
}

// queued is how many batches wait while another one is produced.
const queued = 1

func newConn(c *cluster) (*conn, error) {
	n := &conn{cluster: c, link: &link{target: c.Target, patience: c.Timeout}, ledger: wire.NewLedger(c.Timeout), next: new(batch)}
	n.batches = wire.NewHandover[batch](n.ledger, queued)
	if len(c.seeds) > 1 {
		n.link.patience = min(max(c.Timeout/6, leastPatience), onePatience)
	}
	var err error
	if n.client, err = c.newClient(n.link); err != nil {
		return nil, err
	}
	n.close = sync.OnceValue(n.shut)
	return n, nil
}

func (c *conn) start() { c.worker.Go(c.work) }

// batch is what Send was given, until it is acknowledged.
type batch struct {
	number  uint64 // since Dial, from 1
	text    []byte // the values, one behind the other
	end     int    // of those that are appended
	notes   []byte // what headers and keys are made of
	headers []kgo.RecordHeader
	entries []entry
	records []kgo.Record // of the entries
}

// entry is one record of a batch.
type entry struct {
	template *template
	offset   uint64
	time     time.Time
	id       []byte
	from, to int // where its value is in the text
	first    int // of its headers
	place    int
}

// note returns what was noted from there on.
func (b *batch) note(from int) []byte { return b.notes[from:len(b.notes):len(b.notes)] }

func (b *batch) reset() {
	b.notes, b.headers, b.entries, b.end = b.notes[:0], b.headers[:0], b.entries[:0], 0
}

// Append implements ship.Conn.
func (c *conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	b, tmpl := c.next, t.(*template)
	if len(dst) < b.end {
		b.reset() // what was appended was not sent
	}
	e := entry{template: tmpl, offset: r.Offset, time: stampOf(r), from: len(dst), first: len(b.headers), place: tmpl.place}
	dst = tmpl.Append(dst, r)
	e.to, b.end = len(dst), len(dst)
	e.id = tmpl.appendID(b, r)
	tmpl.appendHeaders(b, e.id, r)
	b.entries = append(b.entries, e)
	return dst
}

// seal makes the batch's messages.
func (b *batch) seal(text []byte) {
	b.text = append(b.text[:0], text...)
	b.records = b.records[:0]
	for i := range b.entries {
		e, last := &b.entries[i], len(b.headers)
		if i+1 < len(b.entries) {
			last = b.entries[i+1].first
		}
		b.records = append(b.records, kgo.Record{
			Topic: e.template.topic, Key: e.template.keyOr(e.id), Value: b.text[e.from:e.to:e.to], Headers: b.headers[e.first:last:last], Timestamp: e.time,
		})
	}
}

// Send implements ship.Conn: it hands the batch to the worker. ship has no more
// under way than that has room for.
func (c *conn) Send(ctx context.Context, text []byte) error {
	b := c.next
	if err := c.ledger.Begin(uint64(len(b.entries))); err != nil {
		return err
	}
	b.seal(text)
	c.sent++
	b.number = c.sent
	c.next = c.batches.Spare()
	c.next.reset()
	return c.batches.Put(ctx, b)
}

// work produces batches until the connection ends.
func (c *conn) work() {
	for b := c.batches.Next(); b != nil; b = c.batches.Next() {
		if err := c.deliver(b); err != nil {
			c.batches.Fail(c.link.explain(err))
			return
		}
		c.batches.Keep(b, cap(b.text))
	}
}

// Wait implements ship.Conn.
func (c *conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	acked, err := c.ledger.Wait(ctx, seen, nil)
	c.refused.Tell(acked)
	var stalled *wire.StalledError
	if why := c.link.refused.Load(); why != nil && errors.As(err, &stalled) {
		err = fmt.Errorf("%w, and one of its brokers is not reached: %w", stalled, *why)
	}
	return acked, err
}

// Refused implements ship.Refuser.
func (c *conn) Refused() []ship.Refusal { return c.refused.Refused() }

// Close implements ship.Conn. What is under way is given up; brokers may take it
// all the same.
func (c *conn) Close() error { return c.close() }

func (c *conn) shut() error {
	c.batches.Fail(net.ErrClosed)
	c.client.Close()
	c.worker.Wait()
	return nil
}
