package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/proc"
)

// daemons are the commands that a lab starts with a path of its own among the
// arguments, the ones first that would otherwise start others anew; the kernel
// cuts their names after 15 bytes. Only these
// are found by their arguments: a person's `tail -f` of a log is left alone.
var daemons = []string{"dockerd", "containerd", "containerd-shim", "runc", "rsyslogd", "docker-registry", "collector", "etcd", "dockline-net"}

// sweep ends, unmounts and deletes everything that belongs to the lab at dir.
func sweep(dir string) error {
	ctx, cancel := sweepContext()
	defer cancel()
	roots := Roots(dir)
	if err := endProcesses(ctx, roots); err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	removeCgroups(dir)
	removeBridges(roots[1:])
	if err := removeNamespaces(dir); err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	if err := unmountBelow(roots); err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	for _, root := range slices.Backward(roots) {
		// A process that was just killed may not have let go of everything yet.
		err := proc.Await(ctx, func(context.Context) error { return removeFolder(root) })
		if err != nil {
			return fmt.Errorf("sweep %s: %w", dir, err)
		}
	}
	return nil
}

// removeFolder removes the lock last: for as long as it is there, nobody else
// takes the lab for a dead one.
func removeFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

func readOutside(dir string) []string {
	data, err := os.ReadFile(filepath.Join(dir, outsideName))
	if err != nil {
		return nil
	}
	var all []string
	for _, p := range strings.Fields(string(data)) {
		if strings.HasPrefix(p, "/run/dt") && filepath.Clean(p) == p {
			all = append(all, p)
		}
	}
	return all
}

// endProcesses kills until nothing is left, because a daemon may have started
// another process between being listed and being killed.
func endProcesses(ctx context.Context, roots []string) error {
	for {
		found, err := processes(roots)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return nil
		}
		for _, p := range found {
			if err := proc.Kill(ctx, p); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d processes are left: %w", len(found), context.Cause(ctx))
		}
	}
}

// processes lists what runs for a lab, in the order in which to end it:
// daemons by the paths in their arguments, whatever has its root folder below
// the lab (containers and plugins), and what is below either in the tree.
func processes(roots []string) ([]proc.Process, error) {
	all, err := proc.All()
	if err != nil {
		return nil, err
	}
	ours := make(map[int]bool)
	for _, p := range all {
		if isDaemonOf(p, roots) || hasRootBelow(p, roots) {
			ours[p.PID] = true
		}
	}
	ours = proc.Descendants(all, ours)
	var found []proc.Process
	for _, p := range all {
		if ours[p.PID] && p.PID != os.Getpid() && !isZombie(p) {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b proc.Process) int { return rank(a) - rank(b) })
	return found, nil
}

func isDaemonOf(p proc.Process, roots []string) bool {
	if rank(p) == len(daemons) {
		return false
	}
	return slices.ContainsFunc(p.Args, func(arg string) bool { return mentions(arg, roots) })
}

func hasRootBelow(p proc.Process, roots []string) bool {
	root, options, err := proc.Root(p.PID)
	return err == nil && (mentions(root, roots) || strings.Contains(options, "upperdir=") && mentions(options, roots))
}

// mentions reports whether one of the roots, and not merely a longer name that
// begins like it, is in s.
func mentions(s string, roots []string) bool {
	for _, root := range roots {
		for rest := s; ; {
			i := strings.Index(rest, root)
			if i < 0 {
				break
			}
			rest = rest[i+len(root):]
			if rest == "" || rest[0] == '/' {
				return true
			}
		}
	}
	return false
}

// isZombie tells processes that have ended and wait to be reaped: they have no
// arguments any more and cannot be killed.
func isZombie(p proc.Process) bool { return len(p.Args) == 0 }

func rank(p proc.Process) int {
	for i, name := range daemons {
		if p.Comm == name {
			return i
		}
	}
	return len(daemons)
}

// unmountBelow takes away what is mounted below the roots, the latest first,
// without waiting for whoever still uses it.
func unmountBelow(roots []string) error {
	mounts, err := proc.Mounts(0)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if !slices.ContainsFunc(roots, func(r string) bool { return m.Point == r || strings.HasPrefix(m.Point, r+"/") }) {
			continue
		}
		err := unix.Unmount(m.Point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", m.Point, err)
		}
	}
	return nil
}

// removeBridges removes the bridges that bear the names of folders outside.
func removeBridges(outside []string) {
	for _, dir := range outside {
		// Most have none, and one that is left in spite of this harms nobody.
		_ = exec.Command("ip", "link", "delete", filepath.Base(dir), "type", "bridge").Run()
	}
}

// namespaces is what the names of a lab's network namespaces begin with.
func namespaces(dir string) string { return "dt" + filepath.Base(dir) + "-" }

// removeNamespaces removes the lab's network namespaces, and thereby all
// interfaces in them: nothing that could keep one alive is left by now.
func removeNamespaces(dir string) error {
	names, err := netns.WithPrefix(namespaces(dir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := netns.Delete(name); err != nil {
			return err
		}
	}
	return nil
}

var engineID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// removeCgroups removes the control groups, now empty, of the containers and
// plugins below the lab, which an engine that is killed leaves.
func removeCgroups(dir string) {
	var ids []string
	for _, pattern := range []string{"*/data/containers/*", "*/data/plugins/*"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, n := range names {
			if id := filepath.Base(n); engineID.MatchString(id) {
				ids = append(ids, id)
			}
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && slices.Contains(ids, e.Name()) {
			removeTree(path)
			return fs.SkipDir
		}
		return nil
	})
}

// removeTree removes the folders of a control group, the deepest first; the
// files in them cannot and need not be removed.
func removeTree(top string) {
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		_ = unix.Rmdir(d)
	}
}
