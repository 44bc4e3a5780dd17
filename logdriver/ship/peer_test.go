package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

// memory is a Source in memory.
type memory struct {
	mu       sync.Mutex
	data     []byte
	session  []uint64 // where each begins
	ended    bool
	start    uint64 // bytes before it are evicted
	cursor   uint64
	beyond   []Range // acknowledged beyond it, in order
	tooMany  bool    // there were more than there may be
	bad      []byte  // quarantined
	watchers map[*func()]struct{}
}

func newMemory() *memory { return &memory{session: []uint64{0}, watchers: map[*func()]struct{}{}} }

func (m *memory) write(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, b...)
	m.notify()
}

func (m *memory) notify() {
	for fn := range m.watchers {
		(*fn)()
	}
}

func (m *memory) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	m.notify()
}

func (m *memory) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = append(m.session, uint64(len(m.data)))
	m.ended = false
}

func (m *memory) Read(p []byte, offset uint64) (Span, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lost uint64
	if offset < m.start {
		lost, offset = m.start-offset, m.start
	}
	end := uint64(len(m.data))
	if offset >= end {
		return Span{From: offset, Final: m.ended}, io.EOF
	}
	span := Span{From: offset, Lost: lost}
	for i, from := range m.session {
		if offset >= from {
			span.Session = uint32(i + 1)
			end = uint64(len(m.data))
			if i+1 < len(m.session) {
				end = m.session[i+1]
			}
		}
	}
	span.Len = copy(p, m.data[offset:end])
	span.Final = offset+uint64(span.Len) == end && (m.ended || int(span.Session) < len(m.session))
	return span, nil
}

func (m *memory) Release() {}

func (m *memory) Cursor() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursor
}

func (m *memory) Ack(offset uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cursor = max(m.cursor, offset)
	return nil
}

// AckRanges keeps what it is told, which says all that there is beyond the cursor.
func (m *memory) AckRanges(ranges ...Range) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Concat(m.beyond, ranges)
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	m.beyond = nil
	for _, r := range all {
		switch last := len(m.beyond) - 1; {
		case r.From <= m.cursor:
			m.cursor = max(m.cursor, r.To)
		case last >= 0 && r.From <= m.beyond[last].To:
			m.beyond[last].To = max(m.beyond[last].To, r.To)
		default:
			m.beyond = append(m.beyond, r)
		}
	}
	m.tooMany = m.tooMany || len(m.beyond) > MaxRanges
	return nil
}

func (m *memory) Unacknowledged(offset uint64) Range {
	m.mu.Lock()
	defer m.mu.Unlock()
	gap := Range{max(offset, m.cursor), math.MaxUint64}
	for _, r := range m.beyond {
		if r.From > gap.From {
			gap.To = r.From
			break
		}
		gap.From = max(gap.From, r.To)
	}
	return gap
}

func (m *memory) Quarantine(_ uint64, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = append(m.bad, b...)
	return nil
}

func (m *memory) Mark(uint64, uint64, int64) {}

func (m *memory) Pending(offset uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return offset < uint64(len(m.data))
}

func (m *memory) Live() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.ended
}

func (m *memory) Watch(fn func()) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[&fn] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, &fn)
	}
}

// frames encodes lines, the i-th numbered from+i.
func frames(t testing.TB, from, n int) []byte {
	t.Helper()
	var enc record.Encoder
	var b []byte
	var err error
	for i := range n {
		if b, err = enc.Append(b, false, int64(i+1), strconv.AppendInt(nil, int64(from+i), 10)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// peer is a collector and the sink that speaks to it: one line a record,
// "stream offset line", acknowledged a moment later. It can be down, and it can
// break a connection after a number of batches, acknowledging some of them.
type peer struct {
	mu       sync.Mutex
	down     bool
	breakAt  func() (batches int, acked int) // nil: never
	delay    time.Duration                   // of acknowledgements; 0 for a millisecond
	takes    time.Duration                   // to read a batch
	busy     bool                            // takes no records, and says so
	silent   bool                            // never acknowledges
	full     bool                            // never reads once it has something
	tell     func(line string)               // of each line that comes; may be nil
	got      []string
	dials    int
	batches  int
	inFlight int // largest number of batches waiting
}

func (p *peer) Prepare(m *Meta) Template { return template(m.Stream) }
func (p *peer) Limits() Limits           { return Limits{BatchBytes: 500, BatchRecords: 20, InFlight: 3} }

func (p *peer) Dial(context.Context) (Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials++
	if p.down {
		return nil, errors.New("connection refused")
	}
	c := &peerConn{peer: p, news: make(chan struct{}, 1), closed: make(chan struct{}), breakAt: -1}
	if p.breakAt != nil {
		c.breakAt, c.ackBeforeBreak = p.breakAt()
	}
	return c, nil
}

func (p *peer) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *peer) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

type template string

func (t template) Append(dst []byte, r *Record) []byte {
	return fmt.Appendf(dst, "%s %d %s\n", string(t), r.Offset, r.Line)
}

type peerConn struct {
	peer           *peer
	mu             sync.Mutex
	sent, acked    int
	breakAt        int
	ackBeforeBreak int
	broken         bool
	news           chan struct{}
	closed         chan struct{}
	once           sync.Once
}

func (c *peerConn) Append(dst []byte, t Template, r *Record) []byte { return t.Append(dst, r) }

func (c *peerConn) Send(ctx context.Context, batch []byte) error {
	full, busy, takes := false, false, time.Duration(0)
	c.peer.set(func() { full, busy, takes = c.peer.full && c.peer.batches > 0, c.peer.busy, c.peer.takes })
	time.Sleep(takes) // in the bubble's time
	if busy {
		return fmt.Errorf("too many requests: %w", ErrBusy)
	}
	if full {
		<-ctx.Done()
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		select {
		case c.news <- struct{}{}:
		default:
		}
	}()
	if c.breakAt >= 0 && c.sent >= c.breakAt {
		c.acked, c.broken = min(c.sent, c.ackBeforeBreak), true
		return errors.New("broken pipe")
	}
	c.sent++
	c.peer.set(func() {
		c.peer.batches++
		c.peer.inFlight = max(c.peer.inFlight, c.sent-c.acked)
		for l := range strings.Lines(string(batch)) {
			c.peer.got = append(c.peer.got, strings.TrimSpace(l))
			if c.peer.tell != nil {
				c.peer.tell(strings.TrimSpace(l))
			}
		}
	})
	return nil
}

func (c *peerConn) Wait(ctx context.Context, seen uint64) (uint64, error) {
	for {
		c.mu.Lock()
		silent := false
		c.peer.set(func() { silent = c.peer.silent })
		if !c.broken && !silent && c.breakAt < 0 {
			c.acked = c.sent
		}
		acked, broken := uint64(c.acked), c.broken
		c.mu.Unlock()
		if broken {
			return acked, errors.New("connection reset")
		}
		if acked > seen {
			return acked, nil
		}
		var later <-chan time.Time
		if silent {
			later = time.After(time.Second) // it may have found its tongue
		}
		select {
		case <-later:
		case <-c.news:
			delay := time.Millisecond
			c.peer.set(func() { delay = max(delay, c.peer.delay) })
			time.Sleep(delay) // the way there and back, in the bubble's time
		case <-c.closed:
			return acked, errClosed
		case <-ctx.Done():
			return acked, ctx.Err()
		}
	}
}

var errClosed = errors.New("closed")

func (c *peerConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
