package lab

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/netns"
)

// TestOpenSweepsWhatADeadRunLeft plays a run that was killed: a lab whose lock
// nobody holds, with processes, a mount and a folder outside.
func TestOpenSweepsWhatADeadRunLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	base := t.TempDir()
	dead, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := dead.Outside()
	if err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(outside, "mnt")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	ns := dead.Namespace("a")
	if err := netns.Add(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	daemon := sleeper(t, dead.Dir, "dockerd", dead.Dir+"/data")
	bystander := sleeper(t, t.TempDir(), "tail", dead.Dir+"/log")
	dead.lock.Close() // as the kernel does when the process ends

	next, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(); err == nil {
		t.Error("the daemon ended by itself")
	}
	if err := bystander.Process.Signal(unix.Signal(0)); err != nil {
		t.Error("a process that merely names the lab was ended:", err)
	}
	for _, gone := range []string{dead.Dir, outside, netns.Path(ns)} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%s is still there", gone)
		}
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

func TestLabsInUseAreLeftAlone(t *testing.T) {
	base := t.TempDir()
	first, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Dir); err != nil {
		t.Error("the second lab swept the first:", err)
	}
	for _, l := range []*Lab{first, second, second} {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(first.Dir); !os.IsNotExist(err) {
		t.Error("a closed lab is still there")
	}
}

func TestMentionsWholeNamesOnly(t *testing.T) {
	for s, want := range map[string]bool{
		"/x/lab": true, "--data-root=/x/lab/data": true, "lowerdir=/x/lab/a:/b": true,
		"/x/labor": false, "/x": false, "/x/labor:/x/lab/y": true,
	} {
		if got := mentions(s, []string{"/x/lab"}); got != want {
			t.Errorf("mentions(%q) is %v", s, got)
		}
	}
}

// sleeper runs a process of the given name that waits for its stdin to end.
func sleeper(t *testing.T, dir, name, arg string) *exec.Cmd {
	t.Helper()
	// A program of another name that does nothing: a copy of a shell.
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", "echo; read x", arg)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it runs under its name now
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return cmd
}
