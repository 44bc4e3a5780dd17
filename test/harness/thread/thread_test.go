package thread

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever a function does to its thread is seen by nobody else, not even by
// the process's first thread, however many run at once.
func TestRunLeavesNoTrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing namespaces needs root")
	}
	before := space(t)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			err := Run(func() error { return unix.Unshare(unix.CLONE_NEWUTS) })
			if err != nil {
				t.Error(err)
			}
			if now := space(t); now != before {
				t.Errorf("a goroutine is in namespace %s instead of %s", now, before)
			}
		})
	}
	all.Wait()
	if now, err := os.Readlink("/proc/self/ns/uts"); err != nil || now != before {
		t.Errorf("the process is in namespace %s instead of %s (%v)", now, before, err)
	}
}

func TestRunReportsAFunctionThatDoesNotReturn(t *testing.T) {
	err := Run(func() error {
		runtime.Goexit()
		return nil
	})
	if !errors.Is(err, ErrUnfinished) {
		t.Errorf("got %v", err)
	}
}

func space(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/uts")
	if err != nil {
		t.Error(err)
	}
	return link
}
