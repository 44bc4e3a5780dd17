package upgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/collector"
)

// book is what has come, of numbered lines: from containers' logs, by the
// container's name, and from their connections, by the listener's.
type book struct {
	mu      sync.Mutex // guards the rest
	came    map[string]*lines
	changed chan struct{} // closed and replaced with every line
}

// lines are those of one source, numbered from 0.
type lines struct {
	seen     map[uint64]bool
	next     uint64 // after the highest
	repeated int
	late     int // came for the first time after a later one
	ended    error
}

func newBook() *book { return &book{came: map[string]*lines{}, changed: make(chan struct{})} }

// record is collector.Options.Each. Ids are not looked at: they are not the same
// before and after an upgrade.
func (b *book) record(r collector.Record) { b.line(r.Container, string(r.Line)) }

func (b *book) line(from, line string) {
	var n uint64
	_, err := fmt.Sscanf(line, "seq=%d ", &n)
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ofLocked(from)
	switch {
	case err != nil:
		l.ended = fmt.Errorf("%q has no number: %w", line, err)
	case l.seen[n]:
		l.repeated++
	case n < l.next:
		l.late++
		fallthrough
	default:
		l.seen[n] = true
		l.next = max(l.next, n+1)
	}
	b.wakeLocked()
}

func (b *book) ofLocked(from string) *lines {
	if b.came[from] == nil {
		b.came[from] = &lines{seen: map[uint64]bool{}}
	}
	return b.came[from]
}

func (b *book) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// read takes lines from the one connection that a listener is to have.
func (b *book) read(from string, l net.Listener) {
	ended := func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		if err := l.Close(); err != nil {
			return err
		}
		for lines := bufio.NewReader(c); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			b.line(from, strings.TrimSuffix(line, "\n"))
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(ended, io.EOF) {
		ended = errors.New("the connection was closed")
	}
	b.ofLocked(from).ended = ended
	b.wakeLocked()
}

// state is what has come from a source, as it is now.
type state struct {
	different, next uint64
	repeated, late  int
	ended           error
}

func (b *book) state(from string) state {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ofLocked(from)
	return state{uint64(len(l.seen)), l.next, l.repeated, l.late, l.ended}
}

// await waits until so many different lines have come from a source, or none of
// it for a minute.
func (b *book) await(ctx context.Context, from string, n uint64) error {
	quiet := time.NewTimer(time.Minute)
	defer quiet.Stop()
	for had := uint64(0); ; {
		b.mu.Lock()
		l, changed := b.ofLocked(from), b.changed
		has, next, ended := uint64(len(l.seen)), l.next, l.ended
		b.mu.Unlock()
		switch {
		case ended != nil:
			return fmt.Errorf("%s, after %d lines: %w", from, has, ended)
		case has >= n:
			return nil
		case has > had:
			had = has
			quiet.Reset(time.Minute)
		}
		select {
		case <-changed:
		case <-quiet.C:
			return fmt.Errorf("%s: %d of %d lines have come, up to %d, and no more come", from, has, n, next)
		case <-ctx.Done():
			return fmt.Errorf("%s: %d of %d lines have come, up to %d: %w", from, has, n, next, context.Cause(ctx))
		}
	}
}
