// Package newuser takes test/newuser/newuser.sh, the way of a new user from the
// README alone, on a bare Debian: without an engine, git or make, let alone
// anything of dockline's. Its packages come from Debian's archive, by a mirror on
// its LAN; Go, which the README asks for, is the machine's.
package newuser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

var cold = flag.Bool("cold", false, "compile everything, as the first build on a machine does, without what this one has compiled before")

const wayTime = 15 * time.Minute

func TestNewUser(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), wayTime, errors.New("the way takes too long"))
	defer cancel()
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	serveMirror(t, lan.Foreign("mirror", "192.168.1.2/24"))
	lent, goEnv := golang(t)
	// The LAN's router collects, too, where the README has the collector.
	neighbour := lab.Host(t, "neighbour", debian.Machine, hosts.On(lan, "192.168.1.1/24", "10.0.0.11/32"), hosts.Bare())
	neighbour.Run("sh", "-ec", withoutSystemd)
	host := lab.Host(t, "host", debian.Trixie, hosts.On(lan, "192.168.1.10/24"), hosts.Bare(), hosts.Lend(lent...))
	host.Run("sh", "-ec", bare, "sh", host.Dir())
	dir := checkout(t, filepath.Join(host.Dir(), "dockline"))
	image := writeImage(t, host.Dir())

	cmd := exec.CommandContext(ctx, filepath.Join(dir, "test/newuser/newuser.sh"))
	cmd.Env = append(os.Environ(), "DIR="+dir, "IMAGE="+image,
		"HOST="+shell(t, host, goEnv...), "NEIGHBOUR="+shell(t, neighbour, "PATH="+os.Getenv("PATH")))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fmt.Println(lines[len(lines)-1])
	t.Run("with wrong settings", func(t *testing.T) { wrongSettings(t, shell(t, host, goEnv...), dir) })
}

// withoutSystemd is what the README's commands find on a collector in the place of
// a service manager, which cannot run here: rsyslogd with the README's configuration
// alone, for Debian's own would read the kernel's log of the machine.
const withoutSystemd = `
ln -s "$(command -v busybox)" /usr/local/bin/ping
cat >/usr/local/bin/systemctl <<'TEXT'
#!/bin/sh
[ "$*" = "restart rsyslog" ] && exec rsyslogd -f /etc/rsyslog.d/containers.conf -i /run/rsyslogd.pid
TEXT
chmod 755 /usr/local/bin/systemctl
rm -f /etc/rsyslog.d/containers.conf`

// bare takes away what the tree has beside Debian's base, has the LAN's mirror
// serve packages, and gives the engine a disk that it can lay its layers over. The
// router is where a LAN's DHCP server says that it is. Packages are not synced to a
// disk that goes in a minute.
const bare = `
ip route add default via 192.168.1.1
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe
apt-get -qq purge -y docker.io containerd runc tini iptables iproute2 >/dev/null
rm -rf /etc/dockline-recipe /etc/docker /etc/apt/sources.list.d/* /var/lib/docker /var/lib/containerd
echo "deb http://192.168.1.2 $(. /etc/os-release; echo "$VERSION_CODENAME") main" >/etc/apt/sources.list
mkdir -p "$1/data" /var/lib/docker
mount --bind "$1/data" /var/lib/docker
apt-get -qq update`

// shell is a command that runs another one on a host, with this environment and no
// other.
func shell(t *testing.T, h *hosts.Host, env ...string) string {
	args := slices.Concat([]string{"-i", "HOME=/root", "LANG=C.UTF-8"}, env)
	return strings.Join(h.Command(t.Context(), "env", args...).Args, " ")
}

// golang is the machine's Go: its folders, and the environment in which to use it.
func golang(t *testing.T) (folders, env []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	folders = strings.Fields(string(out))
	env = []string{
		"PATH=" + filepath.Join(folders[0], "bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOPROXY=file://" + filepath.Join(folders[1], "cache/download"), // each that is missing would be an error
	}
	if *cold {
		return folders[:2], env
	}
	return folders, append(env, "GOMODCACHE="+folders[1], "GOCACHE="+folders[2])
}

// checkout makes what git clone gives, with what has changed here since the last
// commit. It is not root's, as that of most who then type sudo make install.
func checkout(t *testing.T, dir string) string {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", `
git clone -q --depth 1 "file://$1" "$2"
cd "$1"
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' f; do [[ ! -e $f ]] || printf '%s\0' "$f"; done |
    tar -c --null -T - | tar -x -C "$2"
chown -R 1000:1000 "$2"`, "bash", top, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// writeImage writes the files of the image that stands for those of the README.
func writeImage(t *testing.T, dir string) string {
	t.Helper()
	rootfs, err := harness.Rootfs(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(name, rootfs.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
