// Package proc finds and ends processes for the test harness: by what
// /proc says of them, and through pidfds, so that a number that the kernel has
// given to somebody else in the meantime is never signalled.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one line of the process table.
type Process struct {
	PID, PPID int
	Start     uint64 // clock ticks since boot: with PID, unique for this boot
	Comm      string // as the kernel has it, at most 15 bytes
	Args      []string
}

// All lists the processes that could be read. Those that end meanwhile are left out.
func All() ([]Process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	var all []Process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p, err := Get(pid); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}

// Get reads one process.
func Get(pid int) (Process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("read the process: %w", err)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return Process{}, fmt.Errorf("read the process: %w", err)
	}
	p := Process{PID: pid}
	// proc(5): the command is in parentheses and may itself contain some.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("process %d: cannot make sense of its stat", pid)
	}
	p.Comm = string(stat[open+1 : end])
	fields := strings.Fields(string(stat[end+1:])) // from field 3, the state, on
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("process %d: its stat is too short", pid)
	}
	p.PPID, _ = strconv.Atoi(fields[1])
	p.Start, _ = strconv.ParseUint(fields[19], 10, 64)
	if s := strings.TrimRight(string(cmdline), "\x00"); s != "" {
		p.Args = strings.Split(s, "\x00")
	}
	return p, nil
}

// ticks is how many there are in a second: USER_HZ, the same on every
// architecture that Linux runs Go on.
const ticks = 100

// Started returns when a process began, as exactly as the kernel tells.
func Started(p Process) (time.Time, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}, fmt.Errorf("read the time since boot: %w", err)
	}
	age := time.Duration(now.Nano()) - time.Duration(p.Start)*time.Second/ticks
	return time.Now().Add(-age), nil
}

// Root says what is mounted at / as the process sees it: the folder of the
// file system that it is, and the super-block options (where an overlay names
// its folders).
func Root(pid int) (root, options string, err error) {
	mounts, err := Mounts(pid)
	if err != nil {
		return "", "", err
	}
	// The last one mounted at a place is the one that is seen.
	for _, m := range slices.Backward(mounts) {
		if m.Point == "/" {
			return m.Root, m.Options, nil
		}
	}
	return "", "", fmt.Errorf("process %d: nothing is mounted at /", pid)
}

// Mount is one line of mountinfo.
type Mount struct{ Root, Point, Options string }

// Mounts lists the mounts that a process sees, in the order in which they were
// made; pid 0 means the caller.
func Mounts(pid int) ([]Mount, error) {
	name := "/proc/self/mountinfo"
	if pid != 0 {
		name = fmt.Sprintf("/proc/%d/mountinfo", pid)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	var all []Mount
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		all = append(all, Mount{Root: unescape(f[3]), Point: unescape(f[4]), Options: unescape(f[len(f)-1])})
	}
	return all, nil
}

// unescape undoes proc(5)'s octal escapes of blanks, tabs, newlines and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Descendants returns the given processes and everything below them.
func Descendants(all []Process, of map[int]bool) map[int]bool {
	found := make(map[int]bool, len(of))
	for pid := range of {
		found[pid] = true
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if found[p.PPID] && !found[p.PID] {
				found[p.PID], grown = true, true
			}
		}
	}
	return found
}

// Kill sends SIGKILL to p, if it is still the process that it was, and waits
// until it has ended. That it had ended already is no error.
func Kill(ctx context.Context, p Process) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// From here on the number cannot pass to another process unnoticed.
	if now, err := Get(p.PID); err != nil || now.Start != p.Start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d (%s): %w", p.PID, p.Comm, err)
	}
	return waitPidfd(ctx, fd, p)
}

// waitPidfd returns when the process has ended, which makes its pidfd readable.
func waitPidfd(ctx context.Context, fd int, p Process) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("process %d (%s) does not end: %w", p.PID, p.Comm, context.Cause(ctx))
		}
	}
}

// Await calls ready until it returns nil, and gives up with its last error when
// ctx ends. It is for what cannot be subscribed to, such as a socket that does
// not exist yet.
func Await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
