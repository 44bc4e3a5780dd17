package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
)

// TestDHCP has an engine's containers get their addresses from the LAN's server.
func TestDHCP(t *testing.T) {
	t.Parallel()
	suites := []debian.Suite{debian.Sid}
	if *matrix {
		suites = debian.Suites
	}
	for _, suite := range suites {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			leases(t, suite)
		})
	}
}

func leases(t *testing.T, suite debian.Suite) {
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	site := lan.Foreign("site", lanGate4+"/24")
	server, err := dhcpd.New(lab.Lab, dhcpd.Dnsmasq, site.Station, dhcpd.Settings{
		Subnet: netip.MustParsePrefix(lan4), Router: netip.MustParseAddr(lanGate4), MTU: 1400,
		First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.150"),
		Lease: 2 * time.Minute, Renew: 4 * time.Second, Rebind: 90 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	m := &machine{number: 1, Host: lab.Host(t, "a", suite, hosts.On(lan), hosts.Args("--bridge=none"))}
	m.Install(netPlugin, build(t, netPlugin), "REQUIRE_MAC=on")
	m.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver,
		"--ipam-opt", "backend=dhcp", "--ipam-opt", "parent=eth0", "-o", "parent=eth0", "lan")
	if subnet := m.Docker("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}", "lan"); !strings.Contains(subnet, lanGate4) {
		t.Errorf("the engine has %q", subnet)
	}
	m.start("name=lan,driver-opt=hostname=web-1", "web")
	// The docker command tells the oldest engine's API no MAC.
	known := !strings.HasPrefix(m.Docker("version", "--format", "{{.Server.Version}}"), "20.")
	var args []string
	if known {
		args = []string{"--mac-address", "0a:00:5e:00:53:01"}
	}
	m.start("lan", "fixed", args...)
	web, fixed := m.inspect(t, "lan", "web"), m.inspect(t, "lan", "fixed")
	if known && fixed.MacAddress != args[1] {
		t.Errorf("%s has MAC %s", fixed, fixed.MacAddress)
	}
	for _, c := range []*container{web, fixed} {
		link := m.Docker("exec", c.name, "busybox", "ip", "link", "show", "eth0")
		if !strings.Contains(link, c.MacAddress) || !strings.Contains(link, "mtu 1400") {
			t.Errorf("%s has the link %s", c, link)
		}
		c.reaches(t, lanGate4)
	}
	m.leasedTo(t, server, map[*container]string{web: "web-1", fixed: ""})

	for _, c := range []*container{web, fixed} { // one after the other: see docs/dhcp.md
		m.Docker("restart", "-t", "0", c.name)
	}
	m.keep(t, web, fixed)
	m.KillPlugin(netPlugin)
	m.keep(t, web, fixed)
	m.KillEngine()
	if known { // the others start at once, and change places
		m.keep(t, fixed)
	}
	if out, err := m.Engine.Run(t.Context(), "run", "--rm", "--network", "lan", "--ip", "192.0.2.9", harness.Image, "true"); err == nil || !strings.Contains(err.Error(), "192.0.2.9") {
		t.Errorf("an address that the server does not lease: %v, %s", err, out)
	}
	m.Docker("rm", "-f", "web", "fixed")
	m.Docker("network", "rm", "lan")
	m.none(t, server)
}

// with makes a function one that proc.Await calls.
func with(fn func() error) func(context.Context) error {
	return func(context.Context) error { return fn() }
}

// leasedTo waits until the server's file has the containers, by MAC and name.
func (m *machine) leasedTo(t *testing.T, server *dhcpd.Server, names map[*container]string) {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	err := proc.Await(ctx, with(func() error {
		all, err := server.Leases()
		for c, name := range names {
			if l := all[c.IPAddress]; l.MAC != c.MacAddress || l.HostName != name {
				err = errors.Join(err, fmt.Errorf("%s is %+v at the server", c, l))
			}
		}
		return err
	}))
	if err != nil {
		t.Error(err)
	}
}

// keep checks that containers have the addresses that they had, bound, and work.
func (m *machine) keep(t *testing.T, all ...*container) {
	t.Helper()
	for _, c := range all {
		if now := m.inspect(t, "lan", c.name); now.IPAddress != c.IPAddress {
			t.Errorf("%s has %s, had %s", c, now.IPAddress, c.IPAddress)
		}
		c.reaches(t, lanGate4)
	}
	ctx, cancel := stepContext(t)
	defer cancel()
	err := proc.Await(ctx, func(ctx context.Context) error { // each of them is renewed now and then
		s, err := m.status(ctx)
		for _, c := range all {
			if l := leaseOf(s, c.IPAddress); l.State != "bound" {
				err = errors.Join(err, fmt.Errorf("the lease of %s is %+v", c, l))
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func leaseOf(s admin.Status, a netip.Addr) admin.Lease {
	for _, n := range s.Networks {
		for _, l := range n.Leases {
			if l.Address == a {
				return l
			}
		}
	}
	return admin.Lease{}
}

// none waits until the server has everything back.
func (m *machine) none(t *testing.T, server *dhcpd.Server) {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	err := proc.Await(ctx, with(func() error {
		all, err := server.Leases()
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("the server has %+v", all)
		}
		return err
	}))
	if err != nil {
		t.Error(err)
	}
}
