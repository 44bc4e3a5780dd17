package network_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/dockline/dockline/test/harness"
)

// macvlans is what macvlan networks can do besides being one.
func (s *site) macvlans(t *testing.T) {
	for _, m := range s.machines {
		s.stranger.Run("ip", "address", "add", fmt.Sprintf("10.88.%d.254/24", m.number), "dev", "eth1")
	}
	s.each(t, func(m *machine) {
		guestIsReached := m.hostAccess(t)
		wireIsThere := m.lateParent(s, t)
		// With it the plugin looks at once, whatever else tells it to.
		m.KillPlugin(netPlugin)
		wireIsThere()
		guestIsReached()
		m.passedThrough(t)
		m.Run("ip", "link", "delete", "eth2")
	})
}

// hostReaches fails unless the host itself gets answers from the addresses.
func (m *machine) hostReaches(t *testing.T, addresses ...string) {
	t.Helper()
	m.Do(func() error {
		out, err := exec.Command("sh", "-c", pings(patience, addresses...)).CombinedOutput()
		if silent := strings.TrimSpace(string(out)); silent != "" {
			t.Errorf("host %s gets no answer from %q", m.Name, strings.Fields(silent))
		}
		return err
	})
}

// hostAccess has the host and its containers on one NIC talk to each other, and
// again when what it returns is called.
func (m *machine) hostAccess(t *testing.T) (after func()) {
	subnet := fmt.Sprintf("10.77.%d.0/24", m.number)
	m.create("hosted", subnet, fmt.Sprintf("fd77:%d::/64", m.number), "", "", "parent=eth0", "host_access=true")
	ip, mac := fmt.Sprintf("10.77.%d.200", m.number), fmt.Sprintf("02:42:0a:4d:%02x:c8", m.number)
	args := []string{"--ip", ip}
	if !strings.HasPrefix(m.Docker("version", "--format", "{{.Server.Version}}"), "20.") { // which the docker command tells none
		mac = fmt.Sprintf("02:42:ac:77:00:%02x", m.number)
		args = append(args, "--mac-address", mac)
	}
	m.start("hosted", "guest", args...)
	c := m.inspect(t, "hosted", "guest")
	if c.IPAddress.String() != ip || c.MacAddress != mac {
		t.Errorf("%s has %v and %s", c, c.addresses(), c.MacAddress)
	}
	m.hostReaches(t, c.addresses()...)
	// The engine has taken .1 and ::1 for the gateway.
	port := []string{fmt.Sprintf("10.77.%d.2", m.number), fmt.Sprintf("fd77:%d::2", m.number)}
	c.reaches(t, port...)
	return func() {
		m.Docker("restart", "guest")
		c = m.inspect(t, "hosted", "guest")
		m.hostReaches(t, c.addresses()...)
		c.reaches(t, port...)
		m.hostStaysAlone(t, port[0])
		m.Docker("rm", "-f", "guest")
		m.Docker("network", "rm", "hosted")
	}
}

// hostStaysAlone checks that nobody gets the address of the host's port, and that
// there is none on a network that gives it no address.
func (m *machine) hostStaysAlone(t *testing.T, port string) {
	t.Helper()
	ctx, cancel := stepContext(t)
	_, err := m.Engine.Run(ctx, "run", "--rm", "--network", "hosted", "--ip", port, harness.Image, "true")
	cancel()
	if err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("the address of host %s was given out: %v", m.Name, err)
	}
	m.refuses(t, `--aux-address host=ADDRESS`, "-d", netDriver, "--subnet", "203.0.113.0/24", "-o", "parent=eth0", "-o", "host_access=true")
}

// lateParent starts a container without its NIC, which comes then. What it
// returns looks at how it is with it.
func (m *machine) lateParent(s *site, t *testing.T) (after func()) {
	plug := func() {
		ctx, cancel := stepContext(t)
		defer cancel()
		if err := m.Plug(ctx, s.dmz.Wire, "eth2"); err != nil {
			t.Fatal(err)
		}
	}
	plug()
	m.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver, "--subnet", fmt.Sprintf("10.88.%d.0/24", m.number), "-o", "parent=usb0,eth2", "-o", "macvlan_mode=private", "late")
	m.Run("ip", "link", "delete", "eth2")
	m.start("late", "early")
	plug()
	return func() { m.hasItsWire(t) }
}

func (m *machine) hasItsWire(t *testing.T) {
	t.Helper()
	m.inspect(t, "late", "early").reaches(t, fmt.Sprintf("10.88.%d.254", m.number))
	m.Docker("restart", "-t", "0", "early")
	if kind := m.Docker("exec", "early", "busybox", "ip", "address", "show", "eth0"); !strings.Contains(kind, "02:42:0a:58:") {
		t.Errorf("after its restart the container has %s", kind)
	}
	m.Docker("rm", "-f", "early")
	m.Docker("network", "rm", "late")
}

// passedThrough gives one container a NIC.
func (m *machine) passedThrough(t *testing.T) {
	m.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver, "--subnet", fmt.Sprintf("10.88.%d.0/24", m.number), "-o", "parent=eth2", "-o", "macvlan_mode=passthru", "through")
	m.start("through", "one")
	c := m.inspect(t, "through", "one")
	nic := m.Run("ip", "-o", "link", "show", "eth2")
	if !strings.Contains(nic, "link/ether "+c.MacAddress) {
		t.Errorf("the container has %s, its NIC is %s", c.MacAddress, nic)
	}
	c.reaches(t, fmt.Sprintf("10.88.%d.254", m.number))
	ctx, cancel := stepContext(t)
	_, err := m.Engine.Run(ctx, "run", "--rm", "--network", "through", harness.Image, "true")
	cancel()
	if err == nil || !strings.Contains(err.Error(), "to one container at a time") {
		t.Errorf("a second container on host %s: %v", m.Name, err)
	}
	m.refuses(t, "needs its interface for itself", "-d", netDriver, "--subnet", "203.0.113.0/24", "-o", "parent=eth2")
	m.Docker("restart", "-t", "0", "one")
	c.reaches(t, fmt.Sprintf("10.88.%d.254", m.number))
	m.Docker("rm", "-f", "one")
	m.Docker("network", "rm", "through")
}
