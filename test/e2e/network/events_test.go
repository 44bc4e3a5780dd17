package network_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/proc"
)

// stepContext bounds one step of a test.
func stepContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("the step takes too long"))
}

// The plugin holds the two capabilities that it needs, in every set.
func (s *site) capabilities(t *testing.T) {
	const needed = "0000000000003000" // 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW
	for _, m := range s.machines {
		ctx, cancel := stepContext(t)
		p, err := m.Engine.Plugin(ctx, netPlugin)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		for set, want := range map[string]string{"CapEff": needed, "CapPrm": needed, "CapBnd": needed, "CapInh": "0000000000000000", "CapAmb": "0000000000000000"} {
			if got := regexp.MustCompile(set + `:\s*(\w+)`).FindSubmatch(status); got == nil || string(got[1]) != want {
				t.Errorf("on host %s the plugin's %s is %q", m.Name, set, got)
			}
		}
	}
}

// refuses checks that a network is refused in our words, on the docker
// command's output, and that nothing of it is left.
func (m *machine) refuses(t *testing.T, says string, args ...string) {
	t.Helper()
	before := m.traces()
	ctx, cancel := stepContext(t)
	defer cancel()
	_, err := m.Engine.Run(ctx, append(append([]string{"network", "create"}, args...), "refused")...)
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("on host %s there was said %v, without %q", m.Name, err, says)
	}
	if diff := cmp.Diff(before, m.traces()); diff != "" {
		t.Errorf("on host %s something is left (-before +after):\n%s", m.Name, diff)
	}
}

// An uplink that is in use is none, be it by the host or another network.
func (m *machine) refusesItsOwnUplink(t *testing.T) {
	t.Helper()
	m.refuses(t, `network option parent="eth0": carries the host's address 192.0.2.`,
		"-d", netDriver, "--ipam-driver", netDriver, "--subnet", "203.0.113.0/24", "-o", "mode=bridge", "-o", "uplink=eth0")
}

func (s *site) refusals(t *testing.T) {
	base := []string{"--ipam-driver", netDriver, "-d", netDriver, "--subnet", "203.0.113.0/24"}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown key":           {append(base, "-o", "paret=eth0"), `unknown network option "paret": did you mean "parent"?`},
		"no parent":             {base, `mode=macvlan needs one; this host has `},
		"missing parent":        {append(base, "-o", "parent=eth7"), `parent="eth7": no such interface; this host has `},
		"uplink with macvlan":   {append(base, "-o", "mode=bridge", "-o", "parent=eth0"), `with mode=macvlan by network`},
		"parent of a bridge":    {append(base, "-o", "parent=eth1"), `is used with mode=bridge by network`},
		"overlap":               {[]string{"--ipam-driver", netDriver, "-d", netDriver, "--subnet", "192.0.2.128/25", "-o", "parent=eth0"}, "pool 192.0.2.128/25 overlaps 192.0.2.0/24"},
		"overlap of the engine": {[]string{"-d", netDriver, "--subnet", "192.0.2.128/25", "-o", "parent=eth0"}, "subnet 192.0.2.128/25 overlaps 192.0.2.0/24 of network"},
		"a host's route":        {[]string{"--ipam-driver", netDriver, "-d", netDriver, "--subnet", "172.17.0.0/16", "-o", "parent=eth0"}, "overlaps the host's route 172.17.0.0/16 by docker0"},
		"IPAM option":           {append(base, "-o", "parent=eth0", "--ipam-opt", "colour=red"), `unknown IPAM option "colour"`},
		"no tag":                {[]string{"-d", netPlugin, "-o", "mode=bridge"}, "could not resolve driver " + netPlugin},
		"no tag of IPAM":        {[]string{"-d", netDriver, "--ipam-driver", netPlugin, "-o", "mode=bridge"}, netPlugin},
	} {
		t.Run(name, func(t *testing.T) {
			s.each(t, func(m *machine) { m.refuses(t, c.says, c.args...) })
		})
	}
	for _, m := range s.machines {
		for flag, c := range map[string]struct{ address, says string }{
			"--ip":  {"192.0.2." + strconv.Itoa(m.number), "already in use"}, // it is set aside
			"--ip6": {"2001:db8:0:1::" + strconv.Itoa(m.number), "already in use by this host itself"},
		} {
			ctx, cancel := stepContext(t)
			_, err := m.Engine.Run(ctx, "run", "--rm", "--network", "lan", flag, c.address, harness.Image, "true")
			cancel()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the address %s of host %s itself: %v", c.address, m.Name, err)
			}
		}
	}
}

// each does something on all hosts at once.
func (s *site) each(t *testing.T, do func(*machine)) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range s.machines {
		wg.Go(func() { do(m) })
	}
	wg.Wait()
	if s.Failed() {
		t.FailNow()
	}
}

func (s *site) pluginKilled(t *testing.T) {
	s.each(t, func(m *machine) { m.KillPlugin(netPlugin) })
	s.connected(t)
}

func (s *site) containersRestarted(t *testing.T) {
	s.each(t, (*machine).restartContainers)
	s.connected(t)
}

func (m *machine) restartContainers() { m.Docker("restart", "mac", "up", "iso1", "iso2") }

func (s *site) engineRestarted(t *testing.T) {
	s.each(t, func(m *machine) { m.RestartEngine() })
	s.connected(t)
}

func (s *site) engineKilled(t *testing.T) {
	s.each(t, func(m *machine) { m.KillEngine() })
	s.connected(t)
}

// liveRestored has the engines leave the containers alone, whatever happens to
// the engines: they keep their processes and their addresses.
func (s *site) liveRestored(t *testing.T) {
	s.each(t, func(m *machine) { m.keepContainers(t) })
	s.liveRestoring = true
	for _, event := range []func(*machine){func(m *machine) { m.RestartEngine() }, func(m *machine) { m.KillEngine() }} {
		s.each(t, func(m *machine) {
			before := m.running()
			event(m)
			if after := m.running(); after != before {
				t.Errorf("on host %s there were\n%s\nand now there are\n%s", m.Name, before, after)
			}
		})
		s.connected(t)
	}
	s.each(t, (*machine).restartContainers)
	s.connected(t)
}

// running is the processes and addresses of the containers.
func (m *machine) running() string {
	return m.Docker("inspect", "--format",
		"{{.Name}} {{.State.Pid}}{{range .NetworkSettings.Networks}}{{if .IPAddress}} {{.IPAddress}} {{.GlobalIPv6Address}} {{.MacAddress}}{{end}}{{end}}",
		"mac", "up", "iso1", "iso2")
}

// keepContainers switches live-restore on.
func (m *machine) keepContainers(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Engine.Dir, "daemon.json"), []byte(`{"live-restore": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(m.Engine.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := stepContext(t)
	defer cancel()
	err := proc.Await(ctx, func(ctx context.Context) error {
		on, err := m.Engine.Run(ctx, "info", "--format", "{{.LiveRestoreEnabled}}")
		if err == nil && on != "true" {
			err = errors.New("live-restore is off")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
