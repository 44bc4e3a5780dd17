package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk says that a disk is full as long as it holds too many bytes of
// segments.
type fullDisk struct {
	dir  string
	room int64
}

func (d *fullDisk) fault(op string) error {
	if op != "splice" {
		return nil
	}
	var held int64
	segs, _ := filepath.Glob(filepath.Join(d.dir, streamsDir, "*", "*"+segmentExt))
	for _, s := range segs {
		if info, err := os.Stat(s); err == nil {
			held += info.Size()
		}
	}
	if held >= d.room {
		return unix.ENOSPC
	}
	return nil
}

func TestAFullDiskEvictsInsteadOfBlocking(t *testing.T) {
	for name, acked := range map[string]bool{"acknowledged": true, "not acknowledged": false} {
		dir := t.TempDir()
		d := &fullDisk{dir: dir, room: 10000}
		s, err := Open(dir, Config{MaxBytes: 1 << 40, SegmentBytes: 1000, disk: disk{fault: d.fault}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r, w := pipe(t)
		se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 40, Routes: []string{"a"}}, "/fifo/1")
		for range 50 {
			write(t, w, make([]byte, 1000))
			drain(t, se, r)
			if acked {
				if err := se.Stream().Ack("a", se.Stream().End()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, dropped := s.Used(); se.Stream().End() != 50000 || (dropped == 0) != acked {
			t.Errorf("%s: %d bytes moved, %d dropped", name, se.Stream().End(), dropped)
		}
	}
}

func TestTheDisksReserveIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{SegmentBytes: 1000, MinFree: 1 << 60}) // no disk has that much
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 40}, "/fifo/1")
	for range 50 {
		write(t, w, make([]byte, 1000))
		drain(t, se, r)
	}
	if n := se.Stream().Bytes(); n > 2000 {
		t.Errorf("%d bytes are kept on a disk with nothing to spare", n)
	}
}

// Where the disk is what bounds the spool, hardly more is given up than the disk
// misses, however large the spool might be.
func TestADiskWithALittleLessThanItsReserve(t *testing.T) {
	for name, most := range map[string]int64{"a large spool": 1 << 40, "one without a bound": 1 << 60} {
		var s *Spool
		missing := int64(0)
		s = open(t, t.TempDir(), Config{MaxBytes: most, SegmentBytes: 1000, MinFree: 1 << 30, disk: disk{free: func() int64 { return 1<<30 - missing }}})
		r, w := pipe(t)
		se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 40, Routes: []string{"a"}}, "/fifo/1")
		for range 50 {
			write(t, w, make([]byte, 1000))
			drain(t, se, r)
		}
		missing = 1
		s.enforce()
		missing = 0
		if _, dropped := s.Used(); dropped < 1000 || dropped > 3000 {
			t.Errorf("%s: a byte was missing, and %d of 50000 were dropped", name, dropped)
		}
	}
}

// What the spool may come to take is known before its disk is full.
func TestALimitOfTheDisk(t *testing.T) {
	const most, reserve = 1 << 40, 1 << 30
	for name, tc := range map[string]struct{ free, want int64 }{
		"as much as it likes": {1 << 50, most},
		"nobody looks":        {math.MaxInt64, most},
		"some":                {reserve + 5000, 15000},
		"no more":             {reserve, 10000},
		"too much":            {reserve - 4000, 6000},
		"nothing":             {0, 1},
	} {
		free := int64(1 << 50)
		s := open(t, t.TempDir(), Config{MaxBytes: most, MinFree: reserve, disk: disk{free: func() int64 { return free }}})
		s.used.Store(10000)
		if free = tc.free; s.Limit() != tc.want {
			t.Errorf("%s: it may take %d, want %d", name, s.Limit(), tc.want)
		}
		s.used.Store(0)
	}
}

// Two sessions do not mix: the newer waits until the older is detached, whether
// that has written anything yet or not.
func TestTheOlderSessionGoesFirst(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	p := Params{Container: owner, KeepBytes: 1 << 20}
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	older, newer := attach(t, s, p, "/fifo/1"), attach(t, s, p, "/fifo/2")
	write(t, w1, []byte("old"))
	write(t, w2, []byte("new"))
	wantBusy := func() {
		t.Helper()
		var busy *BusyError
		if _, err := newer.Splice(r2, 100); !errors.As(err, &busy) || busy.Other != older {
			t.Fatalf("the newer session: %v", err)
		}
	}
	wantBusy()
	if n, err := older.Splice(r1, 100); err != nil || n != 3 {
		t.Fatalf("the older session is never in the way of itself: %d, %v", n, err)
	}
	wantBusy()
	if err := older.Detach(); err != nil {
		t.Fatal(err)
	}
	drain(t, newer, r2)
	if got := string(readAll(t, s.Of(owner), 0)); got != "old|new" {
		t.Errorf("got %q", got)
	}
}

func TestOffsetsJumpAfterABoot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20, Routes: []string{"a"}}, "/fifo/1")
	write(t, w, []byte("before"))
	drain(t, se, r)
	if err := os.WriteFile(filepath.Join(dir, bootFile), []byte("another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	old := s.Of(owner).Sessions()[0]
	if err := old.Detach(); err != nil { // its engine died with the host
		t.Fatal(err)
	}
	next := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20, Routes: []string{"a"}}, "/fifo/2")
	write(t, w, []byte("after"))
	drain(t, next, r)
	if err := next.Detach(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // later starts in the same boot change nothing
		s = open(t, dir, Config{})
	}
	st := s.Of(owner)
	if string(readAll(t, st, 0)) != "before|after" || st.End() != 2*jumpBytes+5 {
		t.Fatalf("end %d, %q", st.End(), readAll(t, st, 0))
	}
	rd := st.NewReader()
	defer rd.Close()
	span, err := rd.Read(make([]byte, 10), 6)
	if err != nil || span.From != 2*jumpBytes || span.Lost != 0 || span.Torn {
		t.Errorf("across the jump: %+v, %v; nothing is lost there", span, err)
	}
}

func TestASegmentThatSomebodyDeletedIsALoss(t *testing.T) {
	s := open(t, t.TempDir(), Config{SegmentBytes: 10})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20, Routes: []string{"a"}}, "/fifo/1")
	write(t, w, []byte("0123456789abcdefghijABCDE"))
	drain(t, se, r)
	for _, i := range []int{1, 0, 0} { // the middle, the first, the one being written
		st := se.Stream()
		if err := os.Remove(filepath.Join(st.dir, st.segs[i].name())); err != nil {
			t.Fatal(err)
		}
		readAll(t, st, 0)
	}
	if got := readAll(t, se.Stream(), 0); len(got) != 0 {
		t.Errorf("%q is left", got)
	}
	write(t, w, []byte("more"))
	drain(t, se, r)
	rd := se.Stream().NewReader()
	defer rd.Close()
	span, err := rd.Read(make([]byte, 10), 0)
	if err != nil || span.From != 25 || span.Lost != 25 || span.Len != 4 {
		t.Errorf("got %+v, %v", span, err)
	}
	if _, err := rd.Read(make([]byte, 10), 29); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestSegmentsBeingWrittenAreWithinTheBoundToo(t *testing.T) {
	const bound = 4 << 20
	s := open(t, t.TempDir(), Config{SegmentBytes: 4 << 20, MaxBytes: bound})
	r, w := pipe(t)
	for i := range 40 {
		se := attach(t, s, Params{Container: fmt.Sprintf("%064x", i), KeepBytes: 1 << 40, Routes: []string{"a"}}, fmt.Sprint("/fifo/", i))
		for range 10 {
			write(t, w, make([]byte, 60<<10))
			drain(t, se, r)
		}
	}
	if used, _ := s.Used(); used > bound+bound/4 {
		t.Errorf("%d bytes used, bound %d", used, bound)
	}
}

func TestOddFilesSpoilNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20, Routes: []string{"a"}}, "/fifo/1")
	write(t, w, []byte("bytes"))
	drain(t, se, r)
	for _, name := range []string{".tmp-00000002.fifo", "x.seg", "zz.fifo", "1-2-3.seg", "q.jump", "notes.txt", "b.cursor"} {
		if err := os.WriteFile(filepath.Join(se.Stream().dir, name), []byte("odd"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st := open(t, dir, Config{}).Of(owner)
	if st == nil || len(st.Sessions()) != 1 || string(readAll(t, st, 0)) != "bytes" {
		t.Fatal("the stream is not what it was")
	}
}
