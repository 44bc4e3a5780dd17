package network_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/proc"
)

// A bridge that the host's owner made, and the host's own addresses on a bridge
// of ours, on one host.
func TestBridgesOfTheHost(t *testing.T) {
	t.Parallel()
	bridgesOfTheHost(t, debian.Bookworm)
}

func bridgesOfTheHost(t *testing.T, suite debian.Suite) {
	t.Helper()
	s := newSite(t)
	m := s.machine(suite)
	before := m.traces()
	m.joinsABridge(s, t)
	m.undoesAMove(s, t)
	m.keepsAMove(s, t)
	m.leavesNothing(t, before)
}

// joinsABridge has a network on a bridge that stays its owner's.
func (m *machine) joinsABridge(s *site, t *testing.T) {
	t.Helper()
	m.Run("ip", "link", "add", "br0", "type", "bridge")
	m.Run("ip", "link", "set", "eth1", "master", "br0", "up")
	m.Run("ip", "link", "set", "br0", "addrgenmode", "none", "up")
	m.isUp(t, "br0")
	before := m.traces()
	m.create("dmz", dmz4, dmz6, dmzGate4, dmzGate6, "mode=bridge", "bridge=br0", "isolated_ports=true")
	m.start("dmz", "up")
	m.start("dmz", "other")
	up, other := m.inspect(t, "dmz", "up"), m.inspect(t, "dmz", "other")
	for range 2 {
		up.reaches(t, dmzGate4, dmzGate6)
		s.found(t, up, other)
		up.isolated(t, other.addresses()...)
		m.KillPlugin(netPlugin)
	}
	m.Docker("rm", "-f", "up", "other")
	m.Docker("network", "rm", "dmz")
	if diff := cmp.Diff(before, m.traces()); diff != "" {
		t.Errorf("the owner's bridge is not what it was (-before +after):\n%s", diff)
	}
	m.Run("ip", "link", "del", "br0")
}

// isUp waits until links have their carrier, and the NICs the addresses that the
// kernel gives them then.
func (m *machine) isUp(t *testing.T, links ...string) {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	for _, l := range links {
		err := proc.Await(ctx, func(context.Context) error {
			out := m.Run("ip", "address", "show", l)
			if !strings.Contains(out, "state UP") || strings.HasPrefix(l, "eth") && !strings.Contains(out, "fe80::") || strings.Contains(out, "tentative") {
				return fmt.Errorf("%s is not up", l)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) createMoved() (id string) {
	m.create("lan", lan4, lan6, lanGate4, lanGate6, "mode=bridge", "uplink=eth0", "move_host_addresses=true")
	return m.Docker("network", "inspect", "-f", "{{.Id}}", "lan")
}

func (m *machine) address() string { return fmt.Sprintf("192.0.2.%d", m.number) }

// hostFound fails unless the stranger finds the host by the addresses that it
// always had.
func (m *machine) hostFound(s *site, t *testing.T, when string) {
	t.Helper()
	silent := s.stranger.Run("sh", "-c", pings(patience, m.address(), fmt.Sprintf("2001:db8:0:1::%d", m.number)))
	if silent != "" {
		t.Errorf("%s the host does not answer at %q", when, strings.Fields(silent))
	}
}

// undoesAMove has the plugin die before anybody confirms.
func (m *machine) undoesAMove(s *site, t *testing.T) {
	t.Helper()
	before := m.traces()
	id := m.createMoved()
	m.hostFound(s, t, "on the bridge")
	m.KillPlugin(netPlugin)
	ctx, cancel := stepContext(t)
	defer cancel()
	if _, err := m.status(ctx); err != nil { // when it answers it has looked at everything
		t.Fatal(err)
	}
	if out := m.Run("ip", "-br", "address", "show", "eth0"); !strings.Contains(out, m.address()+"/24") {
		t.Errorf("after the plugin was killed the uplink has %q", out)
	}
	m.hostFound(s, t, "after the plugin was killed")
	if answer := m.confirm(t, id); !strings.Contains(answer, "the plugin ended before it was confirmed") {
		t.Errorf("confirmed too late: %q", answer)
	}
	m.Docker("network", "rm", "lan")
	if diff := cmp.Diff(before, m.traces()); diff != "" {
		t.Errorf("after a move that was undone the host is not what it was (-before +after):\n%s", diff)
	}
}

// keepsAMove confirms it, and kills whom there is.
func (m *machine) keepsAMove(s *site, t *testing.T) {
	t.Helper()
	id := m.createMoved()
	if answer := m.confirm(t, id[:12]); !strings.Contains(answer, `"confirmed": true`) {
		t.Errorf("confirming answers %q", answer)
	}
	m.start("lan", "neighbour")
	for _, event := range []struct {
		name string
		do   func()
	}{
		{"at first", func() {}},
		{"after the plugin was killed", func() { m.KillPlugin(netPlugin) }},
		{"after the engine was restarted", func() { m.RestartEngine() }},
	} {
		event.do()
		m.hostFound(s, t, event.name)
		c := m.inspect(t, "lan", "neighbour")
		c.reaches(t, lanGate4, lanGate6, m.address())
		s.found(t, c)
	}
}

// confirm asks the operator's socket to, and returns what it says.
func (m *machine) confirm(t *testing.T, network string) string {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	p, err := m.Engine.Plugin(ctx, netPlugin)
	if err != nil {
		t.Fatal(err)
	}
	var answer strings.Builder
	err = admin.Post(ctx, fmt.Sprintf("/proc/%d/root/run/docker/plugins/admin.sock", p.PID), "/confirm?network="+network, &answer)
	if refused := new(admin.RefusedError); errors.As(err, &refused) {
		return refused.Text
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer.String()
}
