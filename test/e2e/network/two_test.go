package network_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
)

// The life of networks of every kind on several hosts, each with another engine.
// Its parts come one after the other.
func TestHosts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, suite := range debian.Suites {
		s.machine(suite)
	}
	before := map[*machine][]string{}
	for _, m := range s.machines {
		before[m] = m.traces()
	}
	s.each(t, func(m *machine) {
		m.refusesItsOwnUplink(t)
		m.createAll()
		m.start("lan", "mac")
		m.start("dmz", "up")
		m.start("backstage", "iso1")
		m.start("backstage", "iso2")
	})
	for _, part := range []struct {
		name string
		run  func(*site, *testing.T)
	}{
		{"connected", (*site).connected},
		{"trace", (*site).traced},
		{"inspect", (*site).inspected},
		{"the same key, the same collector", (*site).sameCollector},
		{"capabilities", (*site).capabilities},
		{"refusals", (*site).refusals},
		{"Compose", (*site).composed},
		{"macvlan", (*site).macvlans},
		{"plugin killed", (*site).pluginKilled},
		{"plugin upgraded", (*site).upgraded},
		{"containers restarted", (*site).containersRestarted},
		{"engine restarted", (*site).engineRestarted},
		{"engine killed", (*site).engineKilled},
		{"engine restarted, then killed, under live containers", (*site).liveRestored},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(s, t) }) {
			t.FailNow()
		}
	}
	s.each(t, func(m *machine) { m.leavesNothing(t, before[m]) })
}

// What the wire says of addresses, and what takes minutes, on one host;
// TestMatrix has the latter on all.
func TestTrixie(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.machine(debian.Trixie)
	before := m.traces()
	s.squat()
	m.createAll()
	m.start("lan", "mac")
	m.start("dmz", "up")
	m.alone(t, s)
	m.agrees(t, soon)
	mac, up := m.inspect(t, "lan", "mac"), m.inspect(t, "dmz", "up")
	s.squattersAreLeftAlone(t, m, mac, up)
	s.conflictsAreReported(t, m, mac, up)
	m.staysInstalled(t)
	m.pluginAway(t, s)
	m.leavesNothing(t, before)
	m.swarm(t)
}

// staysInstalled tries to uninstall the plugin under its networks.
func (m *machine) staysInstalled(t *testing.T) {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := stepContext(t)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(top, "scripts/plugin.sh"), "uninstall", netPlugin)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+m.Engine.Addr)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "dockline-net has networks") {
		t.Errorf("uninstalling the plugin: %v: %s", err, out)
	}
}

// connected checks that everybody reaches whom he should, and that no two have
// the same address.
func (s *site) connected(t *testing.T) {
	t.Helper()
	macs, ups := map[*machine]*container{}, map[*machine]*container{}
	var wired []*container
	for _, m := range s.machines {
		macs[m], ups[m] = m.inspect(t, "lan", "mac"), m.inspect(t, "dmz", "up")
		wired = append(wired, macs[m], ups[m])
	}
	var mu sync.Mutex
	all := slices.Clone(wired) // guarded by mu
	s.each(t, func(m *machine) {
		lan, dmz := []string{lanGate4, lanGate6}, []string{dmzGate4, dmzGate6}
		for _, other := range s.machines {
			if other != m {
				lan, dmz = append(lan, macs[other].addresses()...), append(dmz, ups[other].addresses()...)
			}
		}
		macs[m].reaches(t, lan...)
		ups[m].reaches(t, dmz...)
		i1, i2 := m.inspect(t, "backstage", "iso1"), m.inspect(t, "backstage", "iso2")
		i1.reaches(t, i2.addresses()...)
		i2.reaches(t, i1.addresses()...)
		i1.isolated(t, lanGate4, dmzGate4, lanGate6, fmt.Sprintf("192.0.2.%d", m.number))
		v4 := func(c *container) netip.Addr { return c.IPAddress }
		v6 := func(c *container) netip.Addr { return c.GlobalIPv6Address }
		here := []*container{i1, i2, m.another(t, "lan", "mac", "--ip", v4), m.another(t, "dmz", "up", "--ip6", v6)}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, here...)
	})
	s.found(t, wired...)
	noTwins(t, all)
	s.each(t, func(m *machine) { m.agrees(t, soon) })
}

// another connects iso1 to the network for as long as it takes to see what the
// engine gives it. An address of the container that has one there it never gives.
func (m *machine) another(t *testing.T, network, has, flag string, address func(*container) netip.Addr) *container {
	t.Helper()
	taken := address(m.inspect(t, network, has))
	ctx, cancel := stepContext(t)
	defer cancel()
	_, err := m.Engine.Run(ctx, "run", "--rm", "--network", network, flag, taken.String(), harness.Image, "true")
	if err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("on host %s %s, which %s has, was asked for again: %v", m.Name, taken, has, err)
	}
	// To a container that lived on without it, an engine before 28 connects
	// nothing: it has forgotten what interfaces there are.
	if m.site.liveRestoring {
		name := "another-" + network
		m.Docker("run", "-d", "--stop-signal", "KILL", "--network", network, "--name", name, harness.Image, "sleep", "1000")
		defer m.Docker("rm", "-f", name)
		return m.inspect(t, network, name)
	}
	m.Docker("network", "connect", network, "iso1")
	defer m.Docker("network", "disconnect", network, "iso1")
	return m.inspect(t, network, "iso1")
}

func noTwins(t *testing.T, all []*container) {
	t.Helper()
	has := map[string]*container{}
	for _, c := range all {
		for _, address := range append(c.addresses(), c.MacAddress) {
			if other := has[address]; other != nil {
				t.Errorf("%s and %s both have %s", c, other, address)
			}
			has[address] = c
		}
	}
}

// inspected compares what the engine says with what the containers and the
// machines beside them see.
func (s *site) inspected(t *testing.T) {
	for _, m := range s.machines {
		for _, c := range []struct{ network, name, subnet4, subnet6, gate4, gate6 string }{
			{"lan", "mac", lan4, lan6, lanGate4, lanGate6},
			{"dmz", "up", dmz4, dmz6, dmzGate4, dmzGate6},
			{"backstage", "iso1", fmt.Sprintf("10.1.%d.0/24", m.number), fmt.Sprintf("fd00:%d::/64", m.number), "", ""},
		} {
			says := m.inspect(t, c.network, c.name)
			if says.Gateway != c.gate4 || says.IPv6Gateway != c.gate6 {
				t.Errorf("the gateways of %s are %q and %q", says, says.Gateway, says.IPv6Gateway)
			}
			p4, p6 := netip.PrefixFrom(says.IPAddress, says.IPPrefixLen), netip.PrefixFrom(says.GlobalIPv6Address, says.GlobalIPv6PrefixLen)
			if p4.Masked().String() != c.subnet4 || p6.Masked().String() != c.subnet6 {
				t.Errorf("the addresses of %s are %s and %s", says, p4, p6)
			}
			says.wantInside(t, p4, p6)
			says.wantInNetwork(t, c.network, c.subnet4, c.subnet6, c.gate4, c.gate6)
			if c.gate4 == "" {
				continue
			}
			says.reaches(t, c.gate4, c.gate6)
			for _, a := range says.addresses() {
				if neighbour := s.stranger.Run("ip", "neighbour", "show", a); !strings.Contains(neighbour, says.MacAddress) {
					t.Errorf("on the wire %s, which has %s, is %q", says, says.MacAddress, neighbour)
				}
			}
		}
	}
}

// wantInside compares the container's own view.
func (c *container) wantInside(t *testing.T, p4, p6 netip.Prefix) {
	t.Helper()
	inside := c.m.Docker("exec", c.name, "sh", "-c", "busybox ip address show eth0; busybox ip route; busybox ip -6 route")
	want := []string{"inet " + p4.String(), "inet6 " + p6.String(), "link/ether " + c.MacAddress}
	if c.Gateway != "" {
		want = append(want, "default via "+c.Gateway+" dev eth0", "default via "+c.IPv6Gateway+" dev eth0")
	} else if strings.Contains(inside, "default via") {
		t.Errorf("%s has a gateway", c)
	}
	for _, w := range want {
		if !strings.Contains(inside, w) {
			t.Errorf("%s has no %q, but\n%s", c, w, inside)
		}
	}
}

// wantInNetwork compares docker network inspect.
func (c *container) wantInNetwork(t *testing.T, network, subnet4, subnet6, gate4, gate6 string) {
	t.Helper()
	var says []struct {
		Driver string
		IPAM   struct {
			Driver string
			Config []struct{ Subnet, Gateway string }
		}
		Containers map[string]struct{ Name, MacAddress, IPv4Address, IPv6Address string }
	}
	out := c.m.Docker("network", "inspect", network)
	if err := json.Unmarshal([]byte(out), &says); err != nil {
		t.Fatal(err)
	}
	n := says[0]
	if n.Driver != netDriver || n.IPAM.Driver != netDriver {
		t.Errorf("the drivers of network %s are %s and %s", network, n.Driver, n.IPAM.Driver)
	}
	if got, want := fmt.Sprint(n.IPAM.Config), fmt.Sprintf("[{%s %s} {%s %s}]", subnet4, gate4, subnet6, gate6); got != want {
		t.Errorf("the subnets and gateways of network %s are %s, not %s", network, got, want)
	}
	for _, has := range n.Containers {
		if has.Name == c.name {
			want := fmt.Sprintf("{%s %s %s/%d %s/%d}", c.name, c.MacAddress, c.IPAddress, c.IPPrefixLen, c.GlobalIPv6Address, c.GlobalIPv6PrefixLen)
			if fmt.Sprint(has) != want {
				t.Errorf("in network %s there is %v, not %s", network, has, want)
			}
			return
		}
	}
	t.Errorf("%s is not in network %s: %s", c, network, out)
}

// sameCollector has containers on both hosts log by a label: the same label's
// value leads to the same collector, whatever the host.
func (s *site) sameCollector(t *testing.T) {
	check, urls := s.collectors(t)
	keys := []string{"shop", "mail", "search", "billing"}
	ctx, cancel := stepContext(t)
	defer cancel()
	s.each(t, func(m *machine) {
		for _, key := range keys {
			m.Docker("run", "-d", "--network", "lan", "--name", key+"-"+m.Name, "--label", "service="+key,
				"--log-driver", logDriver, "--log-opt", "collectors="+urls, "--log-opt", "hash=label:service",
				harness.Image, "workload", "tally", "workload", "seq", "-n", "500")
		}
		for _, key := range keys {
			name := key + "-" + m.Name
			if code := m.Docker("wait", name); code != "0" {
				t.Errorf("%s ended with code %s", name, code)
			}
			wrote, err := m.Engine.Tally(ctx, name)
			if err != nil {
				t.Error(err)
				continue
			}
			check.Expect(name, wrote)
		}
	})
	if err := check.Wait(ctx, check.Complete); err != nil {
		t.Error(err)
	}
	rep := check.Report()
	for _, p := range rep.Problems {
		t.Error(p)
	}
	for _, key := range keys {
		var where []string
		for _, m := range s.machines {
			for name := range check.Where(key + "-" + m.Name) {
				where = append(where, name)
			}
		}
		if len(where) != len(s.machines) || len(slices.Compact(where)) != 1 {
			t.Errorf("the records of %s are at %v", key, where)
		}
	}
	if len(rep.Collectors) < 2 {
		t.Errorf("only %v have received anything", rep.Collectors)
	}
	t.Logf("delivered %d of %d, at %v", rep.Delivered, rep.Expected, rep.Collectors)
	s.each(t, func(m *machine) {
		for _, key := range keys {
			m.Docker("rm", key+"-"+m.Name)
		}
	})
}

// collectors starts three on a machine of their own, and returns their list.
func (s *site) collectors(t *testing.T) (*collector.Checker, string) {
	t.Helper()
	check := collector.NewChecker()
	machine := s.lan.Foreign("logs", "192.0.2.10/24")
	var urls []string
	for i, proto := range []string{"relp", "syslog+tcp", "json+tcp"} {
		var server *collector.Server
		err := machine.Do(func() (err error) {
			server, err = collector.Start(collector.Options{
				Name: fmt.Sprintf("c%d", i+1), Proto: proto, Addr: "192.0.2.10:0", Each: check.Record,
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = server.Reset()
			if st := server.Stats(); st.Errors > 0 {
				t.Errorf("collector %s was sent something wrong: %s", server.Name(), st.LastError)
			}
		})
		urls = append(urls, server.URL())
	}
	return check, strings.Join(urls, ",")
}
