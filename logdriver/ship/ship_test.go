package ship

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dockline/dockline/logdriver/record"
)

var quiet = slog.New(slog.DiscardHandler)

func poolOf(peers map[string]*peer, order ...string) Pool {
	p := Pool{ID: strings.Join(order, ","), Rank: func(string) []string { return order }}
	for name, s := range peers {
		p.Collectors = append(p.Collectors, Collector{Name: name, Sink: s})
	}
	return p
}

func add(t *testing.T, s *Shipper, src *memory, stream string, p Pool) {
	t.Helper()
	s.Add(src, &Meta{Stream: stream}, p, Key{Value: stream})
}

// check looks whether every line 0..n-1 of the stream came, and whether first
// deliveries came in order. It returns the number of duplicates.
func check(t *testing.T, got []string, stream string, n int) (duplicates int) {
	t.Helper()
	seen := map[string]bool{}
	next := 0
	for _, l := range got {
		f := strings.Fields(l)
		if f[0] != stream {
			continue
		}
		if seen[f[1]] {
			duplicates++
			continue
		}
		seen[f[1]] = true
		if f[2] != strconv.Itoa(next) {
			t.Fatalf("%s: got line %s where %d was due", stream, f[2], next)
		}
		next++
	}
	if next != n {
		t.Fatalf("%s: %d lines of %d arrived", stream, next, n)
	}
	return duplicates
}

// The tests below run in bubbles of testing/synctest: a sleep there lets the
// goroutines run until all of them wait, and takes no time.

func TestEverythingArrivesOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		var all []*memory
		for i := range 10 {
			m := newMemory()
			all = append(all, m)
			add(t, s, m, fmt.Sprint("s", i), poolOf(map[string]*peer{"a": a}, "a"))
		}
		for round := range 20 {
			for _, m := range all {
				b := frames(t, round*7, 7)
				m.write(b[:len(b)/2]) // not at a frame's end
				m.write(b[len(b)/2:])
			}
			time.Sleep(3 * time.Millisecond)
		}
		for _, m := range all {
			m.end()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		for i, m := range all {
			if d := check(t, a.received(), fmt.Sprint("s", i), 140); d > 0 {
				t.Errorf("%d duplicates without any fault", d)
			}
			if m.Cursor() != uint64(len(m.data)) {
				t.Errorf("cursor at %d of %d", m.Cursor(), len(m.data))
			}
		}
		if s.Len() != 0 {
			t.Errorf("%d ended streams are still held", s.Len())
		}
		if a.inFlight > 3 {
			t.Errorf("%d batches were in flight, the limit is 3", a.inFlight)
		}
	})
}

func TestConnectionsThatBreakLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(3, 4))
		a := &peer{}
		breaks := 0
		a.breakAt = func() (int, int) {
			if breaks++; breaks > 40 {
				return -1, 0
			}
			n := rnd.IntN(2) // of three that may be in flight, or nobody would send the one that breaks
			return n, rnd.IntN(n + 1)
		}
		s := New(quiet)
		defer s.Close()
		m, m2 := newMemory(), newMemory()
		pool := poolOf(map[string]*peer{"a": a}, "a")
		add(t, s, m, "s1", pool)
		add(t, s, m2, "s2", pool)
		for i := range 300 {
			m.write(frames(t, i*10, 10))
			m2.write(frames(t, i*10, 10))
			time.Sleep(time.Second)
		}
		m.end()
		m2.end()
		time.Sleep(time.Hour)
		d := check(t, a.received(), "s1", 3000) + check(t, a.received(), "s2", 3000)
		if m.Cursor() != uint64(len(m.data)) || m2.Cursor() != uint64(len(m2.data)) {
			t.Error("cursors are not at the end")
		}
		if breaks <= 40 || d == 0 {
			t.Errorf("the test did not test: %d breaks, %d duplicates", breaks, d)
		}
	})
}

func TestFailOverAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &peer{}, &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a, "b": b}, "a", "b"))
		step := func(from int) int {
			m.write(frames(t, from, 10))
			time.Sleep(30 * time.Second)
			return from + 10
		}
		n := step(0)
		a.set(func() { a.down = true; a.breakAt = func() (int, int) { return 0, 0 } })
		// The connection there is goes on; only a new one is refused.
		a.set(func() { a.silent = true })
		m.write(frames(t, n, 10))
		n += 10
		time.Sleep(time.Second)
		if len(b.received()) != 0 {
			t.Fatal("moved although the connection stands")
		}
		a.set(func() { a.silent = false })
		n = step(n)
		if len(b.received()) != 0 || len(a.received()) < 30 {
			t.Fatalf("a has %d, b has %d", len(a.received()), len(b.received()))
		}
		s2 := New(quiet) // a restarted process finds a down
		s.Close()
		defer s2.Close()
		add(t, s2, m, "s", poolOf(map[string]*peer{"a": a, "b": b}, "a", "b"))
		n = step(n)
		if len(b.received()) != 10 {
			t.Fatalf("b has %d records, want the 10 that a could not take", len(b.received()))
		}
		a.set(func() { a.down, a.breakAt = false, nil })
		time.Sleep(time.Minute)
		before := len(a.received())
		n = step(n)
		if len(a.received()) != before+10 || len(b.received()) != 10 {
			t.Fatalf("after a is back: a got %d, b has %d", len(a.received())-before, len(b.received()))
		}
		check(t, append(a.received()[:30:30], append(b.received(), a.received()[30:]...)...), "s", n)
	})
}

func TestAllCollectorsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &peer{down: true}, &peer{down: true}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a, "b": b}, "a", "b"))
		m.write(frames(t, 0, 500))
		m.end()
		time.Sleep(time.Hour)
		a.set(func() {
			if a.dials > 800 {
				t.Errorf("%d dials in an hour: no back-off", a.dials)
			}
		})
		if m.Cursor() != 0 || s.Len() != 1 {
			t.Errorf("cursor %d, %d streams", m.Cursor(), s.Len())
		}
		b.set(func() { b.down = false })
		time.Sleep(time.Minute)
		check(t, b.received(), "s", 500)
	})
}

func TestTornFramesCorruptionAndGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		m.write(frames(t, -5, 5)) // evicted before it was shipped
		m.start = uint64(len(m.data))
		m.write(frames(t, 0, 10))
		m.write(make([]byte, 100)) // zeros
		m.write(frames(t, 10, 10))
		m.write(frames(t, 99, 1)[:7]) // torn off: the engine died
		m.restart()
		m.write(frames(t, 20, 10))
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a}, "a"))
		m.end()
		time.Sleep(time.Minute)
		got := a.received()
		if marker := fmt.Sprintf("s %d [dockline] %d bytes", record.MarkID(0, m.start), m.start); !strings.HasPrefix(got[0], marker) {
			t.Errorf("first came %q, want the mark of a loss, %q", got[0], marker)
		}
		if len(got) < 12 || !strings.Contains(got[11], "[dockline] 100 bytes of this container's output are damaged") {
			t.Fatalf("after the tenth came %q, want the mark of the damage", got)
		}
		check(t, slices.Concat(got[1:11], got[12:]), "s", 30)
		if len(m.bad) != 107 || s.Stats.QuarantinedBytes.Load() != 107 {
			t.Errorf("%d bytes in quarantine, %d counted; want 107", len(m.bad), s.Stats.QuarantinedBytes.Load())
		}
		if s.Stats.LostBytes.Load() != m.start {
			t.Errorf("%d bytes counted as lost, want %d", s.Stats.LostBytes.Load(), m.start)
		}
		if m.Cursor() != uint64(len(m.data)) {
			t.Errorf("cursor %d of %d", m.Cursor(), len(m.data))
		}
	})
}

func TestARestartedContainerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		pool := poolOf(map[string]*peer{"a": a}, "a")
		for run := range 5 {
			add(t, s, m, "s", pool)
			add(t, s, m, "s", pool) // twice is once
			m.write(frames(t, run*10, 10))
			m.end()
			time.Sleep(time.Second)
			if s.Len() != 0 {
				t.Fatalf("run %d: still held", run)
			}
			m.restart()
		}
		check(t, a.received(), "s", 50)
	})
}

func TestAFrameLargerThanTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		var enc record.Encoder
		big, err := enc.Append(nil, false, 1, bytes.Repeat([]byte("x"), 5*windowBytes))
		if err != nil {
			t.Fatal(err)
		}
		m.write(big[:100])
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a}, "a"))
		time.Sleep(time.Second)
		m.write(big[100:])
		time.Sleep(time.Second)
		if got := a.received(); len(got) != 1 || len(got[0]) < 5*windowBytes {
			t.Fatalf("got %d records", len(got))
		}
		m.write(binary.BigEndian.AppendUint32(nil, 1<<30)) // over the bound: never allocated
		m.write(make([]byte, 100))
		time.Sleep(time.Second)
		if s.Stats.QuarantinedBytes.Load() == 0 {
			t.Error("an impossible length was not noticed")
		}
		m.end()
	})
}

// Collectors that neither read nor acknowledge hold up the plugin's stop once,
// not for each thing that they do not do: the engine kills soon.
func TestCloseWaitsOnce(t *testing.T) {
	for name, p := range map[string]*peer{
		"mute": {silent: true}, "in the middle of a batch": {silent: true, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := New(quiet), newMemory()
				add(t, s, m, "s", poolOf(map[string]*peer{"p": p}, "p"))
				m.write(frames(t, 0, 20))
				time.Sleep(time.Second)
				m.write(frames(t, 20, 20))
				time.Sleep(time.Second)
				began := time.Now()
				s.Close()
				if took := time.Since(began); took > drainTime {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
