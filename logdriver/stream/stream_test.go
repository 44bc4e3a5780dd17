package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/spool"
)

func TestMain(m *testing.M) { testleak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

const owner = "4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa0123"

// newPumps returns pumps that are closed at the test's end.
func newPumps(t *testing.T) *Pumps {
	p := New(quiet)
	t.Cleanup(p.Close)
	return p
}

func openSpool(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, spool.Config{MaxBytes: 1 << 40, SegmentBytes: 1 << 20}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// engineEnd makes a FIFO and opens it as the engine does.
func engineEnd(t *testing.T) (string, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return path, w
}

func start(t *testing.T, s *spool.Spool, p *Pumps, path string) *spool.Stream {
	t.Helper()
	se, _, err := s.Attach(spool.Params{Container: owner, KeepBytes: 1 << 30}, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(se); err != nil {
		t.Fatal(err)
	}
	return se.Stream()
}

// waitFor waits for the stream until cond holds.
func waitFor(t *testing.T, st *spool.Stream, cond func() bool) {
	t.Helper()
	grew, stop := st.Changes()
	defer stop()
	for !cond() {
		<-grew
	}
}

func content(t *testing.T, st *spool.Stream) []byte {
	t.Helper()
	r := st.NewReader()
	defer r.Close()
	var out []byte
	buf := make([]byte, 1<<16)
	for off := uint64(0); ; {
		span, err := r.Read(buf, off)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, buf[:span.Len]...)
		off = span.From + uint64(span.Len)
	}
}

func TestStopMovesWhatIsLeft(t *testing.T) {
	path, w := engineEnd(t)
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	st := start(t, s, p, path)
	var want []byte
	for i := range 2000 {
		line := fmt.Appendf(nil, "record %d ", i)
		want = append(want, line...)
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Stop(path); err != nil { // the engine's end is still open
		t.Fatal(err)
	}
	if got := content(t, st); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d arrived", len(got), len(want))
	}
	if err := p.Stop(path); err != nil || st.Live() || p.Len() != 0 {
		t.Errorf("after the stop: %v, live %v, %d pumps", err, st.Live(), p.Len())
	}
}

// A pipe that was full of records is made larger, though records of odd sizes
// leave some of each page empty.
func TestAFullPipeGrows(t *testing.T) {
	path, w := engineEnd(t)
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	written := uint64(0)
	for frame := make([]byte, 147); ; {
		n, err := unix.Write(fd, frame)
		if errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		written += uint64(n)
	}
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	st := start(t, s, p, path)
	waitFor(t, st, func() bool { return st.End() == written })
	p.Close() // after which the pump has done all that it was to do
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil || size != busyPipe {
		t.Errorf("the pipe has %d bytes, %v", size, err)
	}
}

func TestEndOfTheEngineEndsTheSession(t *testing.T) {
	path, w := engineEnd(t)
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	st := start(t, s, p, path)
	if _, err := w.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	waitFor(t, st, func() bool { return !st.Live() })
	if got := content(t, st); string(got) != "last words" {
		t.Errorf("got %q", got)
	}
	p.Close()
	wantGone(t, path)
}

// wantGone checks that a FIFO is deleted that no engine knows of any more.
func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the FIFO of a dead engine is still there: %v", err)
	}
}

func TestTheNextProcessGoesOn(t *testing.T) {
	path, w := engineEnd(t)
	dir := t.TempDir()
	p := New(quiet)
	start(t, openSpool(t, dir), p, path)
	var want []byte
	for round := range 5 {
		line := bytes.Repeat([]byte{byte('a' + round)}, 5000)
		want = append(want, line...)
		p.Close()
		if _, err := w.Write(line); err != nil { // nobody reads: it waits in the pipe
			t.Fatal(err)
		}
		s := openSpool(t, dir)
		p = New(quiet)
		if err := p.Start(s.Of(owner).Sessions()[0]); err != nil {
			t.Fatal(err)
		}
		st := s.Of(owner)
		waitFor(t, st, func() bool { return st.End() == uint64(len(want)) })
		if got := content(t, st); !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes of %d", round, len(got), len(want))
		}
	}
	p.Close()
}

func TestAFIFOThatLostItsEngineIsEnded(t *testing.T) {
	path, w := engineEnd(t)
	_ = w.Close()
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	st := start(t, s, p, path)
	waitFor(t, st, func() bool { return !st.Live() })
	p.Close()
	wantGone(t, path)
}

func TestANewSessionSupersedesTheOld(t *testing.T) {
	path1, w1 := engineEnd(t)
	path2, w2 := engineEnd(t)
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	st := start(t, s, p, path1)
	if _, err := w1.WriteString("old"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, st, func() bool { return st.End() == 3 })
	start(t, s, p, path2)
	if _, err := w2.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, st, func() bool { return st.End() == 6 && len(st.Sessions()) == 1 })
	if err := p.Stop(path2); err != nil {
		t.Fatal(err)
	}
	if got := content(t, st); string(got) != "oldnew" {
		t.Errorf("got %q", got)
	}
	p.Close()
	wantGone(t, path1)
	if _, err := os.Lstat(path2); err != nil {
		t.Errorf("the FIFO of an engine that lives is its own to delete: %v", err)
	}
}

func TestStartRefusesWhatIsNoFIFO(t *testing.T) {
	s, p := openSpool(t, t.TempDir()), newPumps(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(t.TempDir(), "missing")} {
		se, _, err := s.Attach(spool.Params{Container: owner}, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(se); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
}

// What goes on for a while is said at its beginning and at its end, and nothing of
// it is left out.
func TestDroppedBytesAreAllSaid(t *testing.T) {
	var d dropped
	full := errors.New("no space left")
	for i, step := range []struct {
		bytes int
		last  bool
		want  int
	}{{0, false, 0}, {0, true, 0}, {100, false, 100}, {50, false, 0}, {0, false, 0}, {5, false, 0}, {0, true, 55}, {0, true, 0}, {7, true, 7}} {
		got, why := d.add(step.bytes, full, step.last)
		if got != step.want || (why == nil) != (step.want == 0) {
			t.Errorf("step %d: %d bytes are said, because of %v; want %d", i, got, why, step.want)
		}
	}
}
