package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const owner = "4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa0123"

func open(t *testing.T, dir string, cfg Config) *Spool {
	t.Helper()
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 40
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = 1 << 20
	}
	s, err := Open(dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pipe returns the two ends of a pipe that does not block.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) })
	return p[0], p[1]
}

func write(t *testing.T, w int, b []byte) {
	t.Helper()
	if n, err := unix.Write(w, b); err != nil || n != len(b) {
		t.Fatalf("write %d bytes: %d, %v", len(b), n, err)
	}
}

// drain splices until the pipe is empty.
func drain(t *testing.T, se *Session, r int) {
	t.Helper()
	for {
		n, err := se.Splice(r, 1<<20)
		if errors.Is(err, unix.EAGAIN) || n == 0 && err == nil {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads a stream from offset with a small buffer and returns its bytes
// with a bar at each change of session.
func readAll(t *testing.T, st *Stream, offset uint64) []byte {
	t.Helper()
	var out []byte
	var session uint32
	r := st.NewReader()
	defer r.Close()
	buf := make([]byte, 37)
	for {
		span, err := r.Read(buf, offset)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if session != 0 && session != span.Session {
			out = append(out, '|')
		}
		session = span.Session
		out = append(out, buf[:span.Len]...)
		offset = span.From + uint64(span.Len)
	}
}

func attach(t *testing.T, s *Spool, p Params, fifo string) *Session {
	t.Helper()
	se, _, err := s.Attach(p, fifo)
	if err != nil {
		t.Fatal(err)
	}
	return se
}

func TestBytesSurviveAnyNumberOfRestarts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	params := Params{Container: owner, KeepBytes: 1 << 40, Routes: []string{"default"}}
	var want []byte
	for round := range 20 {
		s := open(t, dir, Config{SegmentBytes: 100})
		r, w := pipe(t)
		se := attach(t, s, params, fmt.Sprint("/fifo/", round))
		if len(want) > 0 {
			want = append(want, '|')
		}
		for range 1 + rnd.IntN(4) {
			b := bytes.Repeat([]byte{byte('a' + rnd.IntN(26))}, 1+rnd.IntN(300))
			write(t, w, b)
			want = append(want, b...)
			if rnd.IntN(2) == 0 { // die: all that is in memory is gone, the pipe is not
				s = open(t, dir, Config{SegmentBytes: 100})
				se = s.Of(owner).Sessions()[0]
			}
			drain(t, se, r)
		}
		if err := se.Detach(); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, s.Of(owner), 0); !bytes.Equal(got, want) {
			t.Fatalf("round %d: got\n%s\nwant\n%s", round, got, want)
		}
	}
}

func TestASessionWithoutBytesLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, _ := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"default"}}, "/fifo/1")
	drain(t, se, r)
	if err := se.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := se.Detach(); err != nil {
		t.Errorf("a second detach: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, streamsDir, "*"))
	if err != nil || len(left) > 0 || s.Of(owner) != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := se.Splice(r, 10); !errors.Is(err, ErrEnded) {
		t.Errorf("splice after detach: %v", err)
	}
}

func TestAttachTwiceIsOneSession(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	p := Params{Container: owner, KeepBytes: 1 << 20}
	if a, b := attach(t, s, p, "/fifo/1"), attach(t, s, p, "/fifo/1"); a != b {
		t.Error("the same FIFO got two sessions")
	}
}

func TestFinalSaysThatNothingFollows(t *testing.T) {
	s := open(t, t.TempDir(), Config{SegmentBytes: 4})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20}, "/fifo/1")
	write(t, w, []byte("0123456789"))
	drain(t, se, r)
	rd := s.Of(owner).NewReader()
	defer rd.Close()
	buf := make([]byte, 100)
	if span, err := rd.Read(buf, 0); err != nil || span.Len != 10 || span.Final {
		t.Errorf("live: %+v, %v", span, err)
	}
	if span, err := rd.Read(buf, 10); !errors.Is(err, io.EOF) || span.Final {
		t.Errorf("live, at the end: %+v, %v", span, err)
	}
	if err := se.Detach(); err != nil {
		t.Fatal(err)
	}
	if span, err := rd.Read(buf, 3); err != nil || span.Len != 7 || !span.Final {
		t.Errorf("ended: %+v, %v", span, err)
	}
	if span, err := rd.Read(buf[:2], 3); err != nil || span.Len != 2 || span.Final {
		t.Errorf("ended, not at the end: %+v, %v", span, err)
	}
	if span, err := rd.Read(buf, 10); !errors.Is(err, io.EOF) || !span.Final {
		t.Errorf("ended, at the end: %+v, %v", span, err)
	}
}

func TestCursorsAndEviction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{SegmentBytes: 10})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 15, Routes: []string{"a", "b"}}, "/fifo/1")
	st := se.Stream()
	write(t, w, []byte(strings.Repeat("x", 45)))
	drain(t, se, r)
	steps := []struct {
		route string
		ack   uint64
		start uint64
	}{
		{"a", 45, 0},  // b has nothing yet
		{"b", 9, 0},   // not a whole segment
		{"b", 25, 20}, // two whole ones
		{"b", 20, 20}, // never back
		{"b", 45, 30}, // 15 bytes are kept
	}
	for i, step := range steps {
		if err := st.Ack(step.route, step.ack); err != nil {
			t.Fatal(err)
		}
		if st.Start() != step.start {
			t.Errorf("step %d: starts at %d, want %d", i, st.Start(), step.start)
		}
	}
	again := open(t, dir, Config{SegmentBytes: 10}).Of(owner)
	if again.Cursor("a") != 45 || again.Cursor("b") != 45 || again.Start() != 30 || again.End() != 45 {
		t.Errorf("after a restart: %d %d, %d..%d", again.Cursor("a"), again.Cursor("b"), again.Start(), again.End())
	}
}

func TestTornCursorSendsAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20, Routes: []string{"a"}}, "/fifo/1")
	write(t, w, []byte("hello"))
	drain(t, se, r)
	if err := se.Stream().Ack("a", 5); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(se.Stream().dir, "a"+cursorExt)
	for _, bad := range []string{"", "0000000000000005 00000000\n", "garbage", strings.Repeat("\x00", 2*slotBytes), strings.Repeat("\xff", 2*slotBytes)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := open(t, dir, Config{}).Of(owner).Cursor("a"); got != 0 {
			t.Errorf("%q: cursor is %d", bad, got)
		}
	}
}

func TestAnOffsetIsNeverUsedTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	r, w := pipe(t)
	se := attach(t, s, Params{Container: owner, Routes: []string{"a"}, KeepBytes: 1 << 20}, "/fifo/1")
	write(t, w, []byte("0123456789"))
	drain(t, se, r)
	if err := se.Stream().Ack("a", 10); err != nil {
		t.Fatal(err)
	}
	// A power cut takes the segment's tail, the cursor was written back.
	if err := os.Truncate(filepath.Join(se.Stream().dir, se.Stream().segs[0].name()), 4); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	next := attach(t, s, Params{Container: owner, KeepBytes: 1 << 20}, "/fifo/2")
	for _, old := range s.Of(owner).Sessions()[:1] {
		if err := old.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	r2, w2 := pipe(t)
	write(t, w2, []byte("new"))
	drain(t, next, r2)
	if st := s.Of(owner); st.End() != 13 || string(readAll(t, st, 0)) != "0123|new" {
		t.Errorf("end %d, %q", st.End(), readAll(t, st, 0))
	}
}

func TestTheSpoolStaysWithinItsBound(t *testing.T) {
	const bound = 100 * (1000 + overhead)
	s := open(t, t.TempDir(), Config{SegmentBytes: 1000, MaxBytes: bound})
	for i := range 30 {
		r, w := pipe(t)
		se := attach(t, s, Params{Container: fmt.Sprintf("%064d", i), KeepBytes: 1 << 40, Routes: []string{"a"}}, fmt.Sprint("/fifo/", i))
		for range 10 {
			write(t, w, make([]byte, 1000))
			drain(t, se, r)
		}
		if i%2 == 0 {
			if err := se.Stream().Ack("a", se.Stream().End()); err != nil {
				t.Fatal(err)
			}
		}
		if err := se.Detach(); err != nil {
			t.Fatal(err)
		}
		if used, _ := s.Used(); used > bound+2*(1000+overhead) {
			t.Fatalf("container %d: %d bytes used, bound %d", i, used, bound)
		}
	}
	if _, dropped := s.Used(); dropped == 0 {
		t.Error("nothing was dropped, so the bound was never met with unacknowledged data")
	}
	acked := 0
	for _, st := range s.Streams() {
		if st.Cursor("a") > 0 {
			acked++
		}
	}
	if acked > 1 {
		t.Errorf("%d acknowledged streams are left while others lost data", acked)
	}
}

func TestOtherVersionIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, versionFile), []byte("dockline-spool 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Config{}, slog.New(slog.DiscardHandler))
	var other *VersionError
	if !errors.As(err, &other) || other.Dir != dir || !strings.Contains(err.Error(), "99") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("there is more in it now: %v %v", entries, err)
	}
}
