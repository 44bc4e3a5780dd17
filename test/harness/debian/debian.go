// Package debian provides Debian systems with a container engine in them, as
// folders, for tests on other engines than the machine's own. A tree is made by
// debootstrap from the mirror that the machine's apt uses, with signatures
// checked against Debian's keyring, and kept from one run to the next.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/proc"
)

// Suite is a Debian release by its code name.
type Suite string

// The releases whose engines tests run on.
const (
	Bookworm Suite = "bookworm" // 20.10
	Trixie   Suite = "trixie"   // 26.1
	Sid      Suite = "sid"      // 28.5 and later: it moves
)

// Machine is the machine's own system, with whatever engine it has.
const Machine Suite = "machine"

// Suites are all of them, the oldest engine first.
var Suites = []Suite{Bookworm, Trixie, Sid}

const (
	cache    = "/var/cache/dockline-test/trees"
	packages = "docker.io,iptables,iproute2,ca-certificates"
	// recipe is written into a tree: one that was made otherwise is made anew.
	recipe     = "1 " + packages + "\n"
	recipeName = "etc/dockline-recipe"
	keyring    = "/usr/share/keyrings/debian-archive-keyring.gpg"
	// maxAge bounds how old a tree gets, as the engines in Debian go on.
	maxAge = 30 * 24 * time.Hour
)

// Tree is a system's root folder. It is never written to: whoever runs it lays
// something of his own over it. Nobody replaces it before Close.
type Tree struct {
	Dir  string
	lock *os.File // shared; nil for the machine's own system
}

// Close lets others replace the tree.
func (t *Tree) Close() error {
	if t.lock == nil {
		return nil
	}
	return t.lock.Close()
}

// Open finds the system of a suite, making it when there is none yet, which
// takes a minute or two. Where the machine itself is of that suite and has an
// engine, it is the tree.
func Open(ctx context.Context, suite Suite) (*Tree, error) {
	if suite == Machine || suite == codename() {
		_, err := exec.LookPath("dockerd")
		if err == nil {
			return &Tree{Dir: "/"}, nil
		} else if suite == Machine {
			return nil, fmt.Errorf("use the machine's own system: %w", err)
		}
	}
	return store{cache, build, try}.open(ctx, suite)
}

// store is a folder of trees, made and tried by its functions. Each tree has a
// lock beside it: shared by those who use it, exclusive for who replaces it.
type store struct {
	dir   string
	build func(ctx context.Context, suite Suite, dir string, lock *os.File) error
	try   func(ctx context.Context, dir string) error
}

func (s store) open(ctx context.Context, suite Suite) (*Tree, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for Debian trees: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, string(suite)+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the tree of %s: %w", suite, err)
	}
	t := &Tree{Dir: filepath.Join(s.dir, string(suite)), lock: lock}
	if err := s.prepare(ctx, suite, t); err != nil {
		lock.Close()
		return nil, fmt.Errorf("provide a tree of %s: %w", suite, err)
	}
	return t, nil
}

// prepare returns with a good tree and the lock shared.
func (s store) prepare(ctx context.Context, suite Suite, t *Tree) error {
	if err := t.flock(ctx, unix.LOCK_SH); err != nil {
		return err
	}
	why := s.check(ctx, t.Dir)
	if why == nil {
		return nil
	}
	usable := errors.Is(why, errOld)
	if usable && unix.Flock(int(t.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return t.flock(ctx, unix.LOCK_SH) // it is in use, and so goes on being used
	}
	if err := t.flock(ctx, unix.LOCK_EX); err != nil {
		return err
	}
	if err := s.replace(ctx, suite, t); err != nil {
		if !usable {
			return err
		}
		// Better an old engine than none, when the mirror is out of reach.
		fmt.Fprintf(os.Stderr, "debian: %v: %v\n", why, err)
	}
	return t.flock(ctx, unix.LOCK_SH)
}

// flock polls, because waiting in the system call could not be given up.
func (t *Tree) flock(ctx context.Context, how int) error {
	return proc.Await(ctx, func(context.Context) error {
		return unix.Flock(int(t.lock.Fd()), how|unix.LOCK_NB)
	})
}

var (
	errOld     = errors.New("the tree is old")
	errChanged = errors.New("the tree is made by another recipe")
)

// check says what is wrong with a tree, if anything: errOld means that it can
// be used nonetheless.
func (s store) check(ctx context.Context, dir string) error {
	name := filepath.Join(dir, recipeName)
	made, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the tree's recipe: %w", err)
	}
	if string(made) != recipe {
		return errChanged
	}
	if err := s.try(ctx, dir); err != nil {
		return err
	}
	st, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("read the tree's recipe: %w", err)
	}
	if time.Since(st.ModTime()) > maxAge {
		return errOld
	}
	return nil
}

// replace makes the tree beside its place and puts it there when it is
// complete, unless another one has done so while this one waited for the lock.
func (s store) replace(ctx context.Context, suite Suite, t *Tree) error {
	if s.check(ctx, t.Dir) == nil {
		return nil
	}
	scratch := t.Dir + ".new"
	if err := os.RemoveAll(scratch); err != nil { // of a build that was killed
		return fmt.Errorf("clear the way: %w", err)
	}
	if err := s.complete(ctx, suite, scratch, t.lock); err != nil {
		return errors.Join(err, os.RemoveAll(scratch))
	}
	if err := os.RemoveAll(t.Dir); err != nil {
		return fmt.Errorf("remove the old tree: %w", err)
	}
	if err := os.Rename(scratch, t.Dir); err != nil {
		return fmt.Errorf("put the new tree in its place: %w", err)
	}
	return nil
}

// complete builds a tree and sees whether it is good.
func (s store) complete(ctx context.Context, suite Suite, dir string, lock *os.File) error {
	if err := s.build(ctx, suite, dir, lock); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(recipeName)), 0o755); err != nil {
		return fmt.Errorf("write the tree's recipe: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, recipeName), []byte(recipe), 0o644); err != nil {
		return fmt.Errorf("write the tree's recipe: %w", err)
	}
	return s.check(ctx, dir)
}

// try runs the tree's engine.
func try(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, "chroot", dir, "dockerd", "--version").CombinedOutput(); err != nil {
		return fmt.Errorf("try the tree's engine: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// build runs debootstrap in namespaces of its own, so that its processes and
// its mounts end with it however it ends. It inherits the lock, so that one
// that outlives a killed test run keeps the next from building beside it.
func build(ctx context.Context, suite Suite, dir string, lock *os.File) error {
	mirror, err := Mirror(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child",
		"debootstrap", "--variant=minbase", "--include="+packages, "--force-check-gpg", "--keyring="+keyring,
		string(suite), dir, mirror)
	cmd.ExtraFiles = []*os.File{lock}
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("debootstrap: %w: %s", err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
	return nil
}
