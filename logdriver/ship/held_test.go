package ship

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a collector has acknowledged is told before the cursor passes it, with
// who holds it; what it did not acknowledge is not.
func TestWhatIsHeldIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &peer{}, &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		var mu sync.Mutex
		held := map[string]uint64{}
		s.Held = func(meta *Meta, pool, collector string, h Held) {
			mu.Lock()
			defer mu.Unlock()
			if meta.Stream != "s" || pool != "a,b" || h.First < 1 || h.Last > 100 || h.First > h.Last || h.Bytes < h.Records {
				t.Errorf("told of %s, %s, %+v", meta.Stream, pool, h)
			}
			sum := held["a"] + held["b"]
			if told := m.Cursor(); told > uint64(len(frames(t, 0, int(sum)))) {
				t.Errorf("the cursor is at %d when %d records are told of", told, sum)
			}
			held[collector] += h.Records
		}
		add(t, s, m, "s", poolOf(map[string]*peer{"a": a, "b": b}, "a", "b"))
		m.write(frames(t, 0, 100))
		time.Sleep(time.Minute)
		s.Close()
		s2 := New(quiet) // which finds a breaking its connections
		defer s2.Close()
		s2.Held = s.Held
		a.set(func() { a.breakAt = func() (int, int) { return 0, 0 } })
		add(t, s2, m, "s", poolOf(map[string]*peer{"a": a, "b": b}, "a", "b"))
		m.write(frames(t, 100, 30))
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if held["a"] != 100 || held["b"] != 30 || len(a.received()) != 100 {
			t.Errorf("told of %v; a has %d, b has %d", held, len(a.received()), len(b.received()))
		}
	})
}
