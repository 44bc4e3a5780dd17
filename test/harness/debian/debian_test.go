package debian

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var errFake = errors.New("the mirror is out of reach")

// fake is a store whose trees are made by writing a file.
type fake struct {
	store
	t      *testing.T
	builds int // guarded by the tree's lock
	fail   bool
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t}
	f.store = store{dir: t.TempDir(), build: f.make, try: func(_ context.Context, dir string) error {
		_, err := os.Stat(filepath.Join(dir, "dockerd"))
		return err
	}}
	return f
}

func (f *fake) make(_ context.Context, _ Suite, dir string, _ *os.File) error {
	f.builds++
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if f.fail {
		return errFake
	}
	return os.WriteFile(filepath.Join(dir, "dockerd"), nil, 0o755)
}

func (f *fake) get() *Tree {
	f.t.Helper()
	tree, err := f.open(f.t.Context(), Trixie)
	if err != nil {
		f.t.Fatal(err)
	}
	return tree
}

func (f *fake) path(name string) string { return filepath.Join(f.dir, "trixie", name) }

func (f *fake) age() {
	f.t.Helper()
	long := time.Now().Add(-2 * maxAge)
	if err := os.Chtimes(f.path(recipeName), long, long); err != nil {
		f.t.Fatal(err)
	}
}

func TestTreesAreMadeOnce(t *testing.T) {
	f := newFake(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			tree, err := f.open(t.Context(), Trixie)
			if err != nil {
				t.Error(err)
				return
			}
			tree.Close()
		})
	}
	all.Wait()
	if f.builds != 1 {
		t.Errorf("the tree was made %d times", f.builds)
	}
}

func TestTreesAreMadeAnew(t *testing.T) {
	for name, spoil := range map[string]func(*fake) error{
		"broken":         func(f *fake) error { return os.Remove(f.path("dockerd")) },
		"other recipe":   func(f *fake) error { return os.WriteFile(f.path(recipeName), []byte("0\n"), 0o644) },
		"no recipe":      func(f *fake) error { return os.Remove(f.path(recipeName)) },
		"old":            func(f *fake) error { f.age(); return nil },
		"killed build":   func(f *fake) error { return os.Rename(f.path(""), f.path("")+".new") },
		"nothing at all": func(f *fake) error { return os.RemoveAll(f.path("")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.get().Close()
			if err := spoil(f); err != nil {
				t.Fatal(err)
			}
			f.get().Close()
			f.get().Close() // this one is good
			if f.builds != 2 {
				t.Errorf("the tree was made %d times", f.builds)
			}
		})
	}
}

// An old tree is better than none, and one in use is not taken away.
func TestOldTreesAreKept(t *testing.T) {
	f := newFake(t)
	user := f.get()
	f.age()
	f.get().Close()
	if f.builds != 1 {
		t.Error("a tree in use was replaced")
	}
	user.Close()
	f.fail = true
	f.get().Close()
	if f.builds != 2 {
		t.Error("nobody tried to replace the old tree")
	}
	if _, err := os.Stat(f.path("dockerd")); err != nil {
		t.Error("the old tree is gone:", err)
	}
}

func TestFailedBuildsLeaveNothing(t *testing.T) {
	f := newFake(t)
	f.fail = true
	if _, err := f.open(t.Context(), Trixie); !errors.Is(err, errFake) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.dir, "trixie*")); len(left) != 1 { // the lock
		t.Errorf("left behind: %v", left)
	}
	f.fail = false
	f.get().Close()
}
