package ship

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// membersOf is a pool of peers in which each key has an order of its own that
// does not change for those that stay.
func membersOf(peers map[string]*peer, ids map[string]string) Pool {
	p := Pool{ID: "pool"}
	for name, peer := range peers {
		p.Collectors = append(p.Collectors, Collector{Name: name, ID: ids[name], Sink: peer})
	}
	names := slices.Collect(maps.Keys(peers))
	p.Rank = func(key string) []string { return rank(names, key) }
	p.Share = func(_ string, names []string, slice uint64) string { return names[slice%uint64(len(names))] }
	p.Among = func(names []string) func([]byte) string {
		return func(key []byte) string { return rank(names, string(key))[0] }
	}
	return p
}

func rank(names []string, key string) []string {
	draw := func(name string) uint32 {
		h := fnv.New32a()
		h.Write([]byte(key + " " + name))
		return h.Sum32()
	}
	ranked := slices.Clone(names)
	slices.SortFunc(ranked, func(a, b string) int { return int(int64(draw(a)) - int64(draw(b))) })
	return ranked
}

// where returns the collectors of a stream, by pool.
func where(s *Shipper, stream string) map[string]string {
	at := map[string]string{}
	for _, p := range s.Places() {
		if p.Stream == stream {
			at[p.Pool] = p.Collector
		}
	}
	return at
}

// Whoever joins, leaves, is replaced or all of it, nothing is lost, repeated or
// out of order: a stream moves when nothing of it is under way.
func TestPoolsChangeUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, rounds, perRound = 12, 80, 5
		rnd := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		var arrived []string // anywhere, in order
		peers, ids := map[string]*peer{}, map[string]string{}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			peers[name] = &peer{tell: func(l string) {
				mu.Lock()
				defer mu.Unlock()
				arrived = append(arrived, l)
			}}
		}
		s := New(quiet)
		defer s.Close()
		var all []*memory
		for i := range streams {
			all = append(all, newMemory())
			add(t, s, all[i], fmt.Sprint("s", i), membersOf(peers, ids))
		}
		for round := range rounds {
			for i, m := range all {
				if i%4 != 3 || round == 7 { // some are quiet
					m.write(frames(t, round*perRound, perRound))
				} else if round < 7 {
					m.write(frames(t, round*perRound, perRound))
				}
			}
			some := map[string]*peer{}
			for name, p := range peers {
				if rnd.IntN(3) > 0 {
					some[name] = p
				}
				if rnd.IntN(5) == 0 {
					ids[name] = fmt.Sprint(round) // its address has changed
				}
			}
			if round%16 == 15 {
				some = nil
			}
			s.Update(membersOf(some, ids))
			time.Sleep(time.Duration(rnd.IntN(12)) * time.Millisecond)
		}
		s.Update(membersOf(nil, nil))
		time.Sleep(time.Second)
		all[0].write(frames(t, rounds*perRound, 1))
		time.Sleep(time.Minute)
		if got := s.Collectors(); len(got) != 0 {
			t.Errorf("of an empty pool there are %v", got)
		}
		if at := where(s, "s0"); at["pool"] != "" {
			t.Errorf("a stream goes to %v of an empty pool", at)
		}
		s.Update(membersOf(map[string]*peer{"b": peers["b"]}, ids))
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		for i, m := range all {
			n := rounds * perRound
			switch {
			case i == 0:
				n++
			case i%4 == 3:
				n = 8 * perRound
			}
			if d := check(t, arrived, fmt.Sprint("s", i), n); d != 0 {
				t.Errorf("stream %d: %d duplicates", i, d)
			}
			if m.Cursor() != uint64(len(m.data)) {
				t.Errorf("stream %d: acknowledged %d of %d", i, m.Cursor(), len(m.data))
			}
		}
		if got := s.Collectors(); len(got) != 1 || got[0].Name != "b" || !got[0].Healthy || got[0].Streams != streams {
			t.Errorf("there are %+v", got)
		}
		for _, m := range all {
			m.end() // all of it has arrived: nobody waits for mu
		}
		time.Sleep(time.Second)
		if s.Len() != 0 {
			t.Errorf("%d streams are left", s.Len())
		}
		s.lanes.Wait() // for ever, if one of a collector that left is still there
	})
}

// A collector that joins gets its own streams; the others stay where they are.
func TestOnlyTheKeysOfTheNewcomerMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := map[string]*peer{"a": {}, "b": {}}
		s := New(quiet)
		defer s.Close()
		for i := range 40 {
			add(t, s, newMemory(), fmt.Sprint("s", i), membersOf(peers, nil))
		}
		where := func() map[string]string {
			at := map[string]string{}
			for i := range 40 {
				at[fmt.Sprint("s", i)] = where(s, fmt.Sprint("s", i))["pool"]
			}
			return at
		}
		before := where()
		peers["c"] = &peer{}
		s.Update(membersOf(peers, nil))
		time.Sleep(time.Millisecond)
		moved := 0
		for stream, name := range where() {
			if name != before[stream] {
				moved++
				if name != "c" {
					t.Errorf("%s went from %s to %s", stream, before[stream], name)
				}
			}
		}
		if moved == 0 || moved == 40 {
			t.Errorf("%d of 40 streams moved", moved)
		}
		delete(peers, "c")
		s.Update(membersOf(peers, nil))
		time.Sleep(time.Millisecond)
		if after := where(); !maps.Equal(before, after) {
			t.Errorf("it left, and the streams are at %v, before it came at %v", after, before)
		}
	})
}

// A collector that leaves in the middle of everything has its acknowledgements
// waited for; one that gives none does not keep its streams for ever.
func TestACollectorThatLeavesIsFinishedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &peer{silent: true}, &peer{}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", membersOf(map[string]*peer{"a": a}, nil))
		m.write(frames(t, 0, 10))
		time.Sleep(time.Second)
		s.Update(membersOf(map[string]*peer{"b": b}, nil))
		time.Sleep(time.Second)
		if got := s.Collectors(); len(got) != 2 || len(b.received()) > 0 {
			t.Errorf("while records are under way to the one that leaves there are %+v, and the other got %q", got, b.received())
		}
		a.set(func() { a.silent = false })
		m.write(frames(t, 10, 10))
		time.Sleep(10 * time.Minute) // longer than any time-out
		got := strings.Join(append(a.received(), b.received()...), "\n")
		check(t, strings.Split(got, "\n"), "s", 20)
		if st := s.Collectors(); len(st) != 1 || st[0].Name != "b" {
			t.Errorf("in the end there are %+v", st)
		}
	})
}

// A stream goes to several pools, each at its own pace, and can be taken out of one.
func TestAStreamInSeveralPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &peer{}, &peer{down: true}
		s := New(quiet)
		defer s.Close()
		m1, m2 := newMemory(), newMemory()
		pa, pb := poolOf(map[string]*peer{"a": a}, "a"), poolOf(map[string]*peer{"b": b}, "b")
		add(t, s, m1, "s", pa)
		add(t, s, m2, "s", pb)
		for _, m := range []*memory{m1, m2} {
			m.write(frames(t, 0, 50))
		}
		time.Sleep(time.Second)
		check(t, a.received(), "s", 50)
		if at := where(s, "s"); !maps.Equal(at, map[string]string{"a": "a", "b": "b"}) {
			t.Errorf("it goes to %v", at)
		}
		s.Remove("s", "b")
		s.Remove("s", "b")
		b.set(func() { b.down = false })
		m2.write(frames(t, 50, 1))
		time.Sleep(time.Minute)
		if len(b.received()) > 0 || s.Len() != 1 {
			t.Errorf("after it was taken out %q came, and %d are left", b.received(), s.Len())
		}
	})
}
