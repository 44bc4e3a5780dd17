// Command vminit is the first process of the virtual machine that test/vm
// boots: it mounts what programs expect, loads the kernel modules, runs the one
// program that the machine was made for, says how that ended, and powers off.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// What test/vm puts into the machine, and reads from its console.
const (
	modules = "/modules" // a path of a module on each line, in the order to load
	program = "/program" // an argument on each line, the program's path first
	verdict = "vminit: exit "
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Println("vminit:", err)
		code = 125
	}
	fmt.Printf("%s%d\n", verdict, code)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("vminit: power off:", err)
	}
}

func run() (code int, err error) {
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/tmp": "tmpfs", "/dev": "devtmpfs", "/run": "tmpfs"} {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return 0, err
		}
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil {
			return 0, fmt.Errorf("mount %s: %w", target, err)
		}
	}
	all, err := lines(modules)
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		if err := load(path); err != nil {
			return 0, fmt.Errorf("load %s: %w", path, err)
		}
	}
	args, err := lines(program)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, "/tmp"
	cmd.Env = []string{"HOME=/tmp", "PATH=/"}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func lines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		all = append(all, s.Text())
	}
	return all, s.Err()
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
