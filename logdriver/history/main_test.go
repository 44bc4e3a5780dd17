package history

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testleak"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// rig is a history that runs, on a file of the test's own.
type rig struct {
	*History
	t    testing.TB
	opts Options
	end  func()
	now  atomic.Int64 // the clock
}

const start = int64(1_700_000_000 * time.Second)

func at(sec float64) time.Time { return moment(start + int64(sec*float64(time.Second))) }

func newRig(t testing.TB, opts Options) *rig {
	t.Helper()
	if opts.File == "" {
		opts.File = filepath.Join(t.TempDir(), "state", "placement")
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 4 << 20
	}
	if opts.Boot == "" {
		opts.Boot = "boot-1"
	}
	opts.Log = slog.New(slog.DiscardHandler)
	r := &rig{t: t, opts: opts}
	r.set(0)
	if opts.Now == nil {
		r.opts.Now = func() time.Time { return moment(r.now.Load()) }
	}
	r.open()
	t.Cleanup(func() { r.end() })
	return r
}

// set sets the clock.
func (r *rig) set(sec float64) { r.now.Store(at(sec).UnixNano()) }

func (r *rig) open() {
	r.History = Open(r.opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h := r.History
	go func() {
		defer close(done)
		h.Run(ctx)
	}()
	r.end = func() { cancel(); <-done }
}

// restart ends the process in order and starts the next.
func (r *rig) restart() {
	r.end()
	r.open()
}

// kill ends it as SIGKILL does: what is in the file by now stays.
func (r *rig) kill() {
	r.t.Helper()
	data, err := os.ReadFile(r.opts.File)
	if err != nil {
		r.t.Fatal(err)
	}
	r.end()
	if err := os.WriteFile(r.opts.File, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// memory mounts a file system of so many bytes, on which syncs cost nothing.
func memory(t *testing.T, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// batch is one of container n, with records from one second to another.
func batch(n int, collector string, from, to float64) Batch {
	return Batch{
		Stream: fmt.Sprintf("%012x0001", n), Container: fmt.Sprintf("%064x", n), Name: fmt.Sprint("web-", n), Created: at(-1e6),
		Pool: "p", Collector: collector, First: at(from).UnixNano(), Last: at(to).UnixNano(), Records: 10, Bytes: 1000,
	}
}

// where asks for one container.
func (r *rig) where(name string, from, to float64) Holding {
	r.t.Helper()
	all, err := r.Where(Query{Container: name, From: at(from), To: at(to)})
	if err != nil || len(all) != 1 {
		r.t.Fatalf("where %s: %d containers, %v", name, len(all), err)
	}
	return all[0]
}

// text is what a holding says, in seconds since start.
func text(a Holding) (s string) {
	for _, i := range a.Intervals {
		s += fmt.Sprintf("%s %g-%g %d", i.Collector, i.From.Sub(at(0)).Seconds(), i.To.Sub(at(0)).Seconds(), i.Records)
		if i.AtLeast {
			s += "+"
		}
		if !i.Exact {
			s += "~"
		}
		s += ";"
	}
	return s
}
