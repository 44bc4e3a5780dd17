package spool

import (
	"context"
	"testing"
	"testing/synctest"
)

// A stream that keeps nothing has its data gone from the page cache before the
// kernel writes it back, whatever its rate, as long as collectors keep up.
func TestWhereNothingIsKeptSegmentsLiveShortly(t *testing.T) {
	for _, tc := range []struct {
		name   string
		keep   int64
		ack    func(end uint64) uint64
		remain uint64 // bytes that are left after two turns, with a record written in between
	}{
		{"all acknowledged", 0, func(end uint64) uint64 { return end }, 0},
		{"one record behind", 0, func(end uint64) uint64 { return end - frameBytes }, frameBytes},
		{"collectors do not keep up", 0, func(uint64) uint64 { return 0 }, 6 * frameBytes},
		{"something is kept", 1 << 20, func(end uint64) uint64 { return end }, 6 * frameBytes},
	} {
		s := open(t, t.TempDir(), Config{FrameLen: frameLen})
		w := newWriter(t, s, 1, Params{KeepBytes: tc.keep})
		st := w.se.Stream()
		w.write(3)
		w.ack(tc.ack(st.End()))
		st.release()
		w.write(3)
		w.ack(tc.ack(st.End()))
		st.release()
		if tc.remain == frameBytes { // the segment of before goes when its last record is acknowledged
			w.write(1)
			w.ack(tc.ack(st.End()))
			st.release()
		}
		if st.Bytes() != tc.remain {
			t.Errorf("%s: %d bytes are left, want %d", tc.name, st.Bytes(), tc.remain)
		}
		from := st.End() - st.Bytes()
		before := w.next
		w.write(2)
		seen, lost := numbers(t, st, from)
		wantRun(t, seen, before-int(tc.remain/frameBytes), w.next)
		if lost != 0 {
			t.Errorf("%s: %d bytes lost", tc.name, lost)
		}
	}
}

// When its container ends, nothing is left of a stream that keeps nothing.
func TestWhereNothingIsKeptNothingIsLeft(t *testing.T) {
	for _, released := range []bool{false, true} {
		s := open(t, t.TempDir(), Config{FrameLen: frameLen})
		w := newWriter(t, s, 1, Params{})
		w.write(3)
		if released {
			w.ack(w.se.Stream().End())
			w.se.Stream().release()
		}
		if err := w.se.Detach(); err != nil {
			t.Fatal(err)
		}
		w.ack(w.se.Stream().End())
		if n := len(s.Streams()); n != 0 {
			t.Errorf("released %v: %d streams are left", released, n)
		}
	}
}

func TestRunReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), Config{FrameLen: frameLen})
		w := newWriter(t, s, 1, Params{})
		w.write(3)
		w.ack(w.se.Stream().End())
		ctx, cancel := context.WithTimeout(t.Context(), 2*releaseMost) // as synctest's clock has it
		defer cancel()
		s.Run(ctx)
		if n := w.se.Stream().Bytes(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}
