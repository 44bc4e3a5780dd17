package network_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/proc"
)

var matrix = flag.Bool("matrix", false, "for TestMatrix, which takes minutes: have it")

// What TestTrixie and TestBridgesOfTheHost have of one engine, of all of them.
func TestMatrix(t *testing.T) {
	if !*matrix {
		t.Skip("takes minutes, in which little more is learned than by the other tests; make test-matrix-net")
	}
	t.Run("minutes", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		before := map[*machine][]string{}
		for _, suite := range debian.Suites {
			m := s.machine(suite)
			before[m] = m.traces()
		}
		s.each(t, func(m *machine) {
			m.createAll()
			m.start("lan", "mac")
			m.start("dmz", "up")
			m.alone(t, s)
			m.agrees(t, soon)
			m.halfRefused(t, s)
			m.pluginAway(t, s)
			m.agrees(t, forgotten)
			m.leavesNothing(t, before[m])
			m.swarm(t)
		})
	})
	for _, suite := range debian.Suites {
		t.Run("bridges of the host/"+string(suite), func(t *testing.T) {
			t.Parallel()
			bridgesOfTheHost(t, suite)
		})
	}
}

const (
	soon = 3 * time.Minute
	// forgotten is after which time the plugin has removed what its engine did
	// not say that it removed: two minutes without a sign of it, and more where
	// the machine is busy.
	forgotten = 5 * time.Minute
)

// agrees waits until the plugin finds everything as it is meant to be, and
// knows of the same networks and endpoints as the engine.
func (m *machine) agrees(t *testing.T, within time.Duration) {
	t.Helper()
	begun := time.Now()
	want := map[string]int{} // endpoints of networks
	for _, id := range strings.Fields(m.Docker("network", "ls", "-q", "--no-trunc", "--filter", "driver="+netDriver)) {
		want[id] = len(strings.Fields(m.Docker("network", "inspect", "-f", "{{range .Containers}}{{.EndpointID}} {{end}}", id)))
	}
	m.within(t, within, "the plugin agrees with the engine", func(ctx context.Context) error {
		s, err := m.status(ctx)
		if err != nil {
			return err
		}
		if s.Differences > 0 {
			return fmt.Errorf("there are differences: %q", differences(s))
		}
		got := map[string]int{}
		for _, n := range s.Networks {
			got[n.ID] = len(n.Endpoints)
		}
		if within > soon {
			if over := leftOver(s); len(over) > 0 {
				return fmt.Errorf("addresses that nobody has: %v", over)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("networks and endpoints (-engine +plugin):\n%s", diff)
		}
		return nil
	})
	t.Logf("on host %s engine and plugin agreed after %v", m.Name, time.Since(begun).Round(time.Second))
}

// leftOver are the addresses that are given, and neither a network's own nor an
// endpoint's.
func leftOver(s admin.Status) (over []netip.Addr) {
	for _, n := range s.Networks {
		has := map[netip.Addr]bool{}
		for _, p := range n.Intended.Pools {
			has[p.Gateway] = true
			for _, a := range p.Aux {
				has[a] = true
			}
		}
		for _, e := range n.Endpoints {
			for _, text := range []string{e.IPv4, e.IPv6} {
				if p, err := netip.ParsePrefix(text); err == nil {
					has[p.Addr()] = true
				}
			}
		}
		for _, p := range n.Pools {
			over = append(over, slices.DeleteFunc(p.Given, func(a netip.Addr) bool { return has[a] })...)
		}
	}
	return over
}

// halfRefused has a container refused after it got one of its two addresses,
// which 26.1 does not release.
func (m *machine) halfRefused(t *testing.T, s *site) {
	t.Helper()
	taken := fmt.Sprintf("2001:db8:0:1:%d::77", m.number)
	s.take("eth0", taken)
	ctx, cancel := stepContext(t)
	defer cancel()
	_, err := m.Engine.Run(ctx, "run", "--rm", "--network", "lan", "--ip6", taken, harness.Image, "true")
	if err == nil || !strings.Contains(err.Error(), "already in use on the wire") {
		t.Errorf("on host %s another machine's address was asked for: %v", m.Name, err)
	}
}

// upgraded replaces the plugin under its running containers by another build,
// which differs in a file that does nothing.
func (s *site) upgraded(t *testing.T) {
	other := filepath.Join(s.lab.Dir, "next")
	if out, err := exec.Command("cp", "-a", build(t, netPlugin), other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(other, "rootfs/etc/dockline-build"), []byte("next\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.each(t, func(m *machine) {
		before := m.running()
		m.upgrade(t, other)
		if after := m.running(); after != before {
			t.Errorf("on host %s there were\n%s\nand now there are\n%s", m.Name, before, after)
		}
	})
	s.connected(t)
}

func (m *machine) upgrade(t *testing.T, folder string) {
	ctx, cancel := stepContext(t)
	defer cancel()
	var registry *harness.Registry
	m.Do(func() (err error) { // at the host's own loopback address, which engines trust
		registry, err = harness.StartRegistry(ctx, m.site.lab.Lab, "registry-"+m.Name)
		return err
	})
	defer registry.Close()
	next := registry.Addr + "/" + netPlugin + ":next"
	for _, args := range [][]string{
		{"create", next, folder},
		{"push", next},
		{"rm", next},
		{"disable", "-f", netPlugin},
		{"upgrade", "--skip-remote-check", "--grant-all-permissions", netPlugin, next},
		{"enable", netPlugin},
	} {
		m.Docker(append([]string{"plugin"}, args...)...)
	}
}

// composed makes a network and containers as Compose does, and has them find
// each other by their names.
func (s *site) composed(t *testing.T) {
	s.each(t, func(m *machine) {
		const project = "shop"
		label := func(key, value string) string { return "com.docker.compose." + key + "=" + value }
		m.Docker("network", "create", "--driver", netDriver, "--ipam-driver", netDriver, "-o", "mode=bridge",
			"--label", label("project", project), "--label", label("network", "default"), project+"_default")
		names := []string{project + "-web-1", project + "-db-1"}
		for i, service := range []string{"web", "db"} {
			m.Docker("run", "-d", "--stop-signal", "KILL", "--name", names[i], "--network", project+"_default", "--network-alias", service,
				"--label", label("project", project), "--label", label("service", service), harness.Image, "sleep", "100000")
		}
		web := m.inspect(t, project+"_default", names[0])
		web.reaches(t, names[1], "db")
		m.Docker(append([]string{"rm", "-f"}, names...)...)
		m.Docker("network", "rm", project+"_default")
	})
}

// alone checks that the machine's containers reach the wires.
func (m *machine) alone(t *testing.T, s *site) {
	t.Helper()
	mac, up := m.inspect(t, "lan", "mac"), m.inspect(t, "dmz", "up")
	mac.reaches(t, lanGate4, lanGate6)
	up.reaches(t, dmzGate4, dmzGate6)
	s.found(t, mac, up)
}

const away = 60 * time.Second

// pluginAway takes the plugin away while a container of each kind stops. The engine
// tries each of its calls for half a minute, and then forgets.
func (m *machine) pluginAway(t *testing.T, s *site) {
	t.Helper()
	m.start("lan", "mac2")
	m.start("dmz", "up2")
	m.start("backstage", "iso")
	m.Docker("plugin", "disable", "-f", netPlugin)
	stopped := make(chan error, 1)
	begun := time.Now()
	go func() {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 8*time.Minute, errors.New("stopping containers takes too long"))
		defer cancel()
		_, err := m.Engine.Run(ctx, "stop", "mac2", "up2", "iso")
		stopped <- err
	}()
	time.Sleep(away) // what is tested is that so much time passes
	m.Docker("plugin", "enable", netPlugin)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	t.Logf("stopping containers without the plugin took %v", time.Since(begun).Round(time.Second))
	m.alone(t, s)
	m.Docker("start", "mac2", "up2", "iso")
	m.Docker("rm", "-f", "mac2", "up2", "iso")
	m.alone(t, s)
}

// swarm has the engine, alone in its swarm, run a service on a network of our
// driver, whose options are this node's own.
func (m *machine) swarm(t *testing.T) {
	t.Helper()
	m.Docker("swarm", "init", "--advertise-addr", fmt.Sprintf("192.0.2.%d", m.number))
	m.Docker("network", "create", "--config-only", "--ipam-driver", netDriver, "--subnet", lan4, "--gateway", lanGate4, "--ip-range", fmt.Sprintf("192.0.2.%d/28", 96+16*m.number), "-o", "parent=eth0", "lan-here")
	m.Docker("network", "create", "-d", netDriver, "--scope", "swarm", "--config-from", "lan-here", "lan-swarm")
	m.Docker("service", "create", "--name", "web", "--network", "lan-swarm", "--replicas", "2", "--detach", harness.Image, "sleep", "100000")
	m.eventually(t, "the service's containers reach the wire", func(ctx context.Context) error {
		ids, err := m.Engine.Run(ctx, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=web")
		if err != nil || len(strings.Fields(ids)) != 2 {
			return fmt.Errorf("containers %q: %w", ids, err)
		}
		for _, id := range strings.Fields(ids) {
			if _, err := m.Engine.Run(ctx, "exec", id, "busybox", "ping", "-c", "1", "-W", "1", lanGate4); err != nil {
				return err
			}
		}
		return nil
	})
	m.Docker("service", "rm", "web")
	m.eventually(t, "the service's containers are gone", func(ctx context.Context) error {
		ids, err := m.Engine.Run(ctx, "ps", "-aq")
		if err == nil && ids != "" {
			err = fmt.Errorf("there are still %s", ids)
		}
		return err
	})
	m.Docker("network", "rm", "lan-swarm", "lan-here")
	m.Docker("swarm", "leave", "--force")
	if ours := regexp.MustCompile(`dl[bhc]-\S*`).FindAllString(m.Run("ip", "-o", "link"), -1); ours != nil {
		t.Errorf("on host %s there are still %q", m.Name, ours)
	}
	for _, what := range m.state(t) {
		t.Errorf("the plugin on host %s still knows of %s", m.Name, what)
	}
}

// eventually polls: there is nothing to subscribe to.
func (m *machine) eventually(t *testing.T, what string, holds func(context.Context) error) {
	t.Helper()
	m.within(t, soon, what, holds)
}

func (m *machine) within(t *testing.T, limit time.Duration, what string, holds func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("it takes too long"))
	defer cancel()
	var last error
	err := proc.Await(ctx, func(ctx context.Context) error {
		if last != nil && limit > soon {
			time.Sleep(time.Second) // to leave the machine to what is waited for
		}
		err := holds(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil {
		t.Fatalf("on host %s: %s: %v; last %v", m.Name, what, err, last)
	}
}
