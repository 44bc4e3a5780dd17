package ship

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The trouble is the last, since the first.
func TestTroubleIsSinceTheFirst(t *testing.T) {
	l := newLane(Collector{Name: "a", Sink: narrow{}}, quiet, &Stats{}, nil)
	l.inTrouble(errors.New("refused"))
	first := l.trouble.Load().Since
	l.inTrouble(errors.New("no route"))
	if got := *l.trouble.Load(); got.Err != "no route" || !got.Since.Equal(first) {
		t.Errorf("%+v, not since %v", got, first)
	}
}

// hangsUp is a peer that ends its last connection when it is told to.
type hangsUp struct {
	*peer
	last Conn
}

func (h *hangsUp) Dial(ctx context.Context) (conn Conn, err error) {
	conn, err = h.peer.Dial(ctx)
	h.set(func() { h.last = conn })
	return conn, err
}

// A collector that ends a connection on which nothing is under way is in no
// trouble: it may be the next hour before anything is for it. One that cannot be
// reached then is.
func TestAQuietEndIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &hangsUp{peer: &peer{}}
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		add(t, s, m, "s", Pool{ID: "a", Rank: func(string) []string { return []string{"a"} }, Collectors: []Collector{{Name: "a", Sink: a}}})
		step := func(from int, down bool) *Trouble {
			a.set(func() { a.down = down })
			m.write(frames(t, from, 10))
			time.Sleep(time.Minute)
			return s.Collectors()[0].Trouble
		}
		hangUp := func() {
			var last Conn
			a.set(func() { last = a.last })
			_ = last.Close()
			time.Sleep(time.Minute)
		}
		step(0, false)
		hangUp()
		if got := s.Collectors()[0].Trouble; got != nil || s.Stats.Failures.Load() != 1 {
			t.Errorf("trouble %+v after %d failures", got, s.Stats.Failures.Load())
		}
		if got := step(10, true); got == nil || got.Err != "connection refused" {
			t.Errorf("it is down: %+v", got)
		}
		if got := step(20, false); got != nil {
			t.Errorf("it is back: %+v", got)
		}
		check(t, a.received(), "s", 30)
	})
}

// What a collector has taken is counted for a while after nothing goes there any
// more, also where nobody looked meanwhile.
func TestCountsOutliveTheirCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(quiet)
		defer s.Close()
		m := newMemory()
		pool := poolOf(map[string]*peer{"a": {}}, "a")
		add(t, s, m, "s", pool)
		m.write(frames(t, 0, 10))
		time.Sleep(3 * time.Hour)
		s.Remove("s", pool.ID)
		time.Sleep(time.Minute)
		if c := s.Counts(time.Hour)["a"]; c == nil || c.Acked.Load() != 10 || len(s.Collectors()) != 0 {
			t.Errorf("%+v, collectors %+v", c, s.Collectors())
		}
		time.Sleep(time.Hour)
		if c := s.Counts(time.Hour); len(c) > 0 {
			t.Errorf("after an hour: %v", c)
		}
	})
}
