package hosts_test

import (
	"fmt"
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

// Whatever ends, a network keeps its subnet and its gateway, and no two
// containers have one address: not after a second network on the subnet is
// refused, nor with containers that their engine starts again.
func TestAddressesSurviveEveryEnd(t *testing.T) {
	t.Parallel()
	folder := build(t, "dockline-net")
	for _, suite := range debian.Suites {
		t.Run(string(suite), func(t *testing.T) {
			t.Parallel()
			lab := hosts.Open(t)
			h := lab.Host(t, "a", suite, hosts.On(lab.Wire(t, "lan")))
			h.Install("dockline-net", folder)
			network := []string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver,
				"--subnet", "192.0.2.0/28", "--gateway", "192.0.2.2", "-o", "parent=eth0"}
			h.Docker(append(network, "lan")...)
			for end, do := range []func(){
				func() {},
				func() { h.KillPlugin("dockline-net") },
				func() { h.Docker("plugin", "disable", "-f", netDriver); h.Docker("plugin", "enable", netDriver) },
				h.RestartEngine, h.KillEngine, h.Crash,
			} {
				do()
				for _, wrong := range []string{"parnet=eth0", "mtu=9"} {
					if out, err := h.Engine.Run(t.Context(), append(network, "-o", wrong, "second")...); err == nil {
						t.Errorf("after end %d, a second network on the subnet was made: %s", end, out)
					}
				}
				name := fmt.Sprintf("c%d", end)
				h.Docker("run", "-d", "--name", name, "--restart", "always", "--network", "lan", "--stop-signal", "KILL",
					harness.Image, "sleep", "1000")
				taken := map[string]string{"192.0.2.2": "the gateway"}
				for i := range end + 1 {
					c := fmt.Sprintf("c%d", i)
					a := h.Docker("inspect", "--format", "{{.NetworkSettings.Networks.lan.IPAddress}}", c)
					if taken[a] != "" {
						t.Errorf("after end %d, %s has %q, as has %s", end, c, a, taken[a])
					}
					taken[a] = c
				}
			}
			for end := range 6 {
				h.Docker("rm", "-f", fmt.Sprintf("c%d", end))
			}
			h.Docker("network", "rm", "lan")
			h.Docker(append(network, "lan")...)
		})
	}
}
