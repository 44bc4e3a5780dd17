// Package netns makes network namespaces for the test harness, the kind that
// `ip netns` lists, and runs Go code and commands in them.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/thread"
)

const dir = "/run/netns" // where ip-netns(8) keeps them

// Path is the file that stands for the namespace.
func Path(name string) string { return filepath.Join(dir, name) }

// Add makes a namespace, with its loopback interface up.
func Add(ctx context.Context, name string) error {
	if err := IP(ctx, "netns", "add", name); err != nil {
		return err
	}
	return IP(ctx, "-n", name, "link", "set", "lo", "up")
}

// Delete takes the namespace's name away, upon which it ends as soon as no
// process is in it any more. One that is missing is no error.
func Delete(name string) error {
	if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %s: %w", name, err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}

// WithPrefix lists the namespaces whose names begin like this.
func WithPrefix(prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list the namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Do runs fn inside the namespace. Sockets that it opens, and processes that it
// starts, are and stay there; goroutines that it starts are not.
func Do(name string, fn func() error) error {
	return thread.Run(func() error {
		if err := Enter(name); err != nil {
			return err
		}
		return fn()
	})
}

// Enter moves the calling thread into the namespace, for good: it has to be one
// of thread.Run's.
func Enter(name string) error {
	f, err := os.Open(Path(name))
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", name, err)
	}
	return nil
}

// Command is exec.CommandContext with a command that runs inside the namespace
// and sees the machine otherwise. (`ip netns exec` would give it another /sys.)
func Command(ctx context.Context, ns, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + Path(ns), "--", name}, args...)...)
}

// IP runs the ip command and returns its error with what it printed.
func IP(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
