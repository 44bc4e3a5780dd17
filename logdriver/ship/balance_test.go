package ship

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A loud stream goes from collector to collector, a time slice at each, in order,
// without a repetition, and without being held up; when it is quiet again it stays
// at its first.
func TestALoudStreamIsSplitInTimeSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := peersNamed("a b c d")
		var mu sync.Mutex
		var arrived []string
		var slowest, wrote time.Duration
		began := time.Now()
		for _, p := range peers {
			p.tell = func(l string) {
				mu.Lock()
				defer mu.Unlock()
				arrived = append(arrived, l)
				slowest = max(slowest, time.Since(began)-wrote)
			}
		}
		s := New(quiet)
		defer s.Close()
		loud, small := newMemory(), newMemory()
		s.Add(loud, &Meta{Stream: "loud"}, membersOf(peers, nil), Key{Value: "loud", SplitAbove: 800})
		s.Add(small, &Meta{Stream: "small"}, membersOf(peers, nil), Key{Value: "small", SplitAbove: 800})
		n := 0
		for range 1000 { // about 2,200 bytes a second for 100 seconds
			mu.Lock()
			wrote = time.Since(began)
			mu.Unlock()
			loud.write(frames(t, n, 10))
			if n++; n%10 == 0 {
				small.write(frames(t, n/10-1, 1))
			}
			n += 9
			time.Sleep(100 * time.Millisecond) // in the bubble's time, as below: it is the rate
		}
		split := map[string]int{}
		for _, p := range s.Places() {
			split[p.Stream] = p.Split
		}
		if split["loud"] != 3 || split["small"] != 1 {
			t.Errorf("streams are spread over %v collectors", split)
		}
		used := map[string]int{}
		for name, p := range peers {
			for _, l := range p.received() {
				if strings.HasPrefix(l, "loud ") {
					used[name]++
				}
			}
		}
		if len(used) != split["loud"] {
			t.Errorf("the loud one's records are at %v", used)
		}
		for name, got := range used {
			if got < n/len(used)/2 {
				t.Errorf("%s got %d of %d records", name, got, n)
			}
		}
		mu.Lock()
		if twice := check(t, arrived, "loud", n); twice > 0 {
			t.Errorf("%d records came twice", twice)
		}
		if slowest > 50*time.Millisecond {
			t.Errorf("a record took %v", slowest)
		}
		mu.Unlock()
		keep := Key{Value: "loud", SplitAbove: 4000} // the next configuration's
		s.Add(loud, &Meta{Stream: "loud"}, membersOf(peers, nil), keep)
		for range 400 {
			loud.write(frames(t, n, 10))
			n += 10
			time.Sleep(100 * time.Millisecond) // the rate
		}
		for _, p := range s.Places() {
			if p.Split != 1 {
				t.Errorf("with another rate, %s is spread over %d collectors", p.Stream, p.Split)
			}
		}
		time.Sleep(2 * time.Minute) // it has nothing to say
		if at := s.Places(); at[0].Split != 1 || at[1].Split != 1 {
			t.Errorf("quiet, they are spread over %d and %d collectors", at[0].Split, at[1].Split)
		}
	})
}

// busyPool is a pool of four with twenty streams that say something all the time.
type busyPool struct {
	t     *testing.T
	s     *Shipper
	peers map[string]*peer
	all   []*memory
	n     int
	pause time.Duration // between two records of a stream
}

func newBusyPool(t *testing.T) *busyPool {
	b := &busyPool{t: t, s: New(quiet), peers: peersNamed("a b c d"), pause: 200 * time.Millisecond}
	for i := range 20 {
		b.all = append(b.all, newMemory())
		add(t, b.s, b.all[i], fmt.Sprint("s", i), membersOf(b.peers, nil))
	}
	return b
}

// write has every stream say something again and again for that long.
func (b *busyPool) write(d time.Duration) {
	for range d / b.pause {
		for _, m := range b.all {
			m.write(frames(b.t, b.n, 1))
		}
		b.n++
		time.Sleep(b.pause)
	}
}

func (b *busyPool) shed() map[string]float64 {
	all := map[string]float64{}
	for _, c := range b.s.Collectors() {
		if c.Shed > 0 {
			all[c.Name] = c.Shed
		}
	}
	return all
}

func (b *busyPool) places() map[string]string {
	at := map[string]string{}
	for _, p := range b.s.Places() {
		at[p.Stream] = p.Collector
	}
	return at
}

// settle looks whether everything has come, in order as far as each collector knows.
func (b *busyPool) settle() {
	b.t.Helper()
	time.Sleep(time.Minute)
	var got []string
	for _, p := range b.peers {
		got = append(got, p.received()...)
	}
	for i, m := range b.all {
		seen := map[string]bool{}
		for _, l := range got {
			if f := strings.Fields(l); f[0] == fmt.Sprint("s", i) {
				seen[f[2]] = true
			}
		}
		if len(seen) != b.n || m.Cursor() != uint64(len(m.data)) {
			b.t.Errorf("stream %d: %d of %d records came, acknowledged %d of %d", i, len(seen), b.n, m.Cursor(), len(m.data))
		}
	}
}

// One collector that is worse than the others sheds some streams, which stay away
// until it has been well for a while, then all return.
func TestACollectorThatPushesBackShedsKeys(t *testing.T) {
	for name, c := range map[string]struct{ worse, well func(*peer) }{
		"slow":    {func(p *peer) { p.delay = 2 * time.Second }, func(p *peer) { p.delay = 0 }},
		"refuses": {func(p *peer) { p.busy = true }, func(p *peer) { p.busy = false }},
		"stuck":   {func(p *peer) { p.silent = true }, func(p *peer) { p.silent = false }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBusyPool(t)
				defer b.s.Close()
				b.write(20 * time.Second)
				before := b.places()
				if shed := b.shed(); len(shed) > 0 {
					t.Fatalf("all is well, and it sheds %v", shed)
				}
				b.peers["c"].set(func() { c.worse(b.peers["c"]) })
				b.write(20 * time.Second)
				if shed := b.shed(); shed["c"] == 0 || len(shed) != 1 {
					t.Fatalf("c is worse than the others, and it sheds %v", shed)
				}
				b.peers["c"].set(func() { c.well(b.peers["c"]) })
				b.write(8 * time.Second)
				if b.shed()["c"] == 0 {
					t.Error("all streams returned at once")
				}
				away := 0
				for stream, at := range b.places() {
					if at != before[stream] {
						away++
						if before[stream] != "c" {
							t.Errorf("%s went from %s to %s", stream, before[stream], at)
						}
					}
				}
				if away == 0 {
					t.Error("no stream is away")
				}
				b.write(2 * time.Minute)
				if at := b.places(); !maps.Equal(at, before) || len(b.shed()) > 0 {
					t.Errorf("c has been well for long, streams are at %v, and it sheds %v", at, b.shed())
				}
				if moved := b.s.Stats.Moved.Load(); moved > 40 {
					t.Errorf("%d moves: it flaps", moved)
				}
				for _, c := range b.s.Collectors() {
					if !c.Healthy {
						t.Errorf("%s counts as down", c.Name)
					}
				}
				b.settle()
			})
		})
	}
}

// Where all are as slow, or most, moving streams would help nobody.
func TestNobodyShedsWhereAllAreSlow(t *testing.T) {
	for _, slow := range []string{"a b c d", "a b c"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBusyPool(t)
			defer b.s.Close()
			b.write(20 * time.Second)
			for _, name := range strings.Fields(slow) {
				b.peers[name].set(func() { b.peers[name].delay = 3 * time.Second })
			}
			b.write(time.Minute)
			if shed := b.shed(); len(shed) > 0 || b.s.Stats.Moved.Load() > 0 {
				t.Errorf("%s are slow: they shed %v, %d streams moved", slow, shed, b.s.Stats.Moved.Load())
			}
			b.settle()
		})
	}
}

// One that answers, but takes less than comes, sheds until it keeps up.
func TestAGrowingBacklogIsShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyPool(t)
		defer b.s.Close()
		b.peers["c"].set(func() { b.peers["c"].takes = 200 * time.Millisecond })
		b.write(20 * time.Second)
		if shed := b.shed(); shed["c"] == 0 || len(shed) != 1 {
			t.Errorf("c does not keep up, and it sheds %v", shed)
		}
		b.settle()
	})
}

// Keys that return in vain return more and more rarely.
func TestReturnsInVainBecomeRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyPool(t)
		defer b.s.Close()
		b.pause = time.Second
		b.write(20 * time.Second)
		b.peers["c"].set(func() { b.peers["c"].delay = 5 * time.Second })
		b.write(5 * time.Minute)
		first := b.s.Stats.Pushbacks.Load()
		b.write(5 * time.Minute)
		second := b.s.Stats.Pushbacks.Load() - first
		if first == 0 || second >= first || second > 6 {
			t.Errorf("it was relieved %d times in five minutes, then %d times", first, second)
		}
	})
}

// One that was down, and is there again but acknowledges nothing, gets one stream
// to show what it does; when it acknowledges that, all that prefer it return.
func TestOneThatWasDownIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyPool(t)
		defer b.s.Close()
		c := b.peers["c"]
		c.down = true
		b.write(10 * time.Second)
		c.set(func() { c.down, c.silent = false, true })
		b.write(30 * time.Second)
		streams := map[string]bool{}
		for _, l := range c.received() {
			streams[strings.Fields(l)[0]] = true
		}
		if len(streams) != 1 {
			t.Errorf("it acknowledges nothing and was sent the streams %v", slices.Collect(maps.Keys(streams)))
		}
		c.set(func() { c.silent = false })
		b.write(10 * time.Second)
		back := 0
		for stream, at := range b.places() {
			if first := rank([]string{"a", "b", "c", "d"}, stream)[0]; at != first {
				t.Errorf("%s is at %s and not at %s", stream, at, first)
			} else if first == "c" {
				back++
			}
		}
		if back < 2 {
			t.Fatal("the test did not test: hardly a stream prefers c")
		}
		b.settle()
	})
}

// steadily writes so many records every 100 ms, from number n on, and returns the next.
func steadily(t *testing.T, m *memory, n, each int, d time.Duration) int {
	for range d / (100 * time.Millisecond) {
		m.write(frames(t, n, each))
		n += each
		time.Sleep(100 * time.Millisecond) // of the test's own clock
	}
	return n
}

// So it is with records that are placed one by one.
func TestOneThatWasDownIsProbedWithRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := peersNamed("a b c d")
		c := peers["c"]
		c.down = true
		s := New(quiet)
		defer s.Close()
		m, n := newMemory(), 0
		addSpread(s, m, "s", membersOf(peers, nil))
		write := func(d time.Duration) { n = steadily(t, m, n, 20, d) }
		write(10 * time.Second)
		c.set(func() { c.down, c.silent = false, true })
		write(2 * time.Second)
		if got := len(c.received()); got > 0 {
			t.Errorf("it was sent %d records at once", got)
		}
		write(10 * time.Second)
		if got := len(c.received()); got == 0 || got > 100 {
			t.Errorf("it acknowledges nothing and was sent %d records", got)
		}
		before := len(c.received())
		c.set(func() { c.silent = false })
		write(10 * time.Second)
		if got := len(c.received()) - before; got < 100 {
			t.Errorf("it is well and was sent %d records", got)
		}
		time.Sleep(time.Minute)
		wantEach(t, tally(t, peers, "s", false), n)
	})
}

// One that takes records and never acknowledges any, whenever it is connected to,
// is tried with one stream at a time, more and more rarely.
func TestABlackHoleIsTriedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyPool(t)
		defer b.s.Close()
		b.pause = time.Second
		c := b.peers["c"]
		c.breakAt = func() (int, int) { return 1, 0 } // as a time-out would end it
		b.write(20 * time.Second)
		tried := c.batches
		b.write(10 * time.Minute)
		if more := c.batches - tried; more == 0 || more > 12 {
			t.Errorf("it was tried %d times", more)
		}
		c.set(func() { c.breakAt = nil })
		b.write(10 * time.Minute)
		for stream, at := range b.places() {
			if first := rank([]string{"a", "b", "c", "d"}, stream)[0]; at != first {
				t.Errorf("%s is at %s and not at %s", stream, at, first)
			}
		}
		b.settle()
	})
}

// A collector that is slow for records placed one by one holds the stream up only
// until its share is shed.
func TestSpreadRecordsAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := peersNamed("a b c d")
		s := New(quiet)
		defer s.Close()
		m, n := newMemory(), 0
		addSpread(s, m, "s", membersOf(peers, nil))
		write := func(d time.Duration) { n = steadily(t, m, n, 50, d) }
		write(20 * time.Second)
		peers["c"].set(func() { peers["c"].delay = 10 * time.Second })
		write(30 * time.Second)
		before := len(peers["c"].received())
		write(10 * time.Second)
		if got := len(peers["c"].received()) - before; got > 100 {
			t.Errorf("it is slow and got %d of 5000 records", got)
		}
		peers["c"].set(func() { peers["c"].delay = 0 })
		write(time.Minute)
		before = len(peers["c"].received())
		write(10 * time.Second)
		if got := len(peers["c"].received()) - before; got < 250 {
			t.Errorf("it is well and got %d of 5000 records", got)
		}
		time.Sleep(time.Minute)
		if twice := wantEach(t, tally(t, peers, "s", false), n); twice > 0 {
			t.Errorf("%d came twice", twice)
		}
		s.Close()
		if m.tooMany {
			t.Errorf("more than %d ranges were to be noted", MaxRanges)
		}
	})
}
