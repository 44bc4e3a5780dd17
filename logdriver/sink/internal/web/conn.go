package web

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// Conn is some connections to one collector, and the requests on them.
type Conn struct {
	collector *Collector
	client    *http.Client
	transport *http.Transport
	header    http.Header
	ledger    *wire.Ledger // counts batches; the requests see to what takes too long
	batches   *wire.Handover[batch]
	refused   wire.Refusals
	workers   sync.WaitGroup
	carrier   Carrier // nil: HTTP/1.1, by the client
	order     order
	close     func() error
	distrust  atomic.Pointer[wire.TLSError] // what a link noted first

	// Owned by the goroutine that calls Append and Send.
	next *batch
	sent uint64

	mu     sync.Mutex // guards what follows
	first  net.Conn   // the one that Dial opened, until it is used
	window wire.Window
}

func newConn(c *Collector, auth string, first net.Conn) *Conn {
	n := &Conn{
		collector: c, first: first, next: new(batch), ledger: wire.NewLedger(math.MaxInt64),
		header: c.Header.Clone(),
	}
	n.batches = wire.NewHandover[batch](n.ledger, c.connections+1)
	n.header.Set("Content-Type", c.Format.Type())
	n.header.Set("User-Agent", "dockline-log")
	if c.encoding != "" && !c.spec.Packed {
		n.header.Set("Content-Encoding", c.encoding)
	}
	if auth != "" {
		n.header.Set("Authorization", auth)
	}
	n.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx) },
		DisableCompression: true, MaxConnsPerHost: c.connections, MaxIdleConnsPerHost: c.connections,
		MaxResponseHeaderBytes: maxHeaders, WriteBufferSize: sendBuffer, ReadBufferSize: sendBuffer / 4,
	}
	n.client = &http.Client{
		Transport:     n.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if c.Carry != nil {
		n.carrier = c.Carry(n.header, n.dial)
	}
	n.close = sync.OnceValue(n.shut)
	for range c.connections {
		n.workers.Go(n.work)
	}
	return n
}

func (c *Conn) hide(said string) string { return Hide(said, c.header, c.collector.path) }

// dial gives out the connection that there is, then new ones.
func (c *Conn) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	first := c.first
	c.first = nil
	c.mu.Unlock()
	if first != nil {
		return link{first, c}, nil
	}
	conn, err := c.collector.Target.Dial(ctx)
	if err != nil {
		return nil, dialError{err}
	}
	return link{conn, c}, nil
}

// link is a connection that notes what is wrong with our certificates, or the
// collector's: which of reading and writing finds out is a matter of chance, and
// HTTP tells of one of them only.
type link struct {
	net.Conn
	owner *Conn
}

func (l link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.owner.note(err)
	return n, err
}

func (l link) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		err = wire.Reason(l.Conn, err)
		l.owner.note(err)
	}
	return n, err
}

func (c *Conn) note(err error) {
	var told *wire.TLSError
	if errors.As(err, &told) {
		c.distrust.CompareAndSwap(nil, told)
	}
}

// Append implements ship.Conn.
func (c *Conn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	if len(dst) == 0 {
		c.next.records = c.next.records[:0]
	}
	from := len(dst)
	dst = t.Append(dst, r)
	c.next.add(t.(Template), r, from, len(dst))
	return dst
}

// Send implements ship.Conn: it hands the batch to the next request. ship has no
// more under way than the queue has room for.
func (c *Conn) Send(ctx context.Context, text []byte) error {
	if err := c.ledger.Begin(1); err != nil {
		return err
	}
	b := c.next
	b.number, b.text = c.sent, append(b.text[:0], text...)
	c.sent++
	c.next = c.batches.Spare()
	if c.collector.spec.Ordered {
		c.order.begin(b)
	}
	return c.batches.Put(ctx, b)
}

// work sends batches until the connection ends.
func (c *Conn) work() {
	p, ctx := &poster{conn: c}, c.batches.Context()
	for b := c.batches.Next(); b != nil; b = c.batches.Next() {
		if !b.first(ctx) {
			return
		}
		refused, err := p.deliver(ctx, b)
		if err != nil {
			c.batches.Fail(err) // what the others do is in vain
			return
		}
		c.order.end(b)
		c.refused.Add(b.number+1, refused...)
		c.acknowledge(b.number)
		b.records = b.records[:0]
		c.batches.Keep(b, cap(b.text))
	}
}

func (c *Conn) acknowledge(number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger.Advance(c.window.Take(number))
}

// Wait implements ship.Conn.
func (c *Conn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	acked, err := c.ledger.Wait(ctx, seen, nil)
	c.refused.Tell(acked)
	return acked, err
}

// Refused implements ship.Refuser.
func (c *Conn) Refused() []ship.Refusal { return c.refused.Refused() }

// Close implements ship.Conn. Requests under way are given up.
func (c *Conn) Close() error { return c.close() }

func (c *Conn) shut() error {
	c.batches.Fail(net.ErrClosed)
	c.workers.Wait()
	var err error
	if c.carrier != nil {
		err = c.carrier.Close()
	}
	c.transport.CloseIdleConnections()
	c.mu.Lock()
	first := c.first
	c.first = nil
	c.mu.Unlock()
	if first != nil {
		err = errors.Join(err, first.Close())
	}
	return err
}
