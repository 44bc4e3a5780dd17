package hosts_test

import (
	"testing"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
)

const netDriver = "dockline-net:latest" // the engine wants the tag

// Containers on hosts with different engines are machines of one LAN: they
// reach each other, and others reach them.
func TestContainersShareAWire(t *testing.T) {
	t.Parallel()
	folder := build(t, "dockline-net")
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	stranger := lan.Foreign("stranger", "192.0.2.9/24")
	addresses := map[debian.Suite]string{debian.Bookworm: "192.0.2.50", debian.Trixie: "192.0.2.51", debian.Sid: "192.0.2.52"}
	for _, suite := range debian.Suites {
		h := lab.Host(t, string(suite), suite, hosts.On(lan))
		h.Install("dockline-net", folder)
		h.Docker("network", "create", "-d", netDriver, "--ipam-driver", netDriver,
			"--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1", "-o", "parent=eth0", "lan")
		h.Docker("run", "-d", "--name", "idle", "--network", "lan", "--ip", addresses[suite], "--stop-signal", "KILL",
			harness.Image, "sleep", "1000")
		if !stranger.Ping(addresses[suite]) {
			t.Errorf("the container on %s does not answer", suite)
		}
		// The first host's is there by now, whichever this one is.
		h.Docker("exec", "idle", "ping", "-c", "1", "-W", "5", addresses[debian.Bookworm])
	}
}
