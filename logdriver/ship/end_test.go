package ship

import (
	"testing"
	"testing/synctest"
	"time"
)

// A stream that is to end lets go of what collectors have not been sent, waits
// for what they have, and leaves the rest to the pool that takes the place.
func TestEnd(t *testing.T) {
	for name, ail := range map[string]func(*peer){
		"nobody is reached":            func(p *peer) { p.down = true },
		"one acknowledges nothing yet": func(p *peer) { p.silent = true },
		"one does not read":            func(p *peer) { p.full = true },
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { endSpread(t, ail) }) })
	}
}

func endSpread(t *testing.T, ail func(*peer)) {
	const n = 5000
	peers, others := peersNamed("a b"), peersNamed("x y")
	for _, p := range peers {
		p.set(func() { ail(p) })
	}
	m := newMemory()
	m.write(frames(t, 0, n))
	s := New(quiet)
	defer s.Close()
	addSpread(s, m, "s", membersOf(peers, nil))
	other := newMemory() // it stays, and is not let go of
	addSpread(s, other, "other", membersOf(peers, nil))
	if !peers["a"].full { // what one does not read is all of the first
		other.write(frames(t, 0, 100))
	}
	time.Sleep(3 * time.Second)
	if peers["a"].full {
		other.write(frames(t, 0, 100))
	}
	m.end() // as the source of a route does that changes hands
	s.End("s", "pool")
	time.Sleep(time.Second)
	sent := len(tally(t, peers, "s", false))
	if sent == 0 == s.Has("s", "pool") {
		t.Fatalf("%d records have been sent, and it is still shipped: %v", sent, s.Has("s", "pool"))
	}
	for _, p := range peers {
		p.set(func() { p.silent, p.full = false, false })
	}
	time.Sleep(2 * sendTimeout)
	if s.Has("s", "pool") {
		t.Fatal("it is still shipped")
	}
	next := membersOf(others, nil)
	next.ID = "next"
	addSpread(s, m, "s", next)
	time.Sleep(10 * time.Second)
	for name, p := range others {
		peers[name] = p
	}
	twice := wantEach(t, tally(t, peers, "s", false), n)
	if m.Cursor() != uint64(len(m.data)) || twice > sent {
		t.Errorf("acknowledged %d of %d; %d of %d that were sent came twice", m.Cursor(), len(m.data), twice, sent)
	}
	for _, p := range peers {
		p.set(func() { p.down = false })
	}
	time.Sleep(time.Minute)
	wantEach(t, tally(t, peers, "other", false), 100)
	if held := s.pools["pool"].sorter.held.Load(); held != 0 {
		t.Errorf("%d bytes are still taken for under way", held)
	}
}
