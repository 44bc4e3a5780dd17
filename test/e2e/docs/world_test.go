package docs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

const stepTime = 5 * time.Minute

// world is what the documentation takes for granted: a Docker host on a LAN, and
// the machines that it sends to. Names and addresses are those of the pages.
type world struct {
	*testing.T // of the page that is run

	lab *hosts.Lab
	lan *hosts.Wire
	// rack1 is the Docker host: eth0 on the LAN, eth1 without addresses. The
	// source tree is in its root's folder.
	rack1 *machine
	// logs is every other machine at once: router, collectors, registry, etcd,
	// each at its address.
	logs *machine

	parent    *testing.T
	authority *testcert.Authority // of everything in this world that has a certificate
	inbox     *inbox
	asked     chan func()    // what commands of the test's own are to do
	closers   []func() error // of what stands until the next reset
	machines  map[string]*machine

	dialKafka                  dialKafka
	kafkaTopics, kafkaConsumer func(args []string) (string, error) // nil without a broker
}

// machine is a host with a shell that somebody types into.
type machine struct {
	*hosts.Host
	dir   string // the same on the host and outside
	shell *shell
	world *world
}

// Both NICs' networks, with the addresses of everything that pages name.
var (
	lanAddresses = []string{"192.168.1.1/24", "192.168.1.10/24", "10.0.0.5/24", "10.0.0.11/24", "10.0.0.12/24", "10.0.0.13/24", "10.0.0.21/24", "10.0.0.22/24", "10.0.0.23/24"}
	dmzAddresses = []string{"10.20.0.1/24", "2001:db8:20::1/64", "198.51.100.254/24", "198.51.100.20/24"}
)

const hostsFile = `127.0.0.1 localhost
192.168.1.2 rack1
192.168.1.10 nas.example
10.0.0.5 registry.example.com
10.0.0.11 graylog.example kafka-1.example n1.example
198.51.100.20 db.example
10.0.0.12 logs.example kafka-2.example n2.example
`

func newWorld(t *testing.T) *world {
	t.Helper()
	authority, err := testcert.New("documented")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, parent: t, lab: hosts.Open(t), authority: authority, inbox: newInbox(), asked: make(chan func()), machines: map[string]*machine{}}
	w.lan = w.lab.Wire(t, "lan")
	dmz := w.lab.Wire(t, "dmz")
	w.logs = w.machine("logs", hosts.Bare(), hosts.On(w.lan, lanAddresses...), hosts.On(dmz, dmzAddresses...))
	w.rack1 = w.machine("rack1", hosts.Bare(), hosts.On(w.lan, "192.168.1.2/24", "10.0.0.2/24"), hosts.On(dmz))
	w.rack1.engine()
	w.rack1.command("kafka-topics.sh", func(args []string) (string, error) { return w.kafkaTopics(args) })
	w.rack1.command("kafka-console-consumer.sh", func(args []string) (string, error) { return w.kafkaConsumer(args) })
	w.logs.write("/etc/rsyslog.conf", rsyslogConf)
	w.logs.sh("rm -f /etc/rsyslog.d/*; mkdir -p /var/spool/rsyslog /run/registry")
	t.Cleanup(w.end)
	return w
}

// lend has a page's test be the one that fails, until the function that it returns
// is called.
func (w *world) lend(t *testing.T) (back func()) {
	all := map[*machine]*hosts.Host{}
	for _, m := range w.machines {
		all[m] = m.Host
		m.Host = m.For(t)
	}
	w.T = t
	return func() {
		w.T = w.parent
		for m, h := range all {
			m.Host = h
		}
	}
}

// machine makes one, of the release that this machine is: pages assume what is
// installed here, and what make install needs.
func (w *world) machine(name string, options ...hosts.Option) *machine {
	w.Helper()
	m := &machine{world: w, Host: w.lab.Host(w.T, name, debian.Machine, options...), dir: filepath.Join(w.lab.Dir, name)}
	w.machines[name] = m
	m.write("/etc/hosts", hostsFile)
	m.write("/etc/resolv.conf", "")
	m.shell = startShell(m)
	m.command("systemctl", m.systemctl)
	return m
}

// engine starts the Docker host's engine as Debian's service does: with the
// host's own daemon.json and data root, and with its own bridge and firewall.
func (m *machine) engine() {
	m.world.Helper()
	m.write("/etc/docker/daemon.json", "{}\n")
	// On the overlay that is the host's root the engine's own would not work.
	m.sh(`mkdir -p /var/lib/docker "$1/data" && mount --bind "$1/data" /var/lib/docker`, m.dir)
	m.sh(`rm -rf /usr/local/lib/docker/cli-plugins /etc/dockline`)
	// As on a host with a firewall that the engine has set up.
	ctx, cancel := m.context()
	defer cancel()
	err := m.StartEngine(ctx, "--config-file=/etc/docker/daemon.json", "--data-root=/var/lib/docker", "-H", "unix:///run/docker.sock",
		"--bridge=", "--iptables=true", "--ip-forward=true", "--ip-masq=true")
	if err != nil {
		m.world.Fatal(err)
	}
	m.put("/usr/local/sbin/sudo", strings.NewReader("#!/bin/sh\nexec \"$@\"\n"), "755") // the reader is root already
	m.images()
	m.source()
}

// images gives the engine what pages run, without any registry. All of them are
// busybox; nginx serves a page, and has a log.
func (m *machine) images() {
	m.world.Helper()
	ctx, cancel := m.context()
	defer cancel()
	if err := m.Engine.LoadImage(ctx, m.world.TempDir()); err != nil {
		m.world.Fatal(err)
	}
	m.Docker("tag", harness.Image, "alpine")
	m.Docker("tag", harness.Image, "busybox")
	m.Docker("create", "--name", "made", harness.Image)
	for image, cmd := range map[string]string{
		"nginx":  "mkdir /www; echo hello >/www/index.html; echo nginx is ready; exec httpd -f -vv -p 80 -h /www",
		"legacy": "mkdir -p /var/log/app; while echo a line of a file >>/var/log/app/app.log; do sleep 1; done",
	} {
		m.Docker("commit", "--change", fmt.Sprintf("CMD [\"sh\", \"-c\", %q]", cmd), "made", image)
	}
	m.Docker("rm", "made")
}

// source puts a copy of the source tree where the reader has it.
func (m *machine) source() {
	m.world.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		m.world.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `mkdir "$2" && cd "$1" && tar --exclude=./build --exclude=./.git --exclude=./.cache -c . | tar -x -C "$2"`,
		"sh", top, m.tree()).CombinedOutput()
	if err != nil {
		m.world.Fatalf("copy the source tree: %v: %s", err, out)
	}
	m.shell.cd(m.tree())
}

func (m *machine) tree() string { return filepath.Join(m.dir, "dockline") }

func (m *machine) context() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(m.world.Context(), stepTime, errors.New("it takes too long"))
}

// sh runs a script on the machine for the test itself.
func (m *machine) sh(script string, args ...string) string {
	m.world.Helper()
	return m.Run("bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
}

// write makes a file on the machine, with its folder.
func (m *machine) write(name, content string) {
	m.world.Helper()
	m.put(name, strings.NewReader(content), "644")
}

func (m *machine) put(name string, content io.Reader, mode string) {
	m.world.Helper()
	ctx, cancel := m.context()
	defer cancel()
	cmd := m.Command(ctx, "sh", "-ec", `mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"`, "sh", name, mode)
	cmd.Stdin = content
	if out, err := cmd.CombinedOutput(); err != nil {
		m.world.Fatalf("write %s on %s: %v: %s", name, m.Name, err, out)
	}
}

// read returns a file of the machine; "" is one that there is not.
func (m *machine) read(name string) string {
	m.world.Helper()
	return m.sh(`[ ! -e "$1" ] || cat "$1"`, name)
}

// systemctl is what pages ask the system for.
func (m *machine) systemctl(args []string) (string, error) {
	ctx, cancel := m.context()
	defer cancel()
	switch strings.Join(args, " ") {
	case "restart docker":
		return "", m.Engine.Restart(ctx)
	case "restart rsyslog":
		return "", m.rsyslog(ctx)
	}
	return "", fmt.Errorf("there is no such service: %s", strings.Join(args, " "))
}

// reset makes the world what it was at first.
func (w *world) reset() {
	w.Helper()
	w.rack1.shell.cd(w.rack1.tree())
	w.logs.shell.cd("/root")
	if out := w.rack1.Docker("ps", "-aq"); out != "" {
		w.rack1.Docker(append([]string{"rm", "-f", "-v"}, strings.Fields(out)...)...)
	}
	if out := w.rack1.Docker("network", "ls", "-q", "--filter", "type=custom"); out != "" {
		w.rack1.Docker(append([]string{"network", "rm"}, strings.Fields(out)...)...)
	}
	for _, plugin := range strings.Fields(w.rack1.Docker("plugin", "ls", "--format", "{{.Name}}")) {
		ctx, cancel := w.rack1.context()
		if err := w.rack1.Engine.RemovePlugin(ctx, plugin); err != nil {
			w.Error(err)
		}
		cancel()
	}
	if left := w.rack1.sh("ls /sys/class/net | grep ^dl || true"); left != "" {
		w.Errorf("left behind: %s", left)
		w.rack1.sh("for link in $(ls /sys/class/net | grep ^dl); do ip link delete $link || true; done")
	}
	if w.rack1.read("/etc/docker/daemon.json") != "{}" {
		w.rack1.write("/etc/docker/daemon.json", "{}\n")
		if _, err := w.rack1.systemctl([]string{"restart", "docker"}); err != nil {
			w.Fatal(err)
		}
	}
	w.rack1.sh("rm -rf /etc/dockline /usr/local/lib/docker/cli-plugins /data")
	w.end()
	w.inbox = newInbox()
}

// end closes what stands since the last reset.
func (w *world) end() {
	for _, c := range w.closers {
		if err := c(); err != nil {
			w.Error(err)
		}
	}
	w.closers = nil
}

// until has something end at the next reset.
func (w *world) until(end func() error) { w.closers = append(w.closers, end) }

// install is what make install has done for a reader who comes to a later page.
func (w *world) install(plugin string, settings ...string) {
	w.Helper()
	w.rack1.Install(plugin, w.built("plugins/"+plugin), settings...)
	f, err := os.Open(w.built("docker-dockline"))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	w.rack1.put("/usr/local/lib/docker/cli-plugins/docker-dockline", f, "755")
}

func (w *world) built(name string) string {
	w.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		w.Fatal(err)
	}
	return filepath.Join(top, "build", name)
}
