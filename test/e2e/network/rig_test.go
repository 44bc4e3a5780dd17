// Package network_test runs the network plugin, with the log plugin beside it,
// on the engines of several hosts that share wires.
package network_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

// The plugins as the engine knows them, and as users have to type them.
const (
	logDriver = "dockline-log"
	netPlugin = "dockline-net"
	netDriver = netPlugin + ":latest"
)

// Addresses of documentation (RFC 5737, RFC 3849). The stranger is the gateway
// of the LAN and of the DMZ.
const (
	lan4, lan6 = "192.0.2.0/24", "2001:db8:0:1::/64"
	dmz4, dmz6 = "198.51.100.0/24", "2001:db8:0:2::/64"

	lanGate4, lanGate6 = "192.0.2.254", "2001:db8:0:1::fe"
	dmzGate4, dmzGate6 = "198.51.100.254", "2001:db8:0:2::fe"
)

// site is a LAN and a DMZ, both of which a foreign machine is on, and hosts.
type site struct {
	*testing.T
	lab      *hosts.Lab
	lan, dmz *hosts.Wire
	stranger *hosts.Station
	machines []*machine

	liveRestoring bool // containers have outlived their engine
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, lab: hosts.Open(t)}
	s.lan, s.dmz = s.lab.Wire(t, "lan"), s.lab.Wire(t, "dmz")
	s.stranger = s.lan.Foreign("stranger", lanGate4+"/24", lanGate6+"/64")
	ctx, cancel := stepContext(t)
	defer cancel()
	if err := s.stranger.Plug(ctx, s.dmz.Wire, "eth1", dmzGate4+"/24", dmzGate6+"/64"); err != nil {
		t.Fatal(err)
	}
	return s
}

// machine is a host with both plugins: eth0, with addresses, is on the LAN and
// eth1, without, on the DMZ. Its engine is as it comes, with a bridge of its own
// and a firewall that lets nothing through but what it is told to.
type machine struct {
	*hosts.Host
	site   *site
	number int
}

// metricsAt is where each host has the network plugin's metrics.
const metricsAt = "127.0.0.1:9742"

// machine starts another host.
func (s *site) machine(suite debian.Suite) *machine {
	s.Helper()
	n := len(s.machines) + 1
	// Before 27.0 the engine leaves IPv6 alone unless it is told to experiment.
	v6 := suite == debian.Sid
	m := &machine{site: s, number: n, Host: s.lab.Host(s, string(rune('a'+n-1)), suite,
		hosts.On(s.lan, fmt.Sprintf("192.0.2.%d/24", n), fmt.Sprintf("2001:db8:0:1::%d/64", n)),
		hosts.On(s.dmz),
		hosts.Args("--bridge=", "--iptables=true", fmt.Sprintf("--ip6tables=%v", v6)))}
	s.machines = append(s.machines, m)
	s.Logf("host %s has engine %s", m.Name, m.Docker("version", "--format", "{{.Server.Version}}"))
	// As the engine does where it is the one who turns forwarding on.
	m.Run("iptables", "-P", "FORWARD", "DROP")
	if v6 {
		m.Run("ip6tables", "-P", "FORWARD", "DROP")
	}
	m.isUp(s.T, "eth0", "eth1") // by which the kernel gives them addresses, and routes
	m.Install(logDriver, build(s, logDriver))
	m.Install(netPlugin, build(s, netPlugin), "METRICS="+metricsAt, "METRICS_PER_CONTAINER=on")
	return m
}

func build(t testing.TB, name string) string {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(top, "build/plugins", name)
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		t.Fatalf("find the build of %s (make plugins): %v", name, err)
	}
	return folder
}

// create makes a network of the plugin's. The host's own part of the subnets'
// addresses is told from that of others where there is a gateway on the wire.
func (m *machine) create(name, subnet4, subnet6, gate4, gate6 string, options ...string) {
	args := []string{"--ipv6", "--subnet", subnet4, "--subnet", subnet6}
	if gate4 != "" {
		args = append(args, "--gateway", gate4, "--gateway", gate6,
			"--ip-range", strings.Replace(subnet4, "0/24", fmt.Sprintf("%d/28", 16*m.number), 1),
			"--aux-address", "host="+strings.Replace(subnet4, "0/24", strconv.Itoa(m.number), 1), // on the LAN it is the host's own
			"--ip-range", strings.Replace(subnet6, "::/64", fmt.Sprintf(":%d::/80", m.number), 1))
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	m.Docker(append(append([]string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver}, args...), name)...)
}

// createAll makes a network of each kind.
func (m *machine) createAll() {
	m.create("lan", lan4, lan6, lanGate4, lanGate6, "parent=eth0")
	m.create("dmz", dmz4, dmz6, dmzGate4, dmzGate6, "mode=bridge", "uplink=eth1")
	m.create("backstage", fmt.Sprintf("10.1.%d.0/24", m.number), fmt.Sprintf("fd00:%d::/64", m.number), "", "", "mode=bridge")
}

// start runs a container that does nothing, and comes back with its engine.
func (m *machine) start(network, name string, args ...string) {
	m.Docker(append(append([]string{"run", "-d", "--restart", "always", "--stop-signal", "KILL", "--network", network, "--name", name}, args...),
		harness.Image, "sleep", "100000")...)
}

// container is what the engine says of one in its network.
type container struct {
	m    *machine
	name string

	Gateway             string
	IPv6Gateway         string
	IPAddress           netip.Addr
	IPPrefixLen         int
	GlobalIPv6Address   netip.Addr
	GlobalIPv6PrefixLen int
	MacAddress          string
}

func (m *machine) inspect(t *testing.T, network, name string) *container {
	t.Helper()
	c := &container{m: m, name: name}
	out := m.Docker("inspect", "--format", fmt.Sprintf("{{json (index .NetworkSettings.Networks %q)}}", network), name)
	if err := json.Unmarshal([]byte(out), c); err != nil {
		t.Fatalf("read what the engine says of %s: %v: %s", name, err, out)
	}
	return c
}

// String is for messages of tests.
func (c *container) String() string { return c.m.Name + "/" + c.name }

func (c *container) addresses() []string {
	return []string{c.IPAddress.String(), c.GlobalIPv6Address.String()}
}

// pings is a script that prints the addresses that do not answer. The first
// packets to a link that has just come up may get lost, IPv6 ones above all.
func pings(tries int, addresses ...string) string {
	return fmt.Sprintf(`for a in %s; do (
	n=0
	until busybox ping -c 1 -W 1 $a >/dev/null 2>&1; do
		n=$((n+1))
		if [ $n -ge %d ]; then echo $a; break; fi
	done
) & done; wait`, strings.Join(addresses, " "), tries)
}

const patience = 8 // tries of a second where an answer is expected

// reaches fails unless the container gets answers from all the addresses.
func (c *container) reaches(t *testing.T, addresses ...string) {
	t.Helper()
	if silent := c.m.Docker("exec", c.name, "sh", "-c", pings(patience, addresses...)); silent != "" {
		t.Errorf("%s (%v) gets no answer from %q", c, c.addresses(), strings.Fields(silent))
	}
}

// isolated fails if the container gets an answer from any of the addresses.
func (c *container) isolated(t *testing.T, addresses ...string) {
	t.Helper()
	silent := c.m.Docker("exec", c.name, "sh", "-c", pings(1, addresses...))
	if got := strings.Fields(silent); len(got) != len(addresses) {
		t.Errorf("of %v, %s should reach none; only %v are silent", addresses, c, got)
	}
}

// found fails unless the stranger gets answers from all the containers.
func (s *site) found(t *testing.T, containers ...*container) {
	t.Helper()
	var all []string
	for _, c := range containers {
		all = append(all, c.addresses()...)
	}
	if silent := s.stranger.Run("sh", "-c", pings(patience, all...)); silent != "" {
		t.Errorf("a foreign machine gets no answer from %q", strings.Fields(silent))
	}
}
