package ship

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// addSpread adds a stream whose records are placed one by one.
func addSpread(s *Shipper, src Source, stream string, p Pool) {
	s.Add(src, &Meta{Stream: stream}, p, Key{Value: stream, PerRecord: true})
}

func peersNamed(names string) map[string]*peer {
	all := map[string]*peer{}
	for _, n := range strings.Fields(names) {
		all[n] = &peer{}
	}
	return all
}

// tally counts how often each record of a stream came, and looks whether each
// collector got its own in order.
func tally(t *testing.T, peers map[string]*peer, stream string, ordered bool) map[int]int {
	t.Helper()
	count := map[int]int{}
	for name, p := range peers {
		last := -1
		for _, l := range p.received() {
			f := strings.Fields(l)
			if f[0] != stream {
				continue
			}
			n, err := strconv.Atoi(f[2])
			if err != nil {
				t.Fatal(err)
			}
			if count[n]++; ordered && n <= last {
				t.Errorf("%s got %d after %d", name, n, last)
			}
			last = n
		}
	}
	return count
}

func wantEach(t *testing.T, count map[int]int, n int) (twice int) {
	t.Helper()
	for i := range n {
		if count[i] == 0 {
			t.Fatalf("record %d of %d did not come", i, n)
		}
		twice += count[i] - 1
	}
	if len(count) != n {
		t.Errorf("%d different records came, want %d", len(count), n)
	}
	return twice
}

// Every record goes to the collector that its own id selects, once, and each
// collector gets its records in order.
func TestRecordsAreSpreadByTheirIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		peers := peersNamed("a b c d e")
		s := New(quiet)
		defer s.Close()
		m, plain := newMemory(), newMemory()
		addSpread(s, m, "s", membersOf(peers, nil))
		add(t, s, plain, "plain", membersOf(peers, nil)) // beside it
		for i := range 50 {
			m.write(frames(t, i*n/50, n/50))
			plain.write(frames(t, i, 1))
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if twice := wantEach(t, tally(t, peers, "s", true), n); twice > 0 {
			t.Errorf("%d came twice", twice)
		}
		wantEach(t, tally(t, peers, "plain", true), 50)
		names := slices.Collect(maps.Keys(peers))
		for name, p := range peers {
			got := 0
			for _, l := range p.received() {
				f := strings.Fields(l)
				offset, err := strconv.ParseUint(f[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if id := fmt.Sprintf("s-%016x", offset); f[0] == "s" && rank(names, id)[0] != name {
					t.Fatalf("%s is at %s, it belongs to %s", id, name, rank(names, id)[0])
				}
				got++
			}
			if got < n/20 {
				t.Errorf("%s got %d of %d records", name, got, n)
			}
		}
		if m.Cursor() != uint64(len(m.data)) || len(m.beyond) > 0 {
			t.Errorf("acknowledged %d of %d, and %v", m.Cursor(), len(m.data), m.beyond)
		}
		m.end()
		plain.end()
		time.Sleep(time.Second)
		if s.Len() != 0 {
			t.Errorf("%d ended streams are still held", s.Len())
		}
	})
}

// A collector that does not acknowledge holds back as much as the bounded
// ranges let it, and when the plugin starts again the others receive nothing twice.
func TestASlowCollectorNeitherPinsNorRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20000
		peers := peersNamed("a b c d e")
		peers["c"].silent = true
		m := newMemory()
		m.write(frames(t, 0, n))
		s := New(quiet)
		addSpread(s, m, "s", membersOf(peers, nil))
		time.Sleep(5 * time.Second)
		others := 0
		for name, p := range peers {
			if name != "c" {
				others += len(p.received())
			}
		}
		if others < MaxRanges || others == n {
			t.Errorf("the others got %d records", others)
		}
		s.Close()
		if len(m.beyond) < MaxRanges/10 {
			t.Errorf("%d ranges are noted", len(m.beyond))
		}
		if m.tooMany {
			t.Errorf("more than %d ranges were to be noted", MaxRanges)
		}
		slow := slices.Clone(peers["c"].received())
		peers["c"].set(func() { peers["c"].silent, peers["c"].got = false, nil })
		s = New(quiet)
		defer s.Close()
		addSpread(s, m, "s", membersOf(peers, nil))
		time.Sleep(time.Minute)
		if twice := wantEach(t, tally(t, peers, "s", true), n); twice > 0 {
			t.Errorf("%d came twice, and not to the slow one", twice)
		}
		if len(slow) == 0 || m.Cursor() != uint64(len(m.data)) {
			t.Errorf("the slow one had %d, acknowledged %d of %d", len(slow), m.Cursor(), len(m.data))
		}
	})
}

// What a collector that goes down has not acknowledged goes to the next in the
// rank of each record, and comes to it again when it is back.
func TestRecordsOfOneThatIsDownGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const round = 1000
		peers := peersNamed("a b c d")
		b := peers["b"]
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		addSpread(s, m, "s", membersOf(peers, nil))
		b.set(func() { b.breakAt = func() (int, int) { return 1, 0 } }) // takes one batch and dies
		m.write(frames(t, 0, round))
		time.Sleep(time.Millisecond)
		b.set(func() { b.down = true })
		time.Sleep(10 * time.Second)
		m.write(frames(t, round, round))
		time.Sleep(10 * time.Second)
		count := tally(t, peers, "s", false)
		if twice := wantEach(t, count, 2*round); twice != len(b.received()) || twice == 0 {
			t.Errorf("%d came twice, of %d that were under way", twice, len(b.received()))
		}
		atB := len(b.received())
		b.set(func() { b.down, b.breakAt = false, nil })
		time.Sleep(time.Minute)
		m.write(frames(t, 2*round, round))
		time.Sleep(10 * time.Second)
		wantEach(t, tally(t, peers, "s", false), 3*round)
		if got := len(b.received()) - atB; got < round/20 {
			t.Errorf("it is back and got %d of %d records", got, round)
		}
		if m.Cursor() != uint64(len(m.data)) {
			t.Errorf("acknowledged %d of %d", m.Cursor(), len(m.data))
		}
	})
}

// Whoever joins, leaves, comes back or dies, nothing is lost.
func TestPoolsChangeUnderSpreadRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds, perRound = 120, 40
		rnd := rand.New(rand.NewPCG(5, 6))
		peers, ids := peersNamed("a b c d e"), map[string]string{}
		s := New(quiet)
		defer s.Close()
		m, m2 := newMemory(), newMemory()
		addSpread(s, m, "s", membersOf(peers, ids))
		addSpread(s, m2, "t", membersOf(peers, ids))
		for round := range rounds {
			m.write(frames(t, round*perRound, perRound))
			m2.write(frames(t, round*perRound, perRound))
			some := map[string]*peer{}
			for name, p := range peers {
				if rnd.IntN(3) > 0 {
					some[name] = p
				}
				p.set(func() { p.down = rnd.IntN(4) == 0 })
				if rnd.IntN(5) == 0 {
					ids[name] = fmt.Sprint(round)
				}
				if rnd.IntN(6) == 0 {
					p.set(func() { p.breakAt = func() (int, int) { return 0, 0 } })
				} else {
					p.set(func() { p.breakAt = nil })
				}
			}
			if round%16 == 15 {
				some = nil
			}
			s.Update(membersOf(some, ids))
			time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		}
		for _, p := range peers {
			p.set(func() { p.down, p.breakAt = false, nil })
		}
		s.Update(membersOf(map[string]*peer{"a": peers["a"], "b": peers["b"]}, ids))
		time.Sleep(5 * time.Minute)
		for _, stream := range []string{"s", "t"} {
			wantEach(t, tally(t, peers, stream, false), rounds*perRound)
		}
		if m.Cursor() != uint64(len(m.data)) || m2.Cursor() != uint64(len(m2.data)) {
			t.Errorf("acknowledged %d of %d, %d of %d", m.Cursor(), len(m.data), m2.Cursor(), len(m2.data))
		}
		if got := s.Collectors(); len(got) != 2 {
			t.Errorf("in the end there are %+v", got)
		}
		m.end()
		m2.end()
		time.Sleep(time.Second)
		if s.Len() != 0 {
			t.Errorf("%d streams are left", s.Len())
		}
		s.lanes.Wait() // for ever, if one of a collector that left is still there
	})
}

// Wherever the process dies, what the next one sends and what this one sent are
// together all there is, whatever is in the stream, and lines are whole.
func TestKilledAmidRanges(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { killAmidRanges(t, seed) })
	}
}

func killAmidRanges(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	peers := peersNamed("a b c d")
	m, want := newMemory(), map[string]bool{}
	var pieces [2]string // of lines that are not at their end yet
	for i := range 3000 {
		at := rnd.IntN(2)
		switch rnd.IntN(6) {
		case 0:
			text := fmt.Sprintf("p%d-%d.", i, rnd.IntN(1000))
			pieces[at] += text
			m.data = append(m.data, chunk(t, sourceNames[at], text, false)...)
		case 1:
			if pieces[at] != "" {
				want[pieces[at]+"end"] = true
				m.data = append(m.data, chunk(t, sourceNames[at], "end", true)...)
				pieces[at] = ""
			}
		default:
			m.data = append(m.data, frames(t, i, 1)...)
			want[strconv.Itoa(i)] = true
		}
		if i == 1500 {
			m.data = append(m.data, make([]byte, 50)...) // damage
		}
	}
	for i := range pieces {
		if pieces[i] != "" {
			want[pieces[i]] = true // when the container ends
		}
	}
	m.ended = true
	for run := 0; m.Cursor() < uint64(len(m.data)); run++ {
		if run > 200 {
			t.Fatalf("seed %d: acknowledged %d of %d", seed, m.Cursor(), len(m.data))
		}
		for _, p := range peers {
			p.set(func() { p.silent = run < 20 && rnd.IntN(2) == 0 })
		}
		s := New(quiet)
		addSpread(s, m, "s", membersOf(peers, nil))
		time.Sleep(time.Duration(rnd.IntN(12)) * time.Millisecond)
		m = crash(s, m)
	}
	got := map[string]bool{}
	for _, p := range peers {
		for _, l := range p.received() {
			line := strings.SplitN(l, " ", 3)[2]
			if !want[line] && !strings.HasPrefix(line, "[dockline] 50 bytes") {
				t.Fatalf("seed %d: nobody wrote %q", seed, line)
			}
			got[line] = true
		}
	}
	for line := range want {
		if !got[line] {
			t.Fatalf("seed %d: %q did not come", seed, line)
		}
	}
}

var sourceNames = [2]string{"stdout", "stderr"}
