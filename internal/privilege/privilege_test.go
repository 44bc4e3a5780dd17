package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// TestMain also serves as the process that gives its capabilities up: that
// cannot be undone, so the test's own must not.
func TestMain(m *testing.M) {
	switch os.Getenv("PRIVILEGE_KEEP") {
	case "":
		os.Exit(m.Run())
	case "none":
		report(Keep())
	case "net_admin":
		report(Keep(cap.NET_ADMIN))
	}
}

// report prints the capability sets of every thread.
func report(err error) {
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	for range 4 { // some threads that were there before and some that come after
		go func() { runtime.LockOSThread(); select {} }()
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
				fmt.Fprintln(os.Stdout, strings.Join(strings.Fields(line), " "))
			}
		}
	}
}

func TestKeep(t *testing.T) {
	if os.Geteuid() != 0 { // CI is root, as the README says of make test
		t.Skip("only root has a bounding set that it may change")
	}
	const netAdmin = "0000000000001000"
	for keep, want := range map[string]map[string]string{
		"none":      {"CapInh:": "0000000000000000", "CapPrm:": "0000000000000000", "CapEff:": "0000000000000000", "CapBnd:": "0000000000000000", "CapAmb:": "0000000000000000", "NoNewPrivs:": "1"},
		"net_admin": {"CapInh:": "0000000000000000", "CapPrm:": netAdmin, "CapEff:": netAdmin, "CapBnd:": netAdmin, "CapAmb:": "0000000000000000", "NoNewPrivs:": "1"},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PRIVILEGE_KEEP="+keep)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", keep, err, out)
		}
		lines := 0
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if want[key] != value {
				t.Errorf("%s: %s is %s, want %s", keep, key, value, want[key])
			}
			lines++
		}
		if lines < 6 {
			t.Errorf("%s: only %d lines: %s", keep, lines, out)
		}
	}
}
