package spool

import (
	"errors"
	"math"
	"slices"
	"testing"
)

// Two routes with policies of their own: of what only the one misses the oldest
// goes, and what the other misses stays, slowly.
func TestPoliciesOfRoutes(t *testing.T) {
	for _, tc := range []struct {
		name, dead, alive string
		slow              bool
	}{{"the one that drops its oldest is dead", "lossy", "whole", false}, {"the one that does not is dead", "whole", "lossy", true}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := small(t, dir, nil)
			w := newWriter(t, s, 1, Params{OfRoutes: OfRoutes{"whole": Throttle}})
			st := w.se.Stream()
			if err := st.RenameRoute("a", "lossy"); err != nil {
				t.Fatal(err)
			}
			if err := st.AddRoute("whole"); err != nil {
				t.Fatal(err)
			}
			for w.next < 60_000 {
				if slow, _ := w.se.Slow(); slow != tc.slow && slow {
					t.Fatalf("slow after %d frames", w.next)
				} else if slow {
					break
				}
				w.write(100)
				if err := st.Ack(tc.alive, st.End()); err != nil {
					t.Fatal(err)
				}
			}
			if lost := droppedBy(s, "drop-oldest").Bytes; tc.slow != (lost == 0) {
				t.Errorf("%d bytes were dropped, of the oldest", lost)
			}
			if d := droppedBy(s, "throttle"); d.Bytes > 0 {
				t.Errorf("dropped: %+v", d)
			}
			if tc.slow && st.Start() != 0 {
				t.Error("what is protected was evicted")
			}
			again := small(t, dir, nil) // what the routes want is remembered
			if got := again.Of(st.Container()).header.OfRoutes["whole"]; got != Throttle {
				t.Errorf("after a restart: %v", got)
			}
		})
	}
}

// A route that wants only what is before an offset holds nothing back behind it.
func TestRouteUntil(t *testing.T) {
	dir := t.TempDir()
	s := small(t, dir, nil)
	w := newWriter(t, s, 1, Params{})
	w.write(10)
	st := w.se.Stream()
	until := st.End()
	leaving := RouteUntil("a", until)
	if err := st.RenameRoute("a", leaving); err != nil {
		t.Fatal(err)
	}
	if err := st.AddRouteAt("b", until); err != nil {
		t.Fatal(err)
	}
	w.write(10)
	look := func(s *Spool) {
		t.Helper()
		st := s.Of(w.se.Stream().Container())
		if got := st.Routes(); !slices.Equal(got, []string{leaving, "b"}) {
			t.Errorf("routes %v", got)
		}
		if n, _ := st.Backlog(leaving); n != until {
			t.Errorf("%d bytes are wanted of %d", n, until)
		}
		if n, _ := st.Backlog("b"); n != st.End()-until {
			t.Errorf("%d bytes are wanted by the other of %d", n, st.End()-until)
		}
		if n, since := st.FurthestBehind(); n != max(until, st.End()-until) || since.IsZero() || !st.Undelivered() {
			t.Errorf("%d bytes are wanted since %v", n, since)
		}
	}
	look(s)
	look(small(t, dir, nil))
	if err := st.Ack(leaving, until); err != nil {
		t.Fatal(err)
	}
	if st.Owed(leaving) || !st.Owed("b") || !st.Undelivered() {
		t.Error("the route that has all that it wants is owed more, or the other nothing")
	}
	if err := st.Ack("b", st.End()); err != nil {
		t.Fatal(err)
	}
	if st.Undelivered() || !Leaving(leaving) || Leaving("b") {
		t.Error("all is delivered, and one of the two is leaving")
	}
	st.mu.Lock()
	if got := st.ackedLocked(); got != st.end {
		t.Errorf("%d of %d is acknowledged by all", got, st.end)
	}
	st.mu.Unlock()
	for route, want := range map[string]uint64{"web": math.MaxUint64, "web_until_1f": 31, "web_until_": math.MaxUint64} {
		if _, got := SplitRoute(route); got != want {
			t.Errorf("%s ends at %d", route, got)
		}
	}
	if err := st.RenameRoute("nobody", "c"); err == nil {
		t.Error("a route that is not there was renamed")
	}
	if err := st.RenameRoute("b", leaving); err == nil {
		t.Error("a route took the place of another")
	}
}

// A disk that refuses to rename a cursor leaves it as it was, also for those who
// acknowledge meanwhile.
func TestRenameThatFails(t *testing.T) {
	dir := t.TempDir()
	refuse := false
	s := small(t, dir, func(op string) error {
		if refuse && op == "rename" {
			return errors.New("the disk says no")
		}
		return nil
	})
	w := newWriter(t, s, 1, Params{})
	w.write(10)
	st := w.se.Stream()
	refuse = true
	if err := st.RenameRoute("a", "b"); err == nil {
		t.Error("it was renamed")
	}
	refuse = false
	w.ack(frameBytes)
	if err := st.RenameRoute("a", "b"); err != nil {
		t.Fatal(err)
	}
	if err := st.Ack("b", 2*frameBytes); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Spool{s, small(t, dir, nil)} {
		st := s.Of(st.Container())
		if got := st.Routes(); !slices.Equal(got, []string{"b"}) || st.Cursor("b") != 2*frameBytes {
			t.Errorf("routes %v, b at %d", got, st.Cursor("b"))
		}
	}
}
