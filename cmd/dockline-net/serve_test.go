package main

import (
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/state"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// hostIn opens the kernel of a namespace of its own.
func hostIn(t *testing.T) (host *kernel.Kernel) {
	t.Helper()
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			defer func() { _ = ns.Close() }()
			host, err = kernel.Open("test")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return host
}

func TestAHangupReconciles(t *testing.T) {
	host := hostIn(t)
	kept, err := state.Open(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	p, err := assemble(host, kept, settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	reconciled := make(chan error)
	p.reconcile.Done = func(_ reconcile.Report, err error) { reconciled <- err }
	end := p.onDemand(t.Context())
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := <-reconciled; err != nil {
			t.Error(err)
		}
	}
	end()
}
