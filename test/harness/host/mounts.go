package host

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/thread"
)

// assemble makes the host's mount and UTS namespaces. They live for as long as
// this process holds them open or another one is in them.
func (h *Host) assemble() error {
	return thread.Run(func() error {
		// In the host's network first: /sys shows the network of who mounts it.
		if err := netns.Enter(h.NS); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("make namespaces: %w", err)
		}
		if err := unix.Sethostname([]byte(h.Name)); err != nil {
			return fmt.Errorf("set the host's name: %w", err)
		}
		if err := h.mountAll(); err != nil {
			return err
		}
		return h.keep()
	})
}

// mount is one call of mount(2); target is below the host's root.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// mountAll makes the tree with a layer of the host's own over it the root, with
// everything below it that a running system has. In the end all of it is
// shared, as systemd makes it on real hosts, and as plugins need it (only what
// is mounted in a shared place later shows up in theirs).
func (h *Host) mountAll() error {
	const bind = unix.MS_BIND | unix.MS_REC
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", h.tree.Dir, h.layer("upper"), h.layer("work"))
	root := h.layer("root")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil { // nothing gets back out
		return fmt.Errorf("detach from the machine's mounts: %w", err)
	}
	mounts := []mount{
		{"overlay", "", "overlay", 0, layers},
		{"/proc", "/proc", "", bind, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"/sys/fs/cgroup", "/sys/fs/cgroup", "", bind, ""},
		{"/dev", "/dev", "", bind, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{h.run, h.run, "", bind, ""},
		{h.dir, h.dir, "", bind, ""},
	}
	for i, dir := range h.lent {
		own := h.layer(fmt.Sprintf("lent%d", i))
		for _, layer := range []string{"upper", "work"} {
			if err := os.MkdirAll(filepath.Join(own, layer), 0o755); err != nil {
				return fmt.Errorf("lend %s: %w", dir, err)
			}
		}
		mounts = append(mounts, mount{"overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", dir, own, own)})
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return pivot(root)
}

// pivot makes dir the root of the mount namespace and lets go of the old one.
func pivot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("change into the new root: %w", err)
	}
	// pivot_root(2): both the same puts the old root on top of the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return nil
}

// keep opens the namespaces that the thread is in.
func (h *Host) keep() (err error) {
	if h.mnt, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
		return fmt.Errorf("hold the mounts: %w", err)
	}
	if h.uts, err = os.Open("/proc/thread-self/ns/uts"); err != nil {
		h.mnt.Close()
		return fmt.Errorf("hold the host's name: %w", err)
	}
	return nil
}
