package spool

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAckedRanges(t *testing.T) {
	for _, tc := range []struct {
		name   string
		from   acked
		add    []Range
		offset uint64
		beyond []Range
	}{
		{"nothing", acked{}, nil, 0, nil},
		{"the beginning moves the cursor", acked{}, []Range{{0, 5}}, 5, nil},
		{"beyond it does not", acked{}, []Range{{5, 7}}, 0, []Range{{5, 7}}},
		{"the gap is filled", acked{0, []Range{{5, 7}, {9, 10}}}, []Range{{0, 5}}, 7, []Range{{9, 10}}},
		{"neighbours are one", acked{1, []Range{{5, 7}, {9, 10}}}, []Range{{7, 9}}, 1, []Range{{5, 10}}},
		{"again", acked{1, []Range{{5, 7}}}, []Range{{5, 7}, {5, 6}, {6, 7}}, 1, []Range{{5, 7}}},
		{"in no order, overlapping, empty", acked{}, []Range{{20, 30}, {8, 8}, {25, 40}, {3, 4}}, 0, []Range{{3, 4}, {20, 40}}},
		{"all behind is old", acked{50, nil}, []Range{{3, 40}}, 50, nil},
		{"across the cursor", acked{50, []Range{{60, 70}}}, []Range{{3, 65}}, 70, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.from.with(tc.add...)
			if got.offset != tc.offset || !slices.Equal(got.beyond, tc.beyond) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestAckedRangesAgainstBits holds the set to one that is a bit for each offset,
// through files with one of the slots damaged.
func TestAckedRangesAgainstBits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		const size = 200
		var bits [size]bool
		c := &cursor{path: filepath.Join(t.TempDir(), "c"), open: new(atomic.Int64), acked: acked{offset: uint64(r.IntN(20))}}
		for i := range c.offset {
			bits[i] = true
		}
		if err := keep(c); err != nil {
			t.Fatal(err)
		}
		for range 40 {
			from := r.IntN(size)
			to := min(size, from+r.IntN(12))
			for i := from; i < to; i++ {
				bits[i] = true
			}
			c.acked = c.with(Range{uint64(from), uint64(to)})
			if err := keep(c); err != nil {
				t.Fatal(err)
			}
			tearOther(t, c)
			if r.IntN(3) == 0 {
				c.close()
				c = (&Spool{}).loadCursor(c.path)
			}
			compare(t, c.acked, bits[:])
		}
		c.close()
	}
}

func keep(c *cursor) error {
	c.moves++
	return c.store(c.acked, c.moves, false)
}

// tearOther destroys the slot that is to be written next.
func tearOther(t *testing.T, c *cursor) {
	t.Helper()
	if _, err := c.file.WriteAt([]byte(strings.Repeat("torn", 10)), int64((c.number+1)%2)*slotBytes); err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, a acked, bits []bool) {
	t.Helper()
	unacked := slices.Repeat([]bool{false}, len(bits))
	for _, m := range a.missing(nil, 0, uint64(len(bits))) {
		for i := m.From; i < m.To; i++ {
			unacked[i] = true
		}
	}
	for i := range bits {
		if bits[i] == unacked[i] {
			t.Fatalf("offset %d: acknowledged is %v, %+v", i, bits[i], a)
		}
	}
	for i, r := range a.beyond {
		if before := a.offset; r.From <= before || r.From >= r.To || i > 0 && r.From <= a.beyond[i-1].To {
			t.Fatalf("%+v is not in its simplest form", a)
		}
	}
}

func TestASlowCollectorNeitherPinsNorRepeats(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{SegmentBytes: 100})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 0}, "/fifo/1")
	write(t, w, make([]byte, 1000))
	drain(t, se, r)
	st := se.Stream()
	// Every other ten bytes go to a collector that acknowledges nothing.
	for from := uint64(10); from < 1000; from += 20 {
		if err := st.AckRanges("a", Range{from, from + 10}); err != nil {
			t.Fatal(err)
		}
	}
	st = open(t, dir, Config{SegmentBytes: 100}).Of(owner)
	if st.Cursor("a") != 0 || st.Ranges("a") != 50 {
		t.Fatalf("cursor at %d, %d ranges", st.Cursor("a"), st.Ranges("a"))
	}
	if backlog, _ := st.Backlog("a"); backlog != 500 {
		t.Errorf("backlog of %d bytes", backlog)
	}
	var again uint64
	for at := st.Unacknowledged("a", 0); at.From < 1000; at = st.Unacknowledged("a", at.To) {
		again += min(at.To, 1000) - at.From
	}
	if again != 500 {
		t.Errorf("%d bytes would be sent again, want those of the slow collector", again)
	}
	st.evict(300, true)
	if _, dropped := st.sp.Used(); dropped != 200 {
		t.Errorf("%d bytes count as dropped of 400 half acknowledged", dropped)
	}
	if err := st.Ack("a", 990); err != nil {
		t.Fatal(err)
	}
	if st.Cursor("a") != 1000 || st.Ranges("a") != 0 || st.Unacknowledged("a", 0) != (Range{1000, math.MaxUint64}) {
		t.Errorf("cursor at %d, %d ranges", st.Cursor("a"), st.Ranges("a"))
	}
}

func TestTheRangesAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}, "/fifo/1")
	write(t, w, make([]byte, 10))
	drain(t, se, r)
	st := se.Stream()
	var all []Range
	for i := range uint64(MaxRanges) {
		all = append(all, Range{10 + 10*i, 15 + 10*i})
	}
	if err := st.AckRanges("a", all...); err != nil {
		t.Fatal(err)
	}
	if err := st.AckRanges("a", Range{15, 16}, Range{1 << 30, 1<<30 + 1}); !errors.Is(err, ErrRanges) {
		t.Fatalf("one too many: %v", err)
	}
	if got := st.Unacknowledged("a", 15); got != (Range{15, 20}) {
		t.Errorf("a part of what was refused was noted: %v", got)
	}
	if err := st.AckRanges("a", Range{15, 20}); err != nil || st.Ranges("a") != MaxRanges-1 {
		t.Errorf("what makes them fewer is taken: %v, %d", err, st.Ranges("a"))
	}
	st = open(t, dir, Config{}).Of(owner)
	if st.Ranges("a") != MaxRanges-1 {
		t.Errorf("%d ranges after a restart", st.Ranges("a"))
	}
	if info, err := os.Stat(filepath.Join(st.dir, "a"+cursorExt)); err != nil || info.Size() > 2*slotBytes {
		t.Errorf("the cursor's file has %d bytes, %v", info.Size(), err)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(acked{offset: 7, beyond: []Range{{9, 10}}}.encode(3))
	f.Add(acked{}.encode(1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, n, ok := decodeSlots(b)
		if !ok {
			return
		}
		if again, m, ok := decodeSlots(a.encode(n)); !ok || m != n || again.offset != a.offset || !slices.Equal(again.beyond, a.beyond) {
			t.Fatalf("%+v becomes %+v", a, again)
		}
	})
}
