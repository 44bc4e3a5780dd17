package collector

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness/tally"
)

// Checker gathers what collectors received and compares it with what
// containers wrote. It may be used from many goroutines.
type Checker struct {
	mu         sync.Mutex // guards the rest
	containers map[string]*received
	expected   map[string]tally.Output
	problems   []string
	latencies  []time.Duration
	waiters    map[chan struct{}]bool
}

// received is what has come from one container.
type received struct {
	seen       map[key]bool
	lines      map[string][]line // by source
	latest     map[lane]position // first deliveries only
	collectors map[string]uint64 // first deliveries, by collector
	streams    map[string]int    // in the order in which they came up
	duplicated uint64
	reordered  uint64
}

type key struct {
	stream string
	offset uint64
}

type line struct {
	stream int
	offset uint64
	hash   uint64
	length int
}

// lane is where order has to be kept: one source of a container to one collector.
type lane struct {
	source, collector string
	connection        int // see Record.Connection
}

type position struct {
	stream int
	offset uint64
}

// NewChecker returns an empty one.
func NewChecker() *Checker {
	return &Checker{
		containers: make(map[string]*received),
		expected:   make(map[string]tally.Output),
		waiters:    make(map[chan struct{}]bool),
	}
}

// Expect says what a container wrote.
func (c *Checker) Expect(container string, wrote tally.Output) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expected[container] = wrote
	c.wakeLocked()
}

// Record adds a record, as Options.Each.
func (c *Checker) Record(r Record) {
	s, err := r.Sighting()
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.problems = append(c.problems, err.Error())
		return
	}
	c.Add(s)
}

// Add adds a sighting.
func (c *Checker) Add(s Sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.containers[s.Container]
	if r == nil {
		r = &received{
			seen: make(map[key]bool), lines: make(map[string][]line), latest: make(map[lane]position),
			collectors: make(map[string]uint64), streams: make(map[string]int),
		}
		c.containers[s.Container] = r
	}
	if r.add(s) && s.Written > 0 {
		c.latencies = append(c.latencies, time.Duration(s.Received-s.Written))
	}
	c.wakeLocked()
}

// add reports whether it is the first delivery of the record.
func (r *received) add(s Sighting) bool {
	k := key{s.Stream, s.Offset}
	if r.seen[k] {
		r.duplicated++
		return false
	}
	r.seen[k] = true
	r.collectors[s.Collector]++
	stream, known := r.streams[s.Stream]
	if !known {
		stream = len(r.streams)
		r.streams[s.Stream] = stream
	}
	r.lines[s.Source] = append(r.lines[s.Source], line{stream, s.Offset, s.Hash, s.Length})
	l, at := lane{s.Source, s.Collector, s.Connection}, position{stream, s.Offset}
	if last, ok := r.latest[l]; ok && last.after(at) {
		r.reordered++
	} else {
		r.latest[l] = at
	}
	return true
}

func (p position) after(q position) bool {
	return p.stream > q.stream || p.stream == q.stream && p.offset > q.offset
}

// tally digests the lines of a source in the order of their offsets.
func (r *received) tally(source string) tally.Lines {
	lines := slices.Clone(r.lines[source])
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.offset, b.offset))
	})
	var t tally.Lines
	for _, l := range lines {
		t.Add(l.hash, l.length)
	}
	return t
}

func (r *received) records() uint64 {
	if r == nil {
		return 0
	}
	return uint64(len(r.seen))
}

// Count is how many different records of a container have come.
func (c *Checker) Count(container string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.containers[container].records()
}

// Complete reports whether at least as many records have come of every
// container as it is expected to have written.
func (c *Checker) Complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, want := range c.expected {
		if c.containers[name].records() < want.Records() {
			return false
		}
	}
	return true
}

// Wait blocks until done returns true, asking anew whenever something has
// changed, and returns ctx's cause if that ends first.
func (c *Checker) Wait(ctx context.Context, done func() bool) error {
	wake := make(chan struct{}, 1)
	c.mu.Lock()
	c.waiters[wake] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiters, wake)
		c.mu.Unlock()
	}()
	for !done() {
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *Checker) wakeLocked() {
	for w := range c.waiters {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Containers lists those from which anything has come, sorted.
func (c *Checker) Containers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.containers))
}

// Where says how many records of a container each collector was the first to get.
func (c *Checker) Where(container string) map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.containers[container]; r != nil {
		return maps.Clone(r.collectors)
	}
	return map[string]uint64{}
}

// Late is how a Problem ends that is about order alone.
const Late = "records came after later ones"

// Report is the result of a comparison.
type Report struct {
	Expected, Delivered, Lost, Duplicated, Reordered uint64
	Collectors                                       map[string]uint64 // first deliveries
	Problems                                         []string          // everything that is wrong, in words; duplicates are not
	P50, P99, Max                                    time.Duration     // from writing to receiving, of lines that carry a time
}

// Report compares. Containers of which nothing is expected are left out.
func (c *Checker) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	rep := Report{Collectors: make(map[string]uint64), Problems: slices.Clone(c.problems)}
	for _, name := range slices.Sorted(maps.Keys(c.expected)) {
		want, got := c.expected[name], c.containers[name]
		if got == nil {
			got = &received{}
		}
		rep.compare(name, want, got)
	}
	rep.latency(slices.Sorted(slices.Values(c.latencies)))
	return rep
}

func (rep *Report) compare(name string, want tally.Output, got *received) {
	rep.Duplicated += got.duplicated
	rep.Reordered += got.reordered
	for collector, n := range got.collectors {
		rep.Collectors[collector] += n
	}
	for _, source := range []string{"stdout", "stderr"} {
		wrote, came := *want.Of(source), got.tally(source)
		rep.Expected += wrote.Count
		rep.Delivered += came.Count
		switch {
		case came.Count < wrote.Count:
			rep.Lost += wrote.Count - came.Count
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %d of %d records of %s are lost", name, wrote.Count-came.Count, wrote.Count, source))
		case came.Count > wrote.Count:
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %d records of %s came, %d were written", name, came.Count, source, wrote.Count))
		case came != wrote:
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %s is not what was written: %d bytes came, %d were written", name, source, came.Bytes, wrote.Bytes))
		}
	}
	if got.reordered > 0 {
		rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %d %s", name, got.reordered, Late))
	}
}

func (rep *Report) latency(sorted []time.Duration) {
	if n := len(sorted); n > 0 {
		rep.P50, rep.P99, rep.Max = sorted[n/2], sorted[n*99/100], sorted[n-1]
	}
}
