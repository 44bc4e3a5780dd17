package spool

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// How long a byte waits does not depend on what comes behind it, into the same
// segment as a rule.
func TestBacklogSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(t, open(t, t.TempDir(), Config{FrameLen: frameLen}), 1, Params{})
		st := w.se.Stream()
		begun := time.Now()
		waited := func() time.Duration {
			_, since := st.Backlog("a")
			return time.Since(since)
		}
		for range 500 { // delivered while it is written
			w.write(1)
			w.ack(st.End())
			time.Sleep(time.Second)
		}
		w.write(1)
		for range 2 * 3600 { // down since then
			time.Sleep(time.Second)
			w.write(1)
		}
		if d := waited(); d < 2*time.Hour || d > 2*time.Hour+2*time.Second {
			t.Errorf("the oldest waits for %v of 2 h", d)
		}
		w.ack(st.End() - 1800*frameBytes)
		if d := waited(); d < 30*time.Minute || d > 45*time.Minute {
			t.Errorf("the oldest waits for %v of 30 min", d)
		}
		w.ack(st.End())
		w.write(1)
		time.Sleep(time.Minute)
		if d := waited(); d < time.Minute || d > time.Minute+2*time.Second {
			t.Errorf("the oldest waits for %v of 1 min", d)
		}
		if n := len(st.stamps); n > 200 {
			t.Errorf("%d times are kept of %v", n, time.Since(begun))
		}
	})
}

// writtenAt leaves a stream of four frames, two of them acknowledged, in a file that
// was written at a time.
func writtenAt(t *testing.T, dir string, at time.Time) *writer {
	t.Helper()
	w := newWriter(t, open(t, dir, Config{FrameLen: frameLen}), 1, Params{})
	w.write(4)
	w.ack(2 * frameBytes)
	files, err := filepath.Glob(filepath.Join(dir, streamsDir, "*", "*"+segmentExt))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.Chtimes(files[0], at, at); err != nil {
		t.Fatal(err)
	}
	return w
}

// After a restart, what waits has waited since its file was written last, also
// when that goes on.
func TestBacklogSinceBeforeTheStart(t *testing.T) {
	dir := t.TempDir()
	hourAgo := time.Now().Add(-time.Hour)
	w := writtenAt(t, dir, hourAgo)
	s := open(t, dir, Config{FrameLen: frameLen})
	again := &writer{t: t, se: attach(t, s, Params{Container: s.Streams()[0].Container(), Routes: []string{"a"}}, "/fifo/1"), r: w.r, w: w.w, next: w.next}
	again.write(4)
	if n, since := again.se.Stream().Backlog("a"); n != 6*frameBytes || !since.Equal(hourAgo) {
		t.Errorf("%d bytes wait since %v, want since %v", n, since, hourAgo)
	}
}

// A file that was written in a time to come, as the clock has it now, waits from the
// start on.
func TestBacklogSinceAClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	writtenAt(t, dir, time.Now().Add(time.Hour))
	before := time.Now()
	_, since := open(t, dir, Config{FrameLen: frameLen}).Streams()[0].Backlog("a")
	if since.Before(before) || since.After(time.Now()) {
		t.Errorf("it waits since %v, want since about %v", since, before)
	}
}
