// Package witness proves what became of every record, from what can be seen
// outside of the plugin: the lines that containers wrote, the bytes that lie in
// spool and pipes (logdriver/spool/FORMAT.md), and every single delivery.
//
// Records say at which offset of their stream they began, so deliveries must
// cover the stream's bytes without a gap, and the numbers in the lines tell
// whether the stream has what was written. An engine that dies takes with it
// what it had read from a container and not yet written to the FIFO. Such lines
// are told from lost ones by proof: the engine is stopped before it is killed,
// the end of each stream (spool and pipe) is noted, and only lines that are
// missing at exactly that offset, with no byte of the stream missing, are
// counted as the engine's.
package witness

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/test/harness/collector"
)

// Book holds every delivery of every record, in the order of arrival.
type Book struct {
	mu       sync.Mutex // guards the rest
	accounts map[string]*account
	received uint64
	problems []string
	waiters  map[chan struct{}]bool
}

// account is what came of one container.
type account struct {
	stream     string
	deliveries []delivery
	seen       map[uint64]struct{} // offsets
	bytes      uint64              // of the frames of different records
	newest     int64               // line's time
}

type delivery struct {
	offset uint64
	length uint64 // of the frame
	seq    int64  // -1 where the line is not a whole one: the engine died within it
	wrote  int64  // nanoseconds since 1970
	lane   lane
	first  bool // not a repetition
}

// lane is where order has to be kept.
type lane struct {
	collector  string
	connection int // see collector.Record
}

// NewBook returns an empty one.
func NewBook() *Book {
	return &Book{accounts: map[string]*account{}, waiters: map[chan struct{}]bool{}}
}

// Received is how many deliveries there were.
func (b *Book) Received() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}

// Problems lists what was wrong with single records.
func (b *Book) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.problems)
}

// Record takes one delivery, as collector.Options.Each.
func (b *Book) Record(r collector.Record) {
	s, err := r.Sighting()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received++
	if err != nil {
		b.problems = append(b.problems, err.Error())
		return
	}
	a := b.accounts[s.Container]
	if a == nil {
		a = &account{stream: s.Stream, seen: map[uint64]struct{}{}}
		b.accounts[s.Container] = a
	}
	if a.stream != s.Stream {
		b.problems = append(b.problems, s.Container+" has two streams")
	}
	d := delivery{offset: record.OffsetOf(s.Offset), length: frameLen(len(r.Line)), seq: sequence(r.Line), wrote: s.Written, lane: lane{s.Collector, s.Connection}}
	if _, again := a.seen[d.offset]; !again {
		a.seen[d.offset] = struct{}{}
		a.bytes += d.length
		d.first = true
	}
	if bytes.HasPrefix(r.Line, []byte("[dockline]")) {
		b.problems = append(b.problems, s.Container+": "+string(r.Line))
	}
	a.deliveries = append(a.deliveries, d)
	a.newest = max(a.newest, d.wrote)
	for w := range b.waiters {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// sequence reads the number of a line of the workloads.
func sequence(line []byte) int64 {
	rest, ok := bytes.CutPrefix(line, []byte("seq="))
	digits, rest, more := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if !ok || !more || err != nil || !bytes.HasPrefix(rest, []byte("of=")) {
		return -1
	}
	return n
}

// frameLen is the length of the frame in which the engine writes a whole line:
// a header of 4 bytes, the source (8), the time (10), and the line.
func frameLen(line int) uint64 {
	n := uint64(4 + 8 + 10)
	if line > 0 {
		n += 1 + uint64((bits.Len(uint(line))+6)/7) + uint64(line)
	}
	return n
}

// Account is what a container's deliveries amount to so far.
type Account struct {
	Stream  string
	Records uint64    // different ones
	Bytes   uint64    // of the frames of these
	Newest  time.Time // when the newest line was written
	last    int       // deliveries
}

// Account returns a container's; the zero value where nothing has come.
func (b *Book) Account(container string) Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[container]
	if a == nil {
		return Account{}
	}
	return Account{a.stream, uint64(len(a.seen)), a.bytes, time.Unix(0, a.newest), len(a.deliveries)}
}

// Changes returns a channel that gets a value after any number of deliveries,
// until the function is called.
func (b *Book) Changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters[ch] = true
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.waiters, ch)
	}
}

// Repeated counts the deliveries since an account was taken that began before
// an offset: repetitions of what was acknowledged by then.
func (b *Book) Repeated(container string, since Account, before uint64) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[container]
	if a == nil {
		return 0
	}
	for _, d := range a.deliveries[since.last:] {
		if d.offset < before {
			n++
		}
	}
	return n
}

// order counts repetitions, and first deliveries that came after later records.
func (a *account) order() (duplicated, reordered uint64) {
	last := map[lane]uint64{}
	for _, d := range a.deliveries {
		switch {
		case !d.first:
			duplicated++
		case d.offset < last[d.lane]:
			reordered++
		default:
			last[d.lane] = d.offset
		}
	}
	return duplicated, reordered
}

// distinct returns each record once, in the order of the stream.
func (a *account) distinct() []delivery {
	var all []delivery
	for _, d := range a.deliveries {
		if d.first {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(x, y delivery) int { return cmp.Compare(x.offset, y.offset) })
	return all
}
