package newuser

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
)

// wrongSettings has both plugins be installed with settings that make no sense. The
// engine says nothing of what is wrong, so the plugins do, to whoever needs them.
func wrongSettings(t *testing.T, shell, dir string) {
	for _, c := range []struct {
		command string
		fails   bool
		says    string
	}{
		{"scripts/plugin.sh install dockline-log COLLECTOR=relp://10.0.0.11:2514", true, "there is no setting COLLECTOR of dockline-log: there are COLLECTORS CONFIG"},
		{"scripts/plugin.sh install dockline-log METRICS=9741", true, `METRICS="9741": not one of off`},
		{"docker run --rm --log-driver dockline-log alpine true", true, `METRICS="9741": not one of off`},
		{"build/docker-dockline dockline log status", false, `METRICS="9741": not one of off`},
		{"scripts/plugin.sh install dockline-log METRICS=off COLLECTORS=rlp://10.0.0.11:2514", true, `did you mean "relp"?`},
		{"build/docker-dockline dockline log status", false, `did you mean "relp"?`},
		{"scripts/plugin.sh install dockline-log COLLECTORS=relp://10.0.0.11:2514", false, "dockline-log is enabled"},
		{"docker run --name right --log-driver dockline-log alpine true", false, ""},
		{"scripts/plugin.sh install dockline-net REQUIRE_MAC=yes", true, `REQUIRE_MAC="yes": neither on nor off`},
		{"docker network create -d dockline-net:latest --ipam-driver dockline-net:latest --subnet 192.168.1.0/24 -o parent=eth0 lan", true, `REQUIRE_MAC="yes": neither on nor off`},
		{"docker network create -d dockline-net:latest --subnet 192.168.1.0/24 -o parent=eth0 lan", true, `REQUIRE_MAC="yes": neither on nor off`},
		{"scripts/plugin.sh install dockline-net REQUIRE_MAC=on", false, "dockline-net is enabled"},
		{"docker network create -d dockline-net:latest --ipam-driver dockline-net:latest --subnet 192.168.1.0/24 -o parent=eth0 lan", false, ""},
		{"scripts/plugin.sh install dockline-net REQUIRE_MAC=off", true, "docker plugin disable -f dockline-net && docker plugin set dockline-net 'REQUIRE_MAC=off'"},
		{"docker network rm lan && docker rm right && scripts/plugin.sh uninstall dockline-log dockline-net", false, "dockline-net is removed"},
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", shell+` bash -c "$1"`, "bash", "cd "+dir+" && "+c.command)
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.fails || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v, and without %q: %s", c.command, err, c.says, out)
		}
	}
}

// What is not an engine that plugins can run in is told apart from one that is not
// there.
func TestEnginesThatCannotBeUsed(t *testing.T) {
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	const permission = "permission denied while trying to connect to the Docker daemon socket"
	for name, c := range map[string]struct{ docker, says string }{
		"away":       {"echo Cannot connect to the Docker daemon >&2; exit 1", "no engine answers"},
		"not root":   {"echo " + permission + " >&2; exit 1", "run this as root"},
		"old":        {"case $1 in version) echo 1.40 ;; esac", "older than 20.10"},
		"rootless":   {"case $1 in version) echo 1.43 ;; info) echo '[name=seccomp name=rootless]' ;; esac", "a rootless one"},
		"not at all": {"", "there is no docker command"},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for _, tool := range []string{"bash", "dirname", "sort", "head"} {
				path, err := exec.LookPath(tool)
				if err == nil {
					err = os.Symlink(path, filepath.Join(bin, tool))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if c.docker != "" {
				if err := os.WriteFile(filepath.Join(bin, "docker"), []byte("#!"+filepath.Join(bin, "bash")+"\n"+c.docker+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "bash"), filepath.Join(top, "scripts/plugin.sh"), "install", "dockline-log")
			cmd.Env = []string{"PATH=" + bin}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.says) {
				t.Errorf("%v, without %q: %s", err, c.says, out)
			}
		})
	}
}
