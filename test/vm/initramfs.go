package vm

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// file is what the machine finds at a path.
type file struct {
	path string
	mode os.FileMode
	from string // a file of this machine, or
	text string // the content
}

// writeInitramfs writes a cpio archive in the format "newc", which the kernel
// unpacks into its first file system (Documentation/driver-api/early-userspace/buffer-format.rst).
func writeInitramfs(w io.Writer, files []file) error {
	c := &cpio{w: w}
	made := map[string]bool{}
	for _, f := range files {
		parts := strings.Split(strings.Trim(path.Dir(f.path), "/"), "/")
		for i := range parts {
			dir := strings.Join(parts[:i+1], "/")
			if dir == "" || made[dir] {
				continue
			}
			made[dir] = true
			c.entry(dir, 0o040755, nil)
		}
		data := []byte(f.text)
		if f.from != "" {
			var err error
			if data, err = os.ReadFile(f.from); err != nil {
				return fmt.Errorf("fill the machine: %w", err)
			}
		}
		c.entry(strings.Trim(f.path, "/"), 0o100000|uint32(f.mode.Perm()), data)
	}
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return fmt.Errorf("write the initramfs: %w", c.err)
	}
	return nil
}

type cpio struct {
	w    io.Writer
	node int
	err  error
}

func (c *cpio) entry(name string, mode uint32, data []byte) {
	c.node++
	const magic, links = "070701", 1
	header := fmt.Sprintf("%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		magic, c.node, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.write([]byte(header + name + "\x00"))
	c.write(data)
}

// write pads to four bytes.
func (c *cpio) write(b []byte) {
	if c.err != nil {
		return
	}
	if _, c.err = c.w.Write(b); c.err == nil && len(b)%4 != 0 {
		_, c.err = c.w.Write(make([]byte, 4-len(b)%4))
	}
}
