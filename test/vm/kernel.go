package vm

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kernel is an unpacked kernel package of Debian's.
type kernel struct {
	image   string
	modules map[string]string // paths by name
	scratch string            // for what has to be unpacked
}

// openKernel fetches the package, if it is not there, by scripts/vm-kernel.sh.
func openKernel(ctx context.Context, top, scratch string) (*kernel, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(top, "scripts/vm-kernel.sh"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("get a kernel: %w", err)
	}
	tree := strings.TrimSpace(string(out))
	images, err := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("find the kernel in %s: %v, %w", tree, images, err)
	}
	k := &kernel{image: images[0], modules: map[string]string{}, scratch: scratch}
	err = filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if name, _, found := strings.Cut(filepath.Base(path), ".ko"); err == nil && found && !d.IsDir() {
			k.modules[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the kernel's modules: %w", err)
	}
	return k, nil
}

// moduleName is how modules refer to each other: file names may have dashes.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// files returns the modules with all that they need, each after what it needs.
// One that the package does not have is part of the kernel.
func (k *kernel) files(ctx context.Context, names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		path, ok := k.modules[moduleName(name)]
		if !ok {
			continue
		}
		path, err := k.unpacked(ctx, path)
		if err != nil {
			return nil, err
		}
		needs, err := dependencies(path)
		if err != nil {
			return nil, err
		}
		before, err := k.files(ctx, needs)
		if err != nil {
			return nil, err
		}
		for _, p := range append(before, path) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// unpacked returns a module's file as it can be loaded: newer packages have
// them compressed.
func (k *kernel) unpacked(ctx context.Context, path string) (string, error) {
	if !strings.HasSuffix(path, ".xz") {
		return path, nil
	}
	to := filepath.Join(k.scratch, strings.TrimSuffix(filepath.Base(path), ".xz"))
	f, err := os.Create(to)
	if err != nil {
		return "", fmt.Errorf("unpack a module: %w", err)
	}
	cmd := exec.CommandContext(ctx, "xz", "-dc", path)
	cmd.Stdout, cmd.Stderr = f, os.Stderr
	if err := errors.Join(cmd.Run(), f.Close()); err != nil {
		return "", fmt.Errorf("unpack %s: %w", path, err)
	}
	return to, nil
}

// dependencies reads a module's own list of what it needs; the file that lists
// it for all is only made where a package is installed.
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open module %s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s says nothing about itself", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", path, err)
	}
	for line := range strings.SplitSeq(string(data), "\x00") {
		if list, found := strings.CutPrefix(line, "depends="); found && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
