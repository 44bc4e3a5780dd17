package history

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that is full costs nothing but what a kill would take: the history
// goes on in memory, says so, and is written when there is room again.
func TestFullDisk(t *testing.T) {
	dir := memory(t, 64<<10)
	r := newRig(t, Options{File: filepath.Join(dir, "placement")})
	r.Note(batch(0, "a", 0, 1))
	fill := func() {
		t.Helper()
		err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 65536), 0o600)
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	fill()
	for i := range 200 { // more than the rest of the last page
		r.Note(batch(i, "b", 100, 101))
	}
	if s := r.Stats(); !s.Unwritten || s.WriteErrors == 0 {
		t.Errorf("nothing says that it is not written: %+v", s)
	}
	if got := text(r.where("web-7", 0, 1e3)); got != "b 100-101 10;" {
		t.Errorf("not in memory: %s", got)
	}
	if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if s := r.Stats(); s.Unwritten {
		t.Errorf("there is room again: %+v", s)
	}
	r.kill()
	if a := r.where("web-7", 0, 1e3); len(a.Collectors) != 1 || len(a.Gaps) > 0 {
		t.Errorf("after it could be written again: %+v", a)
	}
	fill()
	r.set(500)
	for i := range 300 {
		r.Note(batch(i, "c", 500, 501))
	}
	if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.opts.File)
	if err != nil {
		t.Fatal(err)
	}
	r.opts.File += "-of-the-killed"
	if err := os.WriteFile(r.opts.File, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	a := r.where("web-7", 0, 1e3)
	if a.Complete || len(a.Gaps) != 1 || !a.Gaps[0].From.Before(at(500)) || a.Gaps[0].From.Before(at(490)) {
		t.Errorf("killed while the disk was full: %+v", a)
	}
}

// A disk that does not answer holds an acknowledgement up once, for a second.
func TestHungDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var hung atomic.Pointer[chan struct{}]
		r := newRig(t, Options{File: filepath.Join(dir, "placement"), Now: time.Now, fault: func(string) error {
			if ch := hung.Load(); ch != nil {
				<-*ch
			}
			return nil
		}})
		r.Note(batch(1, "a", 0, 1))
		back := make(chan struct{})
		hung.Store(&back)
		begun := time.Now()
		for i := range 100 {
			r.Note(batch(i, "b", 0, 1))
		}
		if took := time.Since(begun); took != patience {
			t.Errorf("held up for %v", took)
		}
		if !r.Stats().Unwritten {
			t.Error("nothing says that it is not written")
		}
		hung.Store(nil)
		close(back)
		synctest.Wait()
		if r.Stats().Unwritten {
			t.Error("it is not written though the disk is back")
		}
		r.kill()
		if got := text(r.where("web-99", -1e9, 1e9)); !strings.HasPrefix(got, "b ") {
			t.Errorf("lost: %s", got)
		}
		r.end()
	})
}

// A disk that refuses is tried again, and nobody waits for that.
func TestRefusingDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		r := newRig(t, Options{File: filepath.Join(dir, "placement"), Now: time.Now, fault: func(string) error {
			if full.Load() {
				return unix.EIO
			}
			return nil
		}})
		r.Note(batch(1, "a", 0, 1))
		full.Store(true)
		for i := range 100 {
			r.Note(batch(i, "b", 0, 1))
		}
		if s := r.Stats(); !s.Unwritten || s.WriteErrors == 0 {
			t.Errorf("refused: %+v", s)
		}
		time.Sleep(3 * rounds) // in the bubble's time
		if s := r.Stats(); !s.Unwritten || s.WriteErrors < 3 {
			t.Errorf("refused for long: %+v", s)
		}
		full.Store(false)
		time.Sleep(rounds + time.Second) // in the bubble's time
		if s := r.Stats(); s.Unwritten {
			t.Errorf("the disk takes it again: %+v", s)
		}
		r.kill()
		if got := text(r.where("web-99", -1e9, 1e9)); !strings.HasPrefix(got, "b ") {
			t.Errorf("lost: %s", got)
		}
		r.end()
	})
}

// Its files never take more than they may, whatever it is told.
func TestBound(t *testing.T) {
	const most = 64 << 10
	var name string
	var largest atomic.Int64
	opts := Options{MaxBytes: most, fault: func(string) error {
		var sum int64
		for _, path := range []string{name, name + ".new"} {
			if info, err := os.Stat(path); err == nil {
				sum += info.Size()
			}
		}
		for old := largest.Load(); sum > old && !largest.CompareAndSwap(old, sum); old = largest.Load() {
		}
		return nil
	}}
	opts.File = filepath.Join(t.TempDir(), "placement")
	name = opts.File
	r := newRig(t, opts)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 4000 {
		r.set(float64(i))
		b := batch(rnd.IntN(2000), fmt.Sprint("collector-", rnd.IntN(500)), float64(i), float64(i)+1)
		b.Pool = strings.Repeat("p", rnd.IntN(200))
		r.Note(b)
	}
	if s := r.Stats(); s.Intervals < 50 || s.Since.Before(at(1)) {
		t.Errorf("%+v", s)
	}
	r.restart()
	r.end()
	if n := largest.Load(); n > most || n < most/2 {
		t.Errorf("its files took %d bytes of %d", n, most)
	}
	live := int64(0)
	for _, st := range r.streams {
		live += streamCost(st) + int64(len(st.spans))*spanCost
	}
	for _, p := range r.pairs {
		live += pairCost(p)
	}
	if live != r.live {
		t.Errorf("%d bytes are alive, counted were %d", live, r.live)
	}
}

// Many at once, for the race detector, while the file is written anew.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t, Options{MaxBytes: 16 << 10})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 200 {
				r.Note(batch(n, string("abc"[i%3]), float64(60*i), float64(60*i+1)))
				if i%20 == 0 {
					_, _ = r.Where(Query{Container: fmt.Sprint("web-", n)})
					r.Stats()
				}
			}
		})
	}
	all.Wait()
	if s := r.Stats(); s.Streams == 0 || s.WriteErrors > 0 {
		t.Errorf("%+v", s)
	}
}

// What is not a history is put aside, and a new one begins.
func TestForeignFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "another version": "dlplace9" + strings.Repeat("x", 100), "too large": strings.Repeat("y", 5<<20),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "placement")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, Options{File: file})
			r.Note(batch(1, "a", 0, 1))
			r.kill()
			if got := text(r.where("web-1", 0, 1e3)); !strings.HasPrefix(got, "a 0-") {
				t.Errorf("got %s", got)
			}
			if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != content {
				t.Errorf("kept %d bytes, %v", len(kept), err)
			}
		})
	}
}
