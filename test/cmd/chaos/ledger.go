package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/collector"
)

// ledger holds what has come of every container, by the numbers in its lines.
type ledger struct {
	mu       sync.Mutex // guards the rest
	flows    map[flowKey]*flow
	received uint64
	problems []string
}

// flowKey is a container and for whom its records are: the pool audit gets all
// of them too, and shares no collector with the others.
type flowKey struct {
	container string
	audit     bool
}

// flow is what has come of one container.
type flow struct {
	records    []arrival // by number
	count      uint64    // different ones
	next       int       // behind the highest number that has come
	last       [maxCollectors]int
	duplicated uint64
	reordered  uint64 // first arrivals behind a higher number, at whatever collector
	locally    uint64 // the same, at the same collector
}

// maxCollectors bounds how many there are.
const maxCollectors = 8

// arrival is where a record is.
type arrival struct {
	at    uint8 // a bit for each collector that got it
	wrote int64 // when, in nanoseconds since 1970
}

func newLedger() *ledger { return &ledger{flows: map[flowKey]*flow{}} }

// record notes that a record has come to a collector.
func (l *ledger) record(r collector.Record, at int) {
	n, wrote, err := numbers(r.Line)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received++
	if err != nil {
		l.problems = append(l.problems, fmt.Sprintf("%s: %v", r.Container, err))
		return
	}
	key := flowKey{r.Container, at == auditor}
	f := l.flows[key]
	if f == nil {
		f = &flow{}
		l.flows[key] = f
	}
	f.add(n, at, wrote)
}

func (f *flow) add(n, at int, wrote int64) {
	if n >= len(f.records) {
		f.records = append(f.records, make([]arrival, n+1-len(f.records))...)
	}
	r := &f.records[n]
	if r.at != 0 {
		f.duplicated++
	} else {
		f.count++
		if n < f.next {
			f.reordered++
		}
		if n < f.last[at] {
			f.locally++
		}
	}
	f.next = max(f.next, n+1)
	f.last[at] = max(f.last[at], n)
	r.at |= 1 << at
	r.wrote = wrote
}

// numbers reads a line of the workload seq: its number and when it was written.
func numbers(line []byte) (n int, wrote int64, err error) {
	f := bytes.Fields(line[:min(len(line), 120)])
	if len(f) < 4 {
		return 0, 0, fmt.Errorf("%.80q is no line of ours", line)
	}
	digits, ok := strings.CutPrefix(string(f[0]), "seq=")
	stamp, ok2 := strings.CutPrefix(string(f[3]), "ts=")
	n, err1 := strconv.Atoi(digits)
	wrote, err2 := strconv.ParseInt(stamp, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || n < 0 || n > 1<<26 {
		return 0, 0, fmt.Errorf("%.80q is no line of ours", line)
	}
	return n, wrote, nil
}

// total is how many records have come, repetitions and audit included.
func (l *ledger) total() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received
}

// count is how many different records have come of a container.
func (l *ledger) count(container string, audit bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flows[flowKey{container, audit}]; f != nil {
		return f.count
	}
	return 0
}

// distinct is how many different records have come where they are all to come.
func (l *ledger) distinct() (sum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, f := range l.flows {
		if !key.audit {
			sum += f.count
		}
	}
	return sum
}

// newest returns where a container's newest record is, and when it was written.
func (l *ledger) newest(container string) arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.flows[flowKey{container, false}]
	if f == nil || f.next == 0 {
		return arrival{}
	}
	return f.records[f.next-1]
}

// alone returns, by collector, when the records were written of which nobody
// else holds a copy: what that collector has acknowledged, without a doubt.
func (f *flow) alone() [maxCollectors][]int64 {
	var all [maxCollectors][]int64
	for _, r := range f.records {
		if i := slices.Index(only[:], r.at); i >= 0 {
			all[i] = append(all[i], r.wrote)
		}
	}
	return all
}

// holders has a bit for each collector that has any record.
func (f *flow) holders() (all uint8) {
	for _, r := range f.records {
		all |= r.at
	}
	return all
}

var only = [maxCollectors]uint8{1, 2, 4, 8, 16, 32, 64, 128}

// missing returns how many of the first n records have not come, and the first of them.
func (f *flow) missing(n uint64) (lost uint64, first int) {
	first = -1
	for i := range int(n) {
		if f == nil || i >= len(f.records) || f.records[i].at == 0 {
			lost++
			if first < 0 {
				first = i
			}
		}
	}
	return lost, first
}

// covered reports whether a time lies in one of the intervals, or close to it:
// a line carries the time at which it was written, the history that at which
// the engine has read it.
func covered(at int64, from, to []time.Time) bool {
	const late, early = 30 * time.Second, time.Second
	t := time.Unix(0, at)
	for i := range from {
		if !t.Before(from[i].Add(-late)) && !t.After(to[i].Add(early)) {
			return true
		}
	}
	return false
}
