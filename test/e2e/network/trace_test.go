package network_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dockline/dockline/netdriver/trace"
)

// traced traces from containers of the engine's own making, in its sandboxes.
func (s *site) traced(t *testing.T) {
	t.Helper()
	s.each(t, func(m *machine) {
		mac, up, iso := m.inspect(t, "lan", "mac"), m.inspect(t, "dmz", "up"), m.inspect(t, "backstage", "iso1")
		beside := m.inspect(t, "backstage", "iso2").IPAddress.String()
		var all sync.WaitGroup // they mostly wait, and those of one container for each other
		all.Go(func() {
			m.tracesTo(t, mac, lanGate4, trace.None, "5 of 5")
			m.says(t, mac, lanGate4, "A reaches B: 5 of 5 echoes answered")
			m.tracesTo(t, mac, "192.0.2.250", trace.FarDead, "the gateway "+lanGate4+" answers")
			m.tracesTo(t, mac, fmt.Sprintf("192.0.2.%d", m.number), trace.HostMacvlan, "host_access")
		})
		all.Go(func() { m.tracesTo(t, up, dmzGate6, trace.None, "5 of 5") })
		all.Go(func() {
			m.tracesTo(t, iso, beside, trace.None, "5 of 5")
			m.tracesTo(t, iso, lanGate4, trace.NoRoute, "A does not know where to send to")
		})
		all.Wait()
	})
}

func (m *machine) tracesTo(t *testing.T, from *container, to string, fault trace.Fault, words string) {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	p, err := m.Engine.Plugin(ctx, netPlugin)
	if err != nil {
		t.Fatal(err)
	}
	socket := fmt.Sprintf("/proc/%d/root/run/docker/plugins/admin.sock", p.PID)
	r, err := trace.Ask(ctx, socket, from.IPAddress.String(), to, nil)
	if err != nil {
		t.Errorf("trace from %s to %s: %v", from, to, err)
		return
	}
	if v := r.Verdict; v.Fault != fault || !strings.Contains(v.Words+v.Do, words) {
		var text strings.Builder
		_ = r.Print(&text)
		t.Errorf("from %s to %s: want %q and %q:\n%s", from, to, fault, words, &text)
	}
}

// says traces with the command of the installed plugin, as an operator does.
func (m *machine) says(t *testing.T, from *container, to, words string) {
	t.Helper()
	root, id := m.Docker("info", "--format", "{{.DockerRootDir}}"), m.Docker("plugin", "inspect", "--format", "{{.ID}}", netPlugin)
	out := m.Run(root+"/plugins/"+id+"/rootfs/dockline-net", "trace", from.IPAddress.String(), to)
	if !strings.Contains(out, words) {
		t.Errorf("want %q:\n%s", words, out)
	}
}
