package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestKillEndsTheProcessItWasGiven(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Get(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.PPID != os.Getpid() {
		t.Errorf("its parent is %d, not %d", p.PPID, os.Getpid())
	}
	other := p
	other.Start++ // as if the number had passed to another process
	if err := Kill(t.Context(), other); err != nil {
		t.Error(err)
	}
	if now, err := Get(p.PID); err != nil || now.Start != p.Start {
		t.Errorf("a process of the same number was killed: %v", err)
	}
	if err := Kill(t.Context(), p); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	if err := Kill(t.Context(), p); err != nil {
		t.Errorf("killing it again: %v", err)
	}
}

func TestRootOfThisProcess(t *testing.T) {
	if _, _, err := Root(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestDescendants(t *testing.T) {
	all := []Process{{PID: 5, PPID: 4}, {PID: 4, PPID: 2}, {PID: 2, PPID: 1}, {PID: 3, PPID: 1}}
	got := Descendants(all, map[int]bool{2: true})
	if len(got) != 3 || !got[2] || !got[4] || !got[5] {
		t.Errorf("got %v", got)
	}
}

func TestAwaitGivesUpWithTheLastError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	not := errors.New("not ready")
	if err := Await(ctx, func(context.Context) error { return not }); !errors.Is(err, not) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
