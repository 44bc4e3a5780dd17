package main

import (
	"bytes"
	"math/bits"
	"strconv"
	"sync"

	"github.com/dockline/dockline/test/harness/collector"
)

// book holds every delivery of every record, in the order of arrival.
type book struct {
	mu       sync.Mutex // guards the rest
	accounts map[string]*account
	received uint64
	problems []string
}

// account is what came of one container.
type account struct {
	stream     string
	deliveries []delivery
	seen       map[uint64]struct{} // offsets
	bytes      uint64              // of the frames of different records
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

func newBook() *book { return &book{accounts: map[string]*account{}} }

func (b *book) total() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}

// record takes one delivery, as collector.Options.Each.
func (b *book) record(r collector.Record) {
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
	d := delivery{offset: s.Offset, length: frameLen(len(r.Line)), seq: sequence(r.Line), wrote: s.Written, lane: lane{s.Collector, s.Connection}}
	if _, again := a.seen[d.offset]; !again {
		a.seen[d.offset] = struct{}{}
		a.bytes += d.length
		d.first = true
	}
	if bytes.HasPrefix(r.Line, []byte("[dockline]")) {
		b.problems = append(b.problems, s.Container+": "+string(r.Line))
	}
	a.deliveries = append(a.deliveries, d)
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
