// Package lab gives a test run one folder below which everything that it makes
// has its place, and leaves nothing behind, however the run ends.
//
// A lab's folder holds a lock for as long as the process lives. Whoever opens a
// lab first sweeps those whose lock is free: it ends their processes, unmounts
// what is mounted below them, and deletes them. Nothing else is touched.
//
// What cannot be below the folder (the path of a plugin's socket has to be
// short) is made with Outside, which writes its place down first.
package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockName    = "lock"
	outsideName = "outside" // one path a line
	sweepTime   = 3 * time.Minute
)

// Lab is the folder of one test run.
type Lab struct {
	Dir  string
	id   string
	lock *os.File

	mu      sync.Mutex // guards outside
	outside []string
}

// Base is where labs are made: below TMPDIR.
func Base() string { return filepath.Join(os.TempDir(), "dockline-test") }

// Open sweeps what dead runs left below base and makes a new lab there.
func Open(base string) (*Lab, error) {
	unlock, err := lockBase(base)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweepDead(base); err != nil {
		return nil, err
	}
	id := newID()
	l := &Lab{Dir: filepath.Join(base, id), id: id}
	if err := os.Mkdir(l.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the lab: %w", err)
	}
	if l.lock, err = tryLock(filepath.Join(l.Dir, lockName)); err != nil {
		return nil, err
	}
	return l, nil
}

// SweepAll removes what dead runs left below base. Labs in use stay.
func SweepAll(base string) error {
	unlock, err := lockBase(base)
	if err != nil {
		return err
	}
	defer unlock()
	return sweepDead(base)
}

// Outside makes a folder with a very short path, for sockets, and returns it.
func (l *Lab) Outside() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := fmt.Sprintf("/run/dt%s%d", l.id, len(l.outside))
	l.outside = append(l.outside, dir)
	list := strings.Join(l.outside, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(l.Dir, outsideName), []byte(list), 0o644); err != nil {
		return "", fmt.Errorf("write down a folder outside of the lab: %w", err)
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return "", fmt.Errorf("make a folder outside of the lab: %w", err)
	}
	return dir, nil
}

// Bridge makes a network bridge that has the name of a folder of Outside, with a
// link-local address, and returns that name.
func (l *Lab) Bridge(outside string) (string, error) {
	name := filepath.Base(outside)
	l.mu.Lock()
	n := len(l.outside)
	l.mu.Unlock()
	address := fmt.Sprintf("169.254.%d.%d/29", 1+rand.IntN(254), 8*(n%31)+1)
	for _, args := range [][]string{{"link", "add", name, "type", "bridge"}, {"address", "add", address, "dev", name}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("make a bridge: %w: %s", err, out)
		}
	}
	return name, nil
}

// Namespace is the name of a network namespace of the lab, by which the sweep
// knows it: it deletes whatever namespaces bear such names.
func (l *Lab) Namespace(name string) string { return namespaces(l.Dir) + name }

// End ends every process that runs below a folder of the lab: its daemons, and
// whatever has its root folder there.
func (l *Lab) End(ctx context.Context, dir string) error {
	return endProcesses(ctx, []string{dir})
}

// Close ends every process of the lab, unmounts and deletes everything. It may
// be called more than once.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	err := sweep(l.Dir)
	l.lock.Close()
	l.lock = nil
	return err
}

// lockBase keeps others from sweeping or making labs meanwhile.
func lockBase(base string) (unlock func(), err error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for labs: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(base, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for labs: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the folder for labs: %w", err)
	}
	return func() { f.Close() }, nil
}

// tryLock takes a lock that ends with the process. Children do not inherit it.
func tryLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	return f, nil
}

// sweepDead sweeps every lab below base that nobody holds.
func sweepDead(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("list the labs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(base, e.Name())
		lock, err := tryLock(filepath.Join(dir, lockName))
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) { // in use, or gone just now
			continue
		} else if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, sweep(dir))
		lock.Close()
	}
	return errors.Join(errs...)
}

// newID is short because it becomes part of socket paths, see Outside.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 4)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// sweepContext bounds one sweep.
func sweepContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), sweepTime, errors.New("the sweep took too long"))
}
