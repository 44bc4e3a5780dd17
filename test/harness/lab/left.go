package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/proc"
)

// Left lists what there is of the lab on the machine. After Close it is empty.
func (l *Lab) Left() ([]string, error) {
	l.mu.Lock()
	roots := append([]string{l.Dir}, l.outside...)
	l.mu.Unlock()
	return Remains(roots)
}

// Roots lists the folders of the lab at dir, dead or alive: dir and those outside.
func Roots(dir string) []string { return append([]string{dir}, readOutside(dir)...) }

// Remains lists what there is of the lab with these Roots: processes, mounts,
// namespaces, interfaces and folders.
func Remains(roots []string) ([]string, error) {
	found, err := processes(roots)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, p := range found {
		left = append(left, fmt.Sprintf("process %d: %s", p.PID, strings.Join(p.Args, " ")))
	}
	mounts, err := proc.Mounts(0)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if mentions(m.Point, roots) || mentions(m.Root, roots) {
			left = append(left, "mount "+m.Point)
		}
	}
	spaces, err := netns.WithPrefix(namespaces(roots[0]))
	if err != nil {
		return nil, err
	}
	for _, s := range spaces {
		left = append(left, "namespace "+s)
	}
	return append(left, leftOnDisk(roots)...), nil
}

// leftOnDisk lists the folders, and the interfaces that bear their names.
func leftOnDisk(roots []string) (left []string) {
	for _, root := range roots {
		if _, err := os.Lstat(root); err == nil {
			left = append(left, "folder "+root)
		}
		if _, err := net.InterfaceByName(filepath.Base(root)); err == nil {
			left = append(left, "interface "+filepath.Base(root))
		}
	}
	return left
}
