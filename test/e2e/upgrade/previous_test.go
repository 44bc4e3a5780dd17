package upgrade

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
)

// previousVersion is what the older plugins are called.
const previousVersion = "previous"

// previous builds the plugins of the release before, from the history, by what
// that had for it. Where a clone is too shallow for that, other builds of the
// present plugins take its place; what it has left on the disk is read in unit
// tests all the same (TestStateOfThePreviousRelease).
func previous(ctx context.Context, t *testing.T) (folders map[string]string) {
	t.Helper()
	top := moduleDir(t)
	commit := previousCommit(t)
	dir := t.TempDir()
	folders = map[string]string{}
	if exec.CommandContext(ctx, "git", "-C", top, "cat-file", "-e", commit+"^{commit}").Run() != nil {
		t.Logf("this clone has no commit %s: the upgrade is from another build of this one", commit)
		for _, name := range plugins {
			folders[name] = filepath.Join(dir, name)
			if err := harness.AnotherBuild(ctx, built(t, name), folders[name], "version "+previousVersion); err != nil {
				t.Fatal(err)
			}
		}
		return folders
	}
	run(ctx, t, dir, "bash", "-c", fmt.Sprintf("git -C %q archive %s | tar -x", top, commit))
	for _, name := range plugins {
		run(ctx, t, dir, "env", "VERSION="+previousVersion, "COMMIT="+commit, "SOURCE_DATE_EPOCH=0", "scripts/rootfs.sh", name)
		folders[name] = filepath.Join(dir, "build/plugins", name)
	}
	return folders
}

// previousCommit reads which commit the release before is.
func previousCommit(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("PREVIOUS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	t.Fatal("PREVIOUS names no commit")
	return ""
}

// built is the folder of a plugin as it is now.
func built(t *testing.T, name string) string {
	t.Helper()
	folder := filepath.Join(moduleDir(t), "build/plugins", name)
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		t.Fatalf("find the build of %s (make plugins): %v", name, err)
	}
	return folder
}

func moduleDir(t *testing.T) string {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// run runs a command in a folder of the machine.
func run(ctx context.Context, t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
