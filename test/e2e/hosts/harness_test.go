package hosts_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/lab"
)

// victim tells the test binary to be the run that TestKilledRunIsSwept kills.
const victim = "DOCKLINE_TEST_VICTIM"

const victimTime = 5 * time.Minute // it may have to make the tree

// A run that is killed leaves an engine, containers, mounts and namespaces; the
// next one removes all of it.
func TestKilledRunIsSwept(t *testing.T) {
	if os.Getenv(victim) != "" {
		beVictim(t)
		return
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), victimTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	base := t.TempDir() // its own, so that nobody else sweeps it
	cmd.Env = append(os.Environ(), victim+"=yes", "TMPDIR="+base)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := labOf(t, stdout)
	roots := lab.Roots(dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if left, err := lab.Remains(roots); err != nil || !strings.Contains(fmt.Sprint(left), "dockerd") {
		t.Errorf("the engine did not outlive its run: %v (%v)", left, err)
	}
	if err := lab.SweepAll(filepath.Dir(dir)); err != nil {
		t.Error(err)
	}
	if left, err := lab.Remains(roots); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// beVictim starts what there is to sweep, says where, and waits to be killed.
func beVictim(t *testing.T) {
	l := hosts.Open(t)
	lan := l.Wire(t, "lan")
	lan.Foreign("stranger", "192.0.2.9/24")
	h := l.Host(t, "a", debian.Trixie, hosts.On(lan, "192.0.2.1/24"), hosts.Args("--live-restore"))
	h.Docker("run", "-d", "--network", "none", harness.Image, "sleep", "1000")
	fmt.Println("lab", l.Dir)
	_, _ = io.Copy(io.Discard, os.Stdin) // ends if the test that started this one does
}

// labOf reads from a victim's output where its lab is, as soon as it is ready.
func labOf(t *testing.T, out io.Reader) string {
	t.Helper()
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if dir, ok := strings.CutPrefix(lines.Text(), "lab "); ok {
			return dir
		}
		said = append(said, lines.Text())
	}
	t.Fatalf("the victim ended early:\n%s", strings.Join(said, "\n"))
	return ""
}

// What an engine mounts in /run appears in a view of it that is older, such as
// a plugin has, and can be entered: sandboxes' namespaces, above all.
func TestSandboxesAppearInOlderViews(t *testing.T) {
	t.Parallel()
	for _, suite := range debian.Suites {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			l := hosts.Open(t)
			h := l.Host(t, "a", suite)
			view := h.Command(t.Context(), "unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo ready; exec sleep 1000")
			out, err := view.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := view.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = view.Process.Kill()
				_ = view.Wait()
			}()
			if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			h.Docker("run", "-d", "--network", "none", "--stop-signal", "KILL", "--name", "idle", harness.Image, "sleep", "1000")
			sandbox := h.Docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "idle")
			links := h.Run("nsenter", "--mount=/proc/"+strconv.Itoa(view.Process.Pid)+"/ns/mnt", "--",
				"nsenter", "--net="+sandbox, "--", "ip", "-br", "link")
			if f := strings.Fields(links); len(f) < 3 || f[0] != "lo" {
				t.Errorf("in sandbox %s there is %q", sandbox, links)
			}
		})
	}
}
