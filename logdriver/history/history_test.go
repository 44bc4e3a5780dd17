package history

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIntervals(t *testing.T) {
	for _, tc := range []struct {
		name string
		note func(r *rig)
		want string
	}{
		{"a quiet container has one, however long it is quiet", func(r *rig) {
			for hour := range 24 {
				r.Note(batch(1, "a", float64(3600*hour), float64(3600*hour+1)))
			}
		}, "a 0-82801 240;"},
		{"a collector that was away for minutes", func(r *rig) {
			r.Note(batch(1, "a", 0, 10))
			r.Note(batch(1, "b", 11, 300))
			r.Note(batch(1, "a", 301, 400))
		}, "a 0-10 10;b 11-300 10;a 301-400 10;"},
		{"a key that is spread over three in time slices", func(r *rig) {
			for i := range 3600 {
				r.Note(batch(1, string("abc"[i%3]), float64(i), float64(i)+0.9))
			}
		}, "a 0-3597.9 12000~;b 1-3598.9 12000~;c 2-3599.9 12000~;"},
		{"acknowledged out of order", func(r *rig) {
			r.Note(batch(1, "a", 5, 6))
			r.Note(batch(1, "a", 3, 4))
			r.Note(batch(1, "a", 7, 8))
		}, "a 3-8 30;"},
		{"a clock that was set back", func(r *rig) {
			r.Note(batch(1, "a", 5000, 5001))
			r.Note(batch(1, "a", 100, 101))
			r.Note(batch(1, "a", 102, 103))
		}, "a 100-103 20;a 5000-5001 10;"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Options{Now: func() time.Time { return at(-10) }})
			tc.note(r)
			for _, when := range []string{"at once", "after a restart"} {
				if a := r.where("web-1", -1, 1e6); text(a) != tc.want {
					t.Errorf("%s: got  %s\nwant %s", when, text(a), tc.want)
				}
				r.restart()
			}
		})
	}
}

func TestQueryIsForATime(t *testing.T) {
	r := newRig(t, Options{Now: func() time.Time { return at(-1) }})
	r.Note(batch(1, "a", 0, 100))
	r.Note(batch(1, "b", 150, 200))
	r.Note(batch(2, "c", 0, 200))
	for _, tc := range []struct {
		from, to float64
		want     string
	}{
		{0, 500, "[a b]"}, {100, 120, "[a]"}, {101, 149, "[]"}, {150, 150, "[b]"}, {201, 300, "[]"}, {99, 150, "[a b]"},
	} {
		a := r.where("web-1", tc.from, tc.to)
		if got := fmt.Sprint(a.Collectors); got != tc.want || !a.Complete || !a.Exact {
			t.Errorf("%g..%g: %s, complete %v, exact %v; want %s", tc.from, tc.to, got, a.Complete, a.Exact, tc.want)
		}
	}
	if a := r.where("web-1", -100, 500); a.Complete || a.Exact || !a.KnownSince.Equal(at(-1)) {
		t.Errorf("before there was a history: complete %v, known since %v", a.Complete, a.KnownSince)
	}
	all, err := r.Where(Query{Container: "web-1"})
	if err != nil || len(all[0].Intervals) != 2 || all[0].Complete {
		t.Errorf("without bounds: %+v, %v", all, err)
	}
}

func TestWhoIsAskedFor(t *testing.T) {
	r := newRig(t, Options{})
	r.Note(batch(0x1a, "a", 0, 1))
	r.Note(batch(0x1b, "b", 0, 1))
	old := batch(0x2a, "c", 0, 1)
	old.Name, old.Created = "web-26", at(-2e6) // the one that was called so before
	old.Container, old.Stream = "dd"+old.Container[2:], "dd"+old.Stream[2:]
	r.Note(old)
	other := Container{ID: "ee" + old.Container[2:], Name: "new", Created: at(0)}
	for _, tc := range []struct{ name, want string }{
		{"web-27", "[b]"},
		{"/web-27", "[b]"},
		{"web-26", "[c] [a]"}, // 0x1a is 26
		{strings.Repeat("0", 62) + "1b", "[b]"},
		{"dd", "[c]"},
		{"DD00", "[c]"},
		{"new", "[]"},
		{"ee", "[]"},
	} {
		all, err := r.Where(Query{Container: tc.name}, other)
		var got []string
		for _, a := range all {
			got = append(got, fmt.Sprint(a.Collectors))
		}
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, %v; want %s", tc.name, got, err, tc.want)
		}
	}
	var none *NotFoundError
	for _, name := range []string{"web", "f", "", "web-26x"} {
		if _, err := r.Where(Query{Container: name}); !errors.As(err, &none) {
			t.Errorf("%q: %v", name, err)
		}
	}
	var several *AmbiguousError
	if _, err := r.Where(Query{Container: "00"}); !errors.As(err, &several) || len(several.IDs) != 2 {
		t.Errorf("00: %v", err)
	}
}

// A pool is not in the way of another: each holds everything.
func TestPoolsHoldRecordsEach(t *testing.T) {
	r := newRig(t, Options{})
	for i := range 10 {
		b := batch(1, "a", float64(i), float64(i)+1)
		r.Note(b)
		b.Pool, b.Collector = "archive", "z"
		r.Note(b)
	}
	if a := r.where("web-1", 0, 100); text(a) != "z 0-10 100;a 0-10 100;" || !a.Exact {
		t.Errorf("got %s, exact %v", text(a), a.Exact)
	}
}

// One stream with many intervals does not make the others' coarser.
func TestOneStreamBecomesCoarse(t *testing.T) {
	r := newRig(t, Options{})
	r.Note(batch(2, "a", 0, 1))
	r.Note(batch(2, "b", 100, 101))
	now := 0.0
	for i := range 2000 {
		now = float64(60 * i)
		r.set(now)
		r.Note(batch(1, string("ab"[i%2]), now, now+1))
	}
	a := r.where("web-1", 0, now+1)
	if n := len(a.Intervals); n > maxSpans || n < maxSpans/2 {
		t.Errorf("%d intervals", n)
	}
	slices.SortFunc(a.Intervals, func(x, y Interval) int { return y.From.Compare(x.From) })
	if last := a.Intervals[0]; last.Exact != true || last.From != last.To.Add(-time.Second) {
		t.Errorf("the last interval is %+v", last)
	}
	if got := text(r.where("web-2", 0, 1e6)); got != "a 0-1 10;b 100-101 10;" {
		t.Errorf("the other stream: %s", got)
	}
}

// What does not change a thing costs little: it allocates nothing and is not written.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	r := newRig(t, Options{})
	b := batch(1, "a", 0, 0.001)
	r.Note(b)
	if n := testing.AllocsPerRun(1000, func() {
		b.First++
		b.Last++
		r.Note(b)
	}); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkNote(b *testing.B) {
	r := newRig(b, Options{})
	x := batch(1, "a", 0, 0.001)
	for b.Loop() {
		r.Note(x)
	}
}
