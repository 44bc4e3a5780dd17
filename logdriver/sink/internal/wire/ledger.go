package wire

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// How often acknowledgements are asked for where nothing announces them: at
// first after firstPoll, then after twice as long each time, up to lastPoll.
const (
	firstPoll = time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// idle is how long Wait sleeps where there is nothing to wait for; whatever
// comes wakes it.
const idle = time.Hour

// StalledError says that a collector had something to acknowledge and did not.
type StalledError struct{ For time.Duration }

func (e *StalledError) Error() string {
	return fmt.Sprintf("collector acknowledged nothing for %v", e.For)
}

// Ledger counts the batches of one connection from Send to acknowledgement.
// What is acknowledged are units of the protocol's choice, bytes or frames;
// they are numbered from the start of the connection.
//
// Begin and Commit are called by the goroutine that sends, Wait by one other,
// Advance and Fail by any.
type Ledger struct {
	timeout time.Duration
	changed chan struct{} // has room for one: something below is new for Wait

	mu       sync.Mutex // guards everything below
	expected uint64     // units begun
	done     uint64     // units acknowledged
	moved    time.Time  // when done last moved, or began to lag behind expected
	ends     []uint64   // last unit of each committed batch that is not acknowledged
	acked    uint64     // batches acknowledged
	err      error      // why the connection is of no more use

	uncounted bool // units were begun after that
}

// NewLedger returns the ledger of a connection whose peer may acknowledge
// nothing for as long as timeout.
func NewLedger(timeout time.Duration) *Ledger {
	return &Ledger{timeout: timeout, changed: make(chan struct{}, 1)}
}

// Begin notes that so many units of a batch are about to be written.
func (l *Ledger) Begin(units uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.uncounted = true
		return l.err
	}
	if l.done == l.expected {
		l.moved = time.Now()
	}
	l.expected += units
	l.signal()
	return nil
}

// Commit notes that the batch is written, of which all was begun since the one
// before. Only now can it count as acknowledged, so that Wait never tells of a
// batch that Send still has; and never where units of it were not counted,
// because Begin found that the connection had failed.
func (l *Ledger) Commit() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uncounted {
		return l.err
	}
	l.ends = append(l.ends, l.expected)
	l.settleLocked()
	return nil
}

// Advance notes that all units up to done are acknowledged.
func (l *Ledger) Advance(done uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done <= l.done {
		return
	}
	l.done, l.moved = done, time.Now()
	l.settleLocked()
}

// settleLocked counts the batches whose last unit is acknowledged.
func (l *Ledger) settleLocked() {
	n := 0
	for n < len(l.ends) && l.ends[n] <= l.done {
		n++
	}
	if n > 0 {
		l.ends = append(l.ends[:0], l.ends[n:]...)
		l.acked += uint64(n)
		l.signal()
	}
}

// Fail ends the ledger; the first error is the one that is told.
func (l *Ledger) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		l.signal()
	}
}

// FailAfter is Fail for an error of writing, which the peer may have given a
// reason for: who reads from conn, until ended is closed, has a moment to find
// it, and to Fail with anything but the end of that moment. It returns what the
// ledger ends with.
func (l *Ledger) FailAfter(err error, conn net.Conn, ended <-chan struct{}) error {
	if conn.SetReadDeadline(time.Now().Add(closeGrace)) == nil {
		<-ended
	}
	l.Fail(err)
	return l.Err()
}

// signal wakes Wait, which looks at everything when it wakes.
func (l *Ledger) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Outstanding returns how many units are acknowledged and how many were begun.
func (l *Ledger) Outstanding() (done, expected uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done, l.expected
}

// Err returns what Fail was told first.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Wait is ship.Conn's Wait. Where nothing announces acknowledgements, measure
// looks for them, and is called again and again as long as some are missing;
// otherwise it is nil.
func (l *Ledger) Wait(ctx context.Context, seen uint64, measure func() error) (uint64, error) {
	timer := time.NewTimer(lastPoll)
	defer timer.Stop()
	for poll := firstPoll; ; {
		if l.measured(measure) {
			poll = firstPoll
		}
		acked, rest, err := l.look()
		if err != nil || acked > seen {
			return acked, err
		}
		if measure != nil && rest < idle {
			rest = min(rest, poll)
		}
		timer.Reset(rest)
		select {
		case <-ctx.Done():
			return acked, fmt.Errorf("wait for acknowledgement: %w", ctx.Err())
		case <-l.changed:
			poll = firstPoll
		case <-timer.C:
			poll = min(2*poll, lastPoll)
		}
	}
}

// measured calls measure where it can find something, and reports whether it did.
func (l *Ledger) measured(measure func() error) bool {
	before, expected := l.Outstanding()
	if measure == nil || before == expected || l.Err() != nil {
		return false
	}
	if err := measure(); err != nil {
		l.Fail(err)
	}
	after, _ := l.Outstanding()
	return after != before
}

// look returns the batches acknowledged, and for how much longer the peer may
// acknowledge nothing: idle where it has nothing to acknowledge.
func (l *Ledger) look() (acked uint64, rest time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.acked, 0, l.err
	}
	if l.done == l.expected {
		return l.acked, idle, nil
	}
	rest = min(l.timeout-time.Since(l.moved), idle-1)
	if rest <= 0 {
		l.err = &StalledError{For: l.timeout}
	}
	return l.acked, rest, l.err
}
