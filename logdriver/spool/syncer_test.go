package spool

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseSync(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Minute, "off": 0, "interval=1s": time.Second, "interval=100ms": 100 * time.Millisecond} {
		if got, err := ParseSync(text, time.Minute); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"on", "interval", "interval=", "interval=5", "interval=1ms", "interval=2h", "interval=-1s"} {
		if _, err := ParseSync(text, 0); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// synced opens a spool that tells of its changes, and runs it for the test.
func synced(t *testing.T, d disk) *Spool {
	t.Helper()
	s, err := Open(t.TempDir(), Config{MaxBytes: 1 << 40, SegmentBytes: 1 << 20, FrameLen: fixedLen, disk: d}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// unsynced is how many bytes of a stream a power cut could take.
func unsynced(st *Stream) (n int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, g := range st.segs {
		n += g.size - g.synced
	}
	return n
}

func TestEveryIntervalIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := synced(t, disk{})
		off := newWriter(t, s, 1, Params{KeepBytes: 1 << 30})
		long := newWriter(t, s, 2, Params{KeepBytes: 1 << 30, Sync: 3 * time.Second})
		short := newWriter(t, s, 3, Params{KeepBytes: 1 << 30, Sync: time.Second})
		for range 30 { // of the test's clock
			all := map[*writer]int64{}
			for w, every := range map[*writer]time.Duration{long: 3 * time.Second, short: time.Second, off: 0} {
				w.write(1)
				all[w] = int64(every / time.Second)
			}
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			for w, seconds := range all {
				if n := unsynced(w.se.Stream()); w != off && n > seconds*frameBytes {
					t.Fatalf("%d bytes of a stream synced every %d s are not", n, seconds)
				}
			}
		}
		if n := unsynced(off.se.Stream()); n != 30*frameBytes {
			t.Errorf("a stream that is not to be synced was: %d bytes are not", n)
		}
		if c := s.Syncs(); c.Done < 40 || c.Slow+c.Failed > 0 {
			t.Errorf("%+v", c)
		}
	})
}

// A sync that takes long is noticed, and holds up neither what is written nor
// what is acknowledged.
func TestASlowSyncHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := false
		s := synced(t, disk{fault: func(op string) error {
			if op == "sync" {
				time.Sleep(2 * time.Second) // a slow disk, by the test's clock
				if fail {
					return unix.EIO
				}
			}
			return nil
		}})
		w := newWriter(t, s, 1, Params{KeepBytes: 1 << 30, Sync: time.Second})
		w.write(1)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait() // it syncs now
		began := time.Now()
		w.write(10)
		w.ack(w.se.Stream().End())
		if d := time.Since(began); d != 0 {
			t.Errorf("writing took %v while a sync was under way", d)
		}
		time.Sleep(time.Minute)
		if c := s.Syncs(); c.Slow == 0 || c.Failed > 0 {
			t.Errorf("%+v", c)
		}
		fail = true
		w.write(1)
		time.Sleep(time.Minute)
		if c := s.Syncs(); c.Failed == 0 || unsynced(w.se.Stream()) == 0 {
			t.Errorf("a failure is not counted: %+v", c)
		}
		fail = false
	})
}

// Where a stream is synced, what was acknowledged goes only after the cursor
// that says so would survive a power cut: a cursor set back would take the gap
// for a loss.
func TestNothingGoesBeforeItsCursorIsSafe(t *testing.T) {
	var cursors, removed int
	d := disk{made: func(c change) {
		switch {
		case c.op == "sync" && strings.HasSuffix(c.path, cursorExt):
			cursors++
		case c.op == "remove" && filepath.Ext(c.path) == segmentExt:
			if removed++; cursors == 0 {
				t.Error("a segment was deleted before its cursor was synced")
			}
		}
	}}
	s, err := Open(t.TempDir(), Config{MaxBytes: 1 << 40, SegmentBytes: 1000, FrameLen: fixedLen, disk: d}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, s, 1, Params{Sync: time.Second})
	st := w.se.Stream()
	w.write(10)
	w.ack(st.End())
	if removed > 0 || st.Start() != 0 {
		t.Errorf("%d segments are gone already", removed)
	}
	s.syncDue(0, time.Now())
	if removed == 0 || cursors == 0 {
		t.Errorf("%d segments went, %d cursors are safe", removed, cursors)
	}
	if err := w.se.Detach(); err != nil {
		t.Fatal(err)
	}
	s.syncDue(0, time.Now())
	if n := len(s.Streams()); n > 0 {
		t.Errorf("%d streams are left", n)
	}
	if err := st.Sync(); err != nil && !errors.Is(err, errGone) {
		t.Errorf("sync of a stream that is gone: %v", err)
	}
}
