package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func takes(owner string, out outcome, begin, end time.Duration) call {
	return call{ask{take, owner}, out, begin, end}
}

func frees(owner string, out outcome, begin, end time.Duration) call {
	return call{ask{free, owner}, out, begin, end}
}

// What is found and what is not: the first are histories as they should be, the
// others have a duplicate, or an answer that was not true, in them.
func TestHistories(t *testing.T) {
	for name, c := range map[string]struct {
		history []call
		good    bool
	}{
		"one after the other": {good: true, history: []call{
			takes("a", done, 1, 2), frees("a", done, 3, 4), takes("b", done, 5, 6),
		}},
		"a release and a claim at once": {good: true, history: []call{
			takes("a", done, 1, 2), frees("a", done, 3, 8), takes("b", done, 4, 5),
		}},
		"a release that nobody answered": {good: true, history: []call{
			takes("a", done, 1, 2), frees("a", unclear, 3, forever), takes("b", done, 50, 51),
		}},
		"one of two at once": {good: true, history: []call{
			takes("a", done, 1, 9), takes("b", refused, 2, 8), frees("a", done, 10, 11),
		}},
		"refused because of a claim that nobody answered": {good: true, history: []call{
			takes("a", unclear, 1, forever), takes("b", refused, 5, 6), takes("c", done, 70, 71),
		}},
		"refused although a release may have happened": {good: true, history: []call{
			takes("a", done, 1, 2), frees("a", unclear, 3, forever), takes("b", refused, 5, 6), takes("c", done, 70, 71),
		}},
		"a duplicate": {history: []call{
			takes("a", done, 1, 2), takes("b", done, 3, 4),
		}},
		"a duplicate before the release": {history: []call{
			takes("a", done, 1, 2), takes("b", done, 3, 4), frees("a", done, 5, 6),
		}},
		"two at once": {history: []call{
			takes("a", done, 1, 9), takes("b", done, 2, 8),
		}},
		"a claim that nobody answered excuses no duplicate": {history: []call{
			takes("x", unclear, 0, forever), takes("a", done, 1, 2), takes("b", done, 3, 4),
		}},
		"a release that happens twice": {history: []call{
			takes("a", done, 1, 2), frees("a", done, 3, 4), takes("b", done, 5, 6), frees("a", done, 7, 8), takes("c", done, 9, 10),
		}},
		"refused although it is free": {history: []call{
			takes("a", done, 1, 2), frees("a", done, 3, 4), takes("b", refused, 5, 6),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			l.history[netip.MustParseAddr("192.0.2.1")] = c.history
			if bad, _ := l.check(); (len(bad) == 0) != c.good {
				t.Errorf("found %v", bad)
			}
		})
	}
}

// What is not known may be much, and takes no time.
func TestALongHistoryWithMuchUnclear(t *testing.T) {
	l := newLedger()
	a := netip.MustParseAddr("192.0.2.1")
	for i := range 500 {
		owner := fmt.Sprint("box-", i)
		l.refused(a, "another "+owner, l.now(), unclear)
		l.taken(a, owner, l.now())
		l.refused(a, "a third "+owner, l.now(), refused)
		l.released(a, owner, l.releasing(a, owner), []outcome{done, unclear}[i%2])
	}
	if bad, _ := l.check(); len(bad) != 0 {
		t.Errorf("found %v", bad)
	}
}

// One duplicate among the honest histories of many addresses is found by both:
// who has it at the moment, and the order of calls.
func TestAPlantedDuplicate(t *testing.T) {
	for _, plant := range []bool{false, true} {
		l := newLedger()
		for i := range 2000 {
			a := netip.AddrFrom4([4]byte{10, 0, byte(i % 7), byte(i % 50)})
			owner := fmt.Sprint("box-", i)
			l.taken(a, owner, l.now())
			if plant && i == 1234 {
				l.taken(a, "the other", l.now())
				l.released(a, "the other", l.releasing(a, "the other"), done)
			}
			l.released(a, owner, l.releasing(a, owner), done)
		}
		bad, calls := l.check()
		if calls < 4000 || (len(bad) == 1) != plant || (len(l.duplicates) == 1) != plant {
			t.Errorf("planted %v: found %v and %v in %d calls", plant, bad, l.duplicates, calls)
		}
	}
}
