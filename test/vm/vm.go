// Package vm runs a program in a virtual machine: for tests of what the kernel
// at hand does not have. The machine is QEMU's, emulated, with Debian's kernel
// for clouds and nothing in it but that program, the kernel modules that it
// needs and an init (test/cmd/vminit). It has no disk and no network.
package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Run is one machine.
type Run struct {
	Program string   // a static binary
	Args    []string // its arguments
	Modules []string // what to load
	Console io.Writer
	Scratch string // a folder for what is made
}

const (
	memory  = "512M"
	verdict = "vminit: exit "
	stop    = 5 * time.Second // that QEMU gets to end after it was told to
)

// ErrNoVerdict says that the machine ended before the program did.
var ErrNoVerdict = errors.New("the machine ended without a verdict")

// Do boots the machine and returns the program's exit code.
func (r *Run) Do(ctx context.Context, top string) (code int, err error) {
	k, err := openKernel(ctx, top, r.Scratch)
	if err != nil {
		return 0, err
	}
	initrd := filepath.Join(r.Scratch, "initramfs")
	if err := r.fill(ctx, k, top, initrd); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", k.image, "-initrd", initrd,
		// On a busy machine the emulated timer may come too late for the kernel's
		// check whether it works, which ends in a panic.
		"-append", "console=ttyS0 quiet panic=-1 oops=panic no_timer_check")
	cmd.WaitDelay = stop
	cmd.Stderr = r.Console
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start QEMU: %w", err)
	}
	code, found := r.read(out)
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("run QEMU: %w", errors.Join(err, context.Cause(ctx)))
	}
	if !found {
		return 0, ErrNoVerdict
	}
	return code, nil
}

// read passes the console on, and looks for the init's last words in it.
func (r *Run) read(out io.Reader) (code int, found bool) {
	s := bufio.NewReader(out)
	for {
		line, err := s.ReadString('\n')
		_, _ = io.WriteString(r.Console, strings.TrimRight(line, "\r\n")+"\n")
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), verdict); ok {
			n, numErr := strconv.Atoi(text)
			code, found = n, numErr == nil
		}
		if err != nil {
			return code, found
		}
	}
}

func (r *Run) fill(ctx context.Context, k *kernel, top, initrd string) error {
	modules, err := k.files(ctx, r.Modules)
	if err != nil {
		return err
	}
	init := filepath.Join(r.Scratch, "init")
	if err := Build(ctx, top, "build", "-o", init, "./test/cmd/vminit"); err != nil {
		return err
	}
	files := []file{
		{path: "/init", mode: 0o755, from: init},
		{path: "/bin/program", mode: 0o755, from: r.Program},
		{path: "/program", mode: 0o644, text: strings.Join(append([]string{"/bin/program"}, r.Args...), "\n") + "\n"},
	}
	var list strings.Builder
	for _, m := range modules {
		at := "/lib/" + filepath.Base(m)
		files = append(files, file{path: at, mode: 0o644, from: m})
		list.WriteString(at + "\n")
	}
	files = append(files, file{path: "/modules", mode: 0o644, text: list.String()})
	f, err := os.Create(initrd)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(writeInitramfs(w, files), w.Flush(), f.Close())
}

// Build runs the go command in the module, for static binaries.
func Build(ctx context.Context, top string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
