package dhcp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Host finds wires and opens ports on them.
type Host interface {
	// Links says where the wire of a pool is now.
	Links(p Pool) (Links, error)
	Open(l Links) (Port, error)
}

// errSilence says that no server answered in time.
var errSilence = errors.New("no DHCP server answered")

// wire is one pool's: one port, for every phase of every lease.
type wire struct {
	host Host
	pool Pool
	log  *slog.Logger
	// overheard is called with what other clients say; nil: nobody wants it.
	overheard func(*Reply)

	mu      sync.Mutex // guards all below
	port    Port       // nil: not open
	links   Links
	closed  bool
	unheard time.Time // when a start went without an answer last; zero: one was heard since
	waiting map[dhcpv4.TransactionID]chan *Reply
	readers sync.WaitGroup
}

func newWire(h Host, p Pool, log *slog.Logger) *wire {
	return &wire{host: h, pool: p, log: log, waiting: map[dhcpv4.TransactionID]chan *Reply{}}
}

// open returns the port on the wire as it is now.
func (w *wire) open() (Port, error) {
	links, err := w.host.Links(w.pool)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, fmt.Errorf("the network's pool is gone")
	case w.port != nil && w.links.same(links):
		return w.port, nil
	case w.port != nil:
		_ = w.port.Close() // its reader sees that
	}
	port, err := w.host.Open(links)
	if err != nil {
		w.port = nil
		return nil, err
	}
	w.port, w.links = port, links
	w.readers.Go(func() { w.read(port) })
	return port, nil
}

// read hands replies to who waits for them. Who is in a hurry to be the next to
// send opens the port again.
func (w *wire) read(port Port) {
	for {
		r, err := port.Receive()
		if err != nil {
			w.mu.Lock()
			if w.port == port {
				w.port = nil
			}
			w.mu.Unlock()
			_ = port.Close()
			return
		}
		if r.OpCode == dhcpv4.OpcodeBootRequest {
			if w.overheard != nil {
				w.overheard(r)
			}
			continue
		}
		w.mu.Lock()
		ch := w.waiting[r.TransactionID]
		w.unheard = time.Time{} // to whomever it is: a server is there
		w.mu.Unlock()
		if ch == nil {
			continue
		}
		select {
		case ch <- r:
		default: // as many as that are a flood
		}
	}
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	port := w.port
	w.port = nil
	w.mu.Unlock()
	if port != nil {
		_ = port.Close()
	}
	w.readers.Wait()
}

const (
	// An engine that starts has its containers start one after the other and
	// answers nobody before the last one is done: of a hundred that wait for a
	// server which is away, only the first does so with patience. A server that
	// answers late is heard all the same, and the next start waits for it.
	unheardFor   = time.Minute
	unheardPause = 500 * time.Millisecond
)

// patience returns how long a start waits for an answer, and whether that is as
// long as it may.
func (w *wire) patience(full []time.Duration) (pauses []time.Duration, patient bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unheard.IsZero() || time.Since(w.unheard) > unheardFor {
		return full, true
	}
	return []time.Duration{unheardPause}, false
}

// waited takes note of what a start's question ended in.
func (w *wire) waited(err error) {
	if !errors.Is(err, errSilence) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unheard = time.Now()
}

// errNoWire says that nothing can be sent.
var errNoWire = errors.New("no wire")

// send sends one message.
func (w *wire) send(p path, m *dhcpv4.DHCPv4) error {
	port, err := w.open()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoWire, err)
	}
	return port.Send(frame(p, m.ToBytes()))
}

// replies is how many may wait to be looked at; a server sends one.
const replies = 16

// ask sends a message, and again after each of the pauses but the last, until
// take has taken a reply. Those to other clients are not shown to it. Where the
// last that was sent got nowhere, the error says why, else it is errSilence.
// make gets the number of the try, and the seconds since the first.
func (w *wire) ask(ctx context.Context, xid dhcpv4.TransactionID, pauses []time.Duration, make func(try, secs int) (path, *dhcpv4.DHCPv4), take func(*Reply) bool) error {
	ch := w.wait(xid)
	defer w.forget(xid)
	begin := time.Now()
	var failed error
	for try, pause := range pauses {
		p, m := make(try, int(time.Since(begin)/time.Second))
		m.TransactionID = xid
		if failed = w.send(p, m); errors.Is(failed, errNoWire) {
			return failed
		}
		taken, err := await(ctx, ch, pause, func(r *Reply) bool {
			return string(r.ClientHWAddr) == string(m.ClientHWAddr) && take(r)
		})
		if taken || err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	return errSilence
}

func await(ctx context.Context, ch <-chan *Reply, pause time.Duration, take func(*Reply) bool) (bool, error) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-timer.C:
			return false, nil
		case r := <-ch:
			if take(r) {
				return true, nil
			}
		}
	}
}

func (w *wire) wait(xid dhcpv4.TransactionID) <-chan *Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan *Reply, replies)
	w.waiting[xid] = ch
	return ch
}

func (w *wire) forget(xid dhcpv4.TransactionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, xid)
}

// newXID returns a transaction id that no one can guess (RFC 2131, 4.1).
func newXID() (xid dhcpv4.TransactionID) {
	_, _ = rand.Read(xid[:]) // does not fail (crypto/rand)
	return xid
}

// The pauses after the first send, doubled for each try and randomised by half
// of the first (RFC 2131, 4.1, which for its 10 Mb/s Ethernet has 4 s, doubled,
// give or take 1 s). A server that pings an address before it offers it answers
// within 3 s.
const (
	firstPause = 2 * time.Second
	askTries   = 3
	// knownTries is how often a server is asked for an address that it leased
	// before, which takes it no time.
	knownPause = 800 * time.Millisecond
	knownTries = 2
)

// pauses returns n of them from the first on.
func pauses(first time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = first<<i + jitter(first/2)
	}
	return all
}

// jitter returns a random time from -most/2 to most/2.
func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(most)))
	if err != nil {
		return 0
	}
	return time.Duration(n.Int64()) - most/2
}
