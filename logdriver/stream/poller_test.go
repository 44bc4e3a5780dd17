package stream

import (
	"errors"
	"os"
	"testing"
)

// readingEnd makes a FIFO, of which it returns both ends.
func readingEnd(t *testing.T, p *poller) (*pipe, *os.File) {
	t.Helper()
	path, w := engineEnd(t)
	fd, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	pp, err := p.add(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pp.close() })
	return pp, w
}

func write(t *testing.T, w *os.File) {
	t.Helper()
	if _, err := w.WriteString("record"); err != nil {
		t.Fatal(err)
	}
}

func arm(t *testing.T, pp *pipe) {
	t.Helper()
	if err := pp.arm(); err != nil {
		t.Fatal(err)
	}
}

// The engine writes hundreds of thousands of times a second: nobody may be
// woken who has not asked.
func TestAPipeWakesOnlyWhoAsked(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	a, engineA := readingEnd(t, p)
	b, engineB := readingEnd(t, p)
	write(t, engineA) // before anybody asks
	arm(t, b)
	write(t, engineB)
	<-b.ready
	if len(a.ready) > 0 {
		t.Error("a pipe was reported that was not asked for")
	}
	arm(t, a) // what is there already counts
	<-a.ready
	write(t, engineA)
	arm(t, b)
	<-b.ready
	if len(a.ready) > 0 {
		t.Error("a pipe was reported twice")
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
	if err := a.arm(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed pipe is armed: %v", err)
	}
}

func TestAPipeWakesAtTheEngineEnd(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	pp, w := readingEnd(t, p)
	arm(t, pp)
	_ = w.Close()
	<-pp.ready
}
