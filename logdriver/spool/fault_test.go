package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

var errKilled = errors.New("killed")

// life is one process: it makes changes to the disk until its time has come.
type life struct {
	left   int // changes until the kill; negative: none comes
	killed bool
}

func (l *life) fault(string) error {
	if l.left == 0 {
		l.killed = true
	}
	if l.killed {
		return errKilled
	}
	l.left--
	return nil
}

// world is what outlives a process: the directory, the engine's pipes, and
// what was promised to whom.
type world struct {
	t     *testing.T
	dir   string
	pipes map[string][2]int
	runs  [][]byte // what was written to each session's pipe
	acked uint64   // the highest offset that Ack was called with

	life  *life
	spool *Spool
}

func (w *world) boot(kill int) {
	w.life = &life{left: kill}
	w.spool = nil
	s, err := Open(w.dir, Config{MaxBytes: 1 << 40, SegmentBytes: 64, disk: disk{fault: w.life.fault}}, slog.New(slog.DiscardHandler))
	if err == nil {
		w.spool = s
	} else if !w.life.killed {
		w.t.Fatal(err)
	}
}

// A step is what the engine asks for and repeats until it has succeeded.
type step func(w *world) error

func startRun(n int) step {
	return func(w *world) error {
		_, _, err := w.spool.Attach(Params{Container: owner, KeepBytes: 1 << 30, Routes: []string{"a", "b"}}, fifoName(n))
		return err
	}
}

func fifoName(n int) string { return fmt.Sprint("/fifo/", n) }

// writeOnce returns two steps: the engine writes, and the plugin moves.
func writeOnce(n int, b []byte) []step {
	written := false
	return []step{func(w *world) error {
		if !written {
			write(w.t, w.pipes[fifoName(n)][1], b)
			w.runs[n] = append(w.runs[n], b...)
			written = true
		}
		return w.move(n)
	}}
}

func (w *world) session(n int) *Session {
	if st := w.spool.Of(owner); st != nil {
		for _, se := range st.Sessions() {
			if se.fifo == fifoName(n) {
				return se
			}
		}
	}
	return nil
}

func (w *world) move(n int) error {
	se := w.session(n)
	if se == nil {
		return errors.New("the session is lost")
	}
	for {
		k, err := se.Splice(w.pipes[fifoName(n)][0], 1<<20)
		if k == 0 && err == nil || err != nil && !errors.Is(err, errKilled) {
			return nil // empty
		}
		if err != nil {
			return err
		}
	}
}

func endRun(n int) step {
	return func(w *world) error {
		if err := w.move(n); err != nil && w.session(n) != nil {
			return err
		}
		if se := w.session(n); se != nil {
			return se.Detach()
		}
		return nil
	}
}

func ackAll(route string) step {
	return func(w *world) error {
		st := w.spool.Of(owner)
		w.acked = max(w.acked, st.End())
		return st.Ack(route, st.End())
	}
}

// emptyRun is a container of which nothing is to be left.
func emptyRun(n int) []step {
	container := fmt.Sprintf("%064x", n)
	return []step{func(w *world) error {
		_, _, err := w.spool.Attach(Params{Container: container, Routes: []string{"a"}}, fifoName(100+n))
		return err
	}, func(w *world) error {
		if st := w.spool.Of(container); st != nil {
			for _, se := range st.Sessions() {
				return se.Detach()
			}
		}
		return nil
	}}
}

func scenario() []step {
	var steps []step
	add := func(s ...step) { steps = append(steps, s...) }
	for n := range 3 {
		add(emptyRun(n)...)
		add(startRun(n))
		for i := range 4 {
			add(writeOnce(n, bytes.Repeat([]byte{byte('a' + 4*n + i)}, 30+20*i))...)
			if i%2 == 1 {
				add(ackAll("a"))
			}
		}
		add(endRun(n))
	}
	return append(steps, ackAll("a"))
}

// run carries out the scenario with kills after so many changes to the disk,
// one life after the other, and returns how many changes the last life made.
func runScenario(t *testing.T, kills ...int) (changes int) {
	w := &world{t: t, dir: t.TempDir(), pipes: map[string][2]int{}, runs: make([][]byte, 3)}
	for n := range 3 {
		r, wr := pipe(t)
		w.pipes[fifoName(n)] = [2]int{r, wr}
	}
	next := func() int {
		if len(kills) == 0 {
			return 1 << 30
		}
		k := kills[0]
		kills = kills[1:]
		return k
	}
	w.boot(next())
	for i, s := range scenario() {
		for attempt := 0; ; attempt++ {
			if w.spool != nil {
				err := s(w)
				if err == nil && !w.life.killed {
					break
				}
				if !w.life.killed {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			w.boot(next())
			w.checkCursor()
		}
	}
	changes = 1<<30 - w.life.left
	w.check()
	return changes
}

// checkCursor: what nobody acknowledged does not count as acknowledged.
func (w *world) checkCursor() {
	if w.spool == nil {
		return
	}
	if st := w.spool.Of(owner); st != nil && (st.Cursor("a") > w.acked || st.Cursor("b") > st.Start()) {
		w.t.Fatalf("cursors at %d and %d, acknowledged was %d and nothing", st.Cursor("a"), st.Cursor("b"), w.acked)
	}
}

func (w *world) check() {
	w.t.Helper()
	want := bytes.Join(w.runs, []byte("|"))
	// Reading through a new process sees what is on the disk.
	w.boot(1 << 30)
	if got := readAll(w.t, w.spool.Of(owner), 0); !bytes.Equal(got, want) {
		w.t.Fatalf("spooled\n%s\nwritten\n%s", got, want)
	}
	if left, _ := os.ReadDir(filepath.Join(w.dir, streamsDir)); len(left) != 1 {
		w.t.Fatalf("%d streams are left, want the one that holds bytes", len(left))
	}
	if n := len(w.spool.Of(owner).Sessions()); n != 0 {
		w.t.Fatalf("%d sessions are left", n)
	}
	if st := w.spool.Of(owner); st.Cursor("a") != st.End() {
		w.t.Fatalf("cursor at %d of %d", st.Cursor("a"), st.End())
	}
}

// TestKilledAtEveryChange kills the process at each change that it makes to
// the disk, then two lives one after the other, and looks
// whether every byte that was written is spooled, once, in its place.
func TestKilledAtEveryChange(t *testing.T) {
	changes := runScenario(t)
	if changes < 50 {
		t.Fatalf("the scenario makes only %d changes", changes)
	}
	for first := range changes {
		runScenario(t, first)
		if first%3 == 0 {
			runScenario(t, first, first%7)
		}
	}
}
