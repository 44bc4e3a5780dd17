// Package thread runs functions on operating system threads that nobody else
// uses, for what the kernel keeps per thread: namespaces, above all.
package thread

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrUnfinished says that the function did not return but ended its goroutine,
// as t.Fatal does, which belongs to a test's own goroutine.
var ErrUnfinished = errors.New("the function on its own thread did not return")

// Run runs fn on a thread of its own and returns what it returns. The thread is
// never used for anything else afterwards: it ends with fn, so that fn may
// leave it in whatever state it likes. Processes that fn starts inherit that
// state; goroutines that it starts do not.
func Run(fn func() error) error {
	err := ErrUnfinished
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = alone(fn)
	}()
	<-done
	return err
}

// alone locks the goroutine to its thread and never unlocks it: the runtime
// ends the thread with it. The process's first thread cannot end (and is what
// /proc/self shows), so there fn moves on to another, which cannot be the same
// as this one is taken meanwhile.
func alone(fn func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		return Run(fn)
	}
	return fn()
}
