// Package upgrade replaces the plugins of the release before by the present ones,
// and back, under containers that log and have connections.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/docs"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/netns"
)

// The plugins; the engine wants a network driver's tag.
const (
	logPlugin = "dockline-log"
	netPlugin = "dockline-net"
	netDriver = netPlugin + ":latest"
)

var plugins = []string{logPlugin, netPlugin}

// Addresses of documentation (RFC 5737).
const (
	lanGate, dmzGate = "192.0.2.254", "198.51.100.254"
	lateCollector    = "192.0.2.254:2514"
)

// From the release before to the present build, by what make install does; back,
// and up again from a registry, as operators without the source do. No line of a
// log is lost, whether collectors had it before, get it then or had been away all
// the time; addresses stay, and so does every connection.
func TestUpgradeFromThePreviousRelease(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errors.New("the test takes too long"))
	defer cancel()
	s := newSite(ctx, t, previous(ctx, t))
	s.begin()

	s.event("upgraded by make install", func() { s.script("install", logPlugin, netPlugin) })
	s.isBuild(built(t, logPlugin), built(t, netPlugin))
	s.agrees()
	s.host.Docker("run", "-d", "--name", "later", "--network", "lan", "--stop-signal", "KILL", harness.Image, "sleep", "100000")
	s.event("downgraded", func() { s.byHand(s.before) })
	s.isBuild(s.before[logPlugin], s.before[netPlugin])
	s.event("upgraded from a registry", func() { s.byHand(s.released()) })
	s.isBuild(built(t, logPlugin), built(t, netPlugin))
	s.agrees()
	s.finish()
	s.fromFiles()
}

// site is a host with both plugins, and a machine on its LAN and its DMZ.
type site struct {
	*testing.T
	ctx      context.Context
	host     *hosts.Host
	stranger *hosts.Station
	registry *harness.Registry
	before   map[string]string // folders of the release before
	book     *book
	url      string // of the collector that is there
	release  string // folder of a release
	running  []string
	logging  []string
}

func newSite(ctx context.Context, t *testing.T, before map[string]string) *site {
	t.Helper()
	lab := hosts.Open(t)
	lan, dmz := lab.Wire(t, "lan"), lab.Wire(t, "dmz")
	s := &site{T: t, ctx: ctx, before: before, book: newBook(), stranger: lan.Foreign("stranger", lanGate+"/24")}
	s.must(s.stranger.Plug(ctx, dmz.Wire, "eth1", dmzGate+"/24"))
	s.url = s.collector("there", lanGate+":0").URL()
	s.host = lab.Host(t, "a", debian.Trixie, hosts.On(lan, "192.0.2.1/24"), hosts.On(dmz), hosts.Args("--bridge=", "--iptables=true"))
	s.host.Run("iptables", "-P", "FORWARD", "DROP")
	s.host.Do(func() (err error) {
		s.registry, err = harness.StartRegistry(ctx, lab.Lab, "registry")
		return err
	})
	t.Cleanup(func() { _ = s.registry.Close() })
	for _, name := range plugins {
		s.host.Install(name, before[name])
	}
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// collector starts one on the stranger.
func (s *site) collector(name, addr string) (c *collector.Server) {
	s.Helper()
	s.must(s.stranger.Do(func() (err error) {
		c, err = collector.Start(collector.Options{Name: name, Proto: "relp", Addr: addr, Each: s.book.record})
		return err
	}))
	s.Cleanup(func() { _ = c.Reset() })
	return c
}

// begin starts containers that log, one of them to a collector that is not there,
// and containers that have a connection each.
func (s *site) begin() {
	s.Helper()
	for network, args := range map[string][]string{
		"lan": {"--subnet", "192.0.2.0/24", "--gateway", lanGate, "--ip-range", "192.0.2.64/26", "-o", "parent=eth0"},
		"dmz": {"--subnet", "198.51.100.0/24", "--gateway", dmzGate, "-o", "mode=bridge", "-o", "uplink=eth1"},
	} {
		s.host.Docker(append(append([]string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver}, args...), network)...)
	}
	s.connect("macvlan", "lan", lanGate)
	s.connect("bridge", "dmz", dmzGate)
	s.log("loud", 1000, s.url)
	s.log("quiet", 10, s.url)
	s.log("waiting", 300, "relp://"+lateCollector+"?name=late")
	for _, name := range []string{"macvlan", "bridge", "loud", "quiet"} {
		s.must(s.book.await(s.ctx, name, 20))
	}
}

func (s *site) start(name, network string, args ...string) {
	s.Helper()
	s.host.Docker(append([]string{"run", "-d", "--name", name, "--network", network}, args...)...)
	s.running = append(s.running, name)
}

func (s *site) log(name string, rate int, collectors string) {
	s.Helper()
	s.start(name, "none", "--log-driver", logPlugin, "--log-opt", "collectors="+collectors, harness.Image,
		"workload", "tally", "workload", "seq", "-n", "100000000", "-rate", fmt.Sprint(rate))
	s.logging = append(s.logging, name)
}

// connect has a container write to the stranger for as long as it lives.
func (s *site) connect(name, network, to string) {
	s.Helper()
	var l net.Listener
	s.must(s.stranger.Do(func() (err error) {
		l, err = net.Listen("tcp", to+":0")
		return err
	}))
	s.Cleanup(func() { _ = l.Close() })
	go s.book.read(name, l) // ends with the container, or the listener
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.start(name, network, "--stop-signal", "KILL", harness.Image,
		"sh", "-c", "workload seq -n 100000000 -rate 200 | busybox nc "+to+" "+port)
}

// event lets something happen to the plugins. Nothing of it is to be seen from
// the containers, and lines come that were written after it.
func (s *site) event(what string, happen func()) {
	s.Helper()
	before := s.look()
	start := time.Now()
	happen()
	took := time.Since(start)
	if after := s.look(); after != before {
		s.Errorf("%s: there was\n%s\nand now there is\n%s", what, before, after)
	}
	for _, name := range []string{"macvlan", "bridge", "loud", "quiet"} {
		s.must(s.book.await(s.ctx, name, s.book.state(name).different+10))
	}
	s.host.Docker("run", "--rm", "--network", "lan", "--log-driver", logPlugin, "--log-opt", "collectors="+s.url,
		harness.Image, "sh", "-c", "echo seq=0 of=1; busybox ping -c 1 -W 5 "+lanGate+" >&2 >/dev/null")
	s.Logf("%s: in %.1f s, and all goes on after %.1f", what, took.Seconds(), time.Since(start).Seconds())
}

// look is what the engine says of the containers, and what there is in them.
func (s *site) look() string {
	s.Helper()
	says := s.host.Docker(append([]string{"inspect", "--format",
		"{{.Name}} {{.State.Pid}}{{range .NetworkSettings.Networks}} {{.IPAddress}} {{.MacAddress}}{{end}}"}, s.running...)...)
	for _, name := range []string{"macvlan", "bridge"} {
		says += "\n" + s.host.Docker("exec", name, "sh", "-c", "busybox ip -o address show eth0; busybox ip route")
	}
	return says
}

// script types what the manual says, on the host, with the machine's files.
func (s *site) script(args ...string) {
	s.Helper()
	cmd := netns.Command(s.ctx, s.host.NS, filepath.Join(moduleDir(s.T), "scripts/plugin.sh"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.host.Engine.Addr)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("plugin.sh %v: %v\n%s", args, err, out)
	}
	for _, name := range plugins {
		if !strings.Contains(string(out), "upgrading "+name+" in place") {
			s.Errorf("plugin.sh %v does not upgrade %s, but says\n%s", args, name, out)
		}
	}
}

// byHand takes both plugins from the registry.
func (s *site) byHand(from map[string]string) {
	s.Helper()
	for _, name := range plugins {
		remote := from[name]
		if filepath.IsAbs(remote) { // a folder, which nobody has pushed yet
			var err error
			remote, err = s.registry.Push(s.ctx, s.host.Engine.Docker, name+":older", remote)
			s.must(err)
		}
		s.must(s.host.Engine.UpgradePlugin(s.ctx, name, remote))
	}
}

// version is that of the release that is made here; in docs/release.md it is 0.1.0.
const version = "e2e-upgrade"

// released makes a release of the present builds and pushes it to the registry,
// as the manual says. It returns the tags.
func (s *site) released() map[string]string {
	s.Helper()
	top := moduleDir(s.T)
	s.release = filepath.Join(top, "build/release", version)
	s.must(os.RemoveAll(s.release))
	s.Cleanup(func() { _ = os.RemoveAll(s.release) })
	dir, tags := s.TempDir(), map[string]string{}
	s.must(os.MkdirAll(filepath.Join(dir, "amd64"), 0o755))
	for _, name := range plugins {
		run(s.ctx, s.T, top, "cp", "-a", built(s.T, name), filepath.Join(dir, "amd64", name))
		tags[name] = s.registry.Addr + "/dockline/" + name + ":" + version + "-amd64"
	}
	run(s.ctx, s.T, top, "go", "run", "-C", "tools/release", ".", "pack", "-version", version, "-date", "1700000000", dir, s.release)
	s.typed(top, "make push", "registry.example.com", s.registry.Addr)
	return tags
}

// fromFiles installs the log plugin from the release's files, as the manual says.
func (s *site) fromFiles() {
	s.Helper()
	for _, name := range plugins {
		s.must(s.host.Engine.RemovePlugin(s.ctx, name)) // the engine keeps no two of one content
	}
	s.typed(s.release, "docker plugin create")
	if says := s.host.Docker("plugin", "inspect", "--format", "{{.Enabled}} {{.Config.Description}}", logPlugin); !strings.HasPrefix(says, "true dockline-log ") {
		s.Errorf("from files, the engine has %q", says)
	}
}

// typed runs a block of the manual on the host, with the machine's files.
func (s *site) typed(dir, with string, replace ...string) {
	s.Helper()
	b := block(s.T, "release.md", "sh", with)
	script := strings.NewReplacer(append(replace, "0.1.0", version)...).Replace(b.Text)
	cmd := netns.Command(s.ctx, s.host.NS, "bash", "-euxc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.host.Engine.Addr, "MAKEFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("%s: %v\n%s", b.Place(), err, said)
	}
}

// block is the one of a page that has something in it.
func block(t *testing.T, page, kind, with string) docs.Block {
	t.Helper()
	all, err := docs.Pages(moduleDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, b := range p.Blocks {
			if filepath.Base(p.Name) == page && b.Kind == kind && strings.Contains(b.Text, with) {
				return b
			}
		}
	}
	t.Fatalf("%s has no block with %q", page, with)
	return docs.Block{}
}

// isBuild looks which plugins run, in the processes themselves.
func (s *site) isBuild(folders ...string) {
	s.Helper()
	for i, name := range plugins {
		p, err := s.host.Engine.Plugin(s.ctx, name)
		s.must(err)
		is, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/dockline-build", p.PID))
		want, err2 := os.ReadFile(filepath.Join(folders[i], "rootfs/etc/dockline-build"))
		if err := errors.Join(err1, err2); err != nil || string(is) != string(want) {
			s.Errorf("%s is\n%s, not\n%s (%v)", name, is, want, err)
		}
	}
}

// agrees asks docker dockline, on the host, whether all is as it is meant to be.
func (s *site) agrees() {
	s.Helper()
	cli := filepath.Join(s.host.Engine.Dir, "docker-dockline")
	run(s.ctx, s.T, moduleDir(s.T), "cp", "build/docker-dockline", cli)
	for _, args := range [][]string{{"net", "check"}, {"version"}, {"log", "status"}} {
		cmd := s.host.Command(s.ctx, cli, append([]string{"-H", s.host.Engine.Addr, "dockline"}, args...)...)
		said, err := cmd.CombinedOutput()
		var code *exec.ExitError
		if err != nil && !errors.As(err, &code) {
			s.Fatal(err)
		}
		if err != nil {
			s.Errorf("docker dockline %v: %v\n%s", args, err, said)
		}
	}
}

// finish stops what logs, gives what waited its collector, and counts.
func (s *site) finish() {
	s.Helper()
	s.collector("late", lateCollector)
	for _, name := range s.logging {
		s.host.Docker("stop", "-t", "30", name)
		tally, err := s.host.Engine.Tally(s.ctx, name)
		s.must(err)
		wrote := tally.Stdout.Count
		s.must(s.book.await(s.ctx, name, wrote))
		got := s.book.state(name)
		if got.next != wrote || got.different != wrote || got.late > 0 {
			s.Errorf("of %d lines of %s %d came, up to %d; %d after later ones", wrote, name, got.different, got.next, got.late)
		}
		if n := strings.Count(s.host.Docker("logs", name), "\n") + 1; uint64(n) != wrote {
			s.Errorf("docker logs of %s has %d lines of %d", name, n, wrote)
		}
		s.Logf("%s: %d lines, none lost, %d came twice", name, wrote, got.repeated)
	}
	for _, name := range []string{"macvlan", "bridge"} {
		got := s.book.state(name)
		if got.ended != nil || got.next != got.different || got.repeated+got.late > 0 {
			s.Errorf("the connection of %s: %d lines of %d, %v", name, got.different, got.next, got.ended)
		}
	}
	s.host.Docker("rm", "-f", "macvlan", "bridge", "later")
	s.host.Docker("network", "rm", "lan", "dmz")
}
