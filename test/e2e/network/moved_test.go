package network_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/debian"
)

const (
	pingEvery = 20 * time.Millisecond
	// moveLost is how many of the requests may be lost from when a moved
	// container runs until it answers: less than those of the five seconds after
	// which the kernel of who sends them begins to look for it by itself.
	moveLost = 200
)

// A container that is stopped on one host and started on another, by the MAC that
// it is started with, keeps its address without anybody naming that, and a machine
// that had known it on the first host goes on with it at once.
func TestAContainerMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.machine(debian.Trixie) // with 20.10, the docker command of today gives no MAC
	s.machine(debian.Sid)
	s.each(t, func(m *machine) {
		m.Docker("plugin", "disable", netPlugin)
		m.Docker("plugin", "set", netPlugin, "REQUIRE_MAC=on")
		m.Docker("plugin", "enable", netPlugin)
		for name, args := range map[string][]string{
			"lan": {"--subnet", lan4, "--ip-range", "192.0.2.64/26", "--gateway", lanGate4, "-o", "parent=eth0"},
			"dmz": {"--subnet", dmz4, "--ip-range", "198.51.100.64/26", "--gateway", dmzGate4, "-o", "mode=bridge", "-o", "uplink=eth1"},
		} {
			m.Docker(append(append([]string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver}, args...), name)...)
		}
	})
	for network, mac := range map[string]string{"lan": "02:00:5e:00:53:01", "dmz": "02:00:5e:00:53:02"} {
		name := "moved-" + network
		home := s.machines[0]
		home.start(network, name, "--mac-address", mac)
		before := home.inspect(t, network, name)
		pings, err := s.stranger.Station.Ping(before.IPAddress, pingEvery)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := pings.Close(); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := stepContext(t)
		defer cancel()
		if _, _, err := pings.Since(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, to := range []*machine{s.machines[1], s.machines[0]} { // there and back
			home.Docker("rm", "-f", name)
			to.start(network, name, "--mac-address", mac)
			to.answersAs(t, before.IPAddress, network, name, func(started time.Time) (int, time.Time, error) { return pings.Since(ctx, started) })
			home = to
		}
	}
}

// answersAs checks that a container has an address, and that whoever pings that
// gets answers soon after it was started.
func (m *machine) answersAs(t *testing.T, want netip.Addr, network, name string, since func(time.Time) (int, time.Time, error)) {
	t.Helper()
	if got := m.inspect(t, network, name).IPAddress; got != want {
		t.Fatalf("%s has %s on host %s, and had %s", name, got, m.Name, want)
	}
	started, err := time.Parse(time.RFC3339Nano, m.Docker("inspect", "--format", "{{.State.StartedAt}}", name))
	if err != nil {
		t.Fatal(err)
	}
	lost, first, err := since(started)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s on host %s: the first answer is to a request %v after its start, %d before it were lost", name, m.Name, first.Sub(started), lost)
	if lost >= moveLost {
		t.Errorf("%s on host %s: %d requests were lost after its start", name, m.Name, lost)
	}
}
