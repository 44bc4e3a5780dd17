package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/proc"
)

// adminGet asks the plugin's socket for operators.
func (m *machine) adminGet(ctx context.Context, path string) (string, error) {
	p, err := m.Engine.Plugin(ctx, netPlugin)
	if err != nil {
		return "", err
	}
	// Every host has a /run of its own; the plugin sees the folder that is its.
	sock := fmt.Sprintf("/proc/%d/root/run/docker/plugins/admin.sock", p.PID)
	conn, err := new(net.Dialer).DialContext(ctx, "unix", sock)
	if err != nil {
		return "", err
	}
	return getOver(ctx, conn, path)
}

// served asks where everybody on the host may.
func (m *machine) served(ctx context.Context, path string) (body string, err error) {
	m.Do(func() error {
		conn, e := new(net.Dialer).DialContext(ctx, "tcp", metricsAt)
		if e != nil {
			return e
		}
		body, err = getOver(ctx, conn, path)
		return nil
	})
	return body, err
}

// getOver asks over a connection, which it closes.
func getOver(ctx context.Context, conn net.Conn, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return conn, nil
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, res.StatusCode, body)
	}
	return string(body), err
}

func (m *machine) status(ctx context.Context) (s admin.Status, err error) {
	body, err := m.adminGet(ctx, "/status")
	if err == nil {
		err = json.Unmarshal([]byte(body), &s)
	}
	return s, err
}

func differences(s admin.Status) (all []string) {
	for _, n := range s.Networks {
		all = append(all, n.Difference...)
		for _, e := range n.Endpoints {
			all = append(all, e.Difference...)
		}
	}
	for _, l := range s.Strays {
		all = append(all, "stray "+l.Name)
	}
	return all
}

// squatted are addresses that the stranger has although they are of the first
// host's part of the subnets: those that would be given out first.
var squatted = map[string][]string{
	"eth0": {"192.0.2.16", "192.0.2.17", "2001:db8:0:1:1::", "2001:db8:0:1:1::1"},
	"eth1": {"198.51.100.16", "198.51.100.17", "2001:db8:0:2:1::", "2001:db8:0:2:1::1"},
}

func (s *site) squat() {
	for dev, addresses := range squatted {
		for _, a := range addresses {
			s.take(dev, a)
		}
	}
}

// take gives the stranger an address of which he says nothing to anybody.
func (s *site) take(dev, a string) {
	args := []string{"address", "add", a + "/32", "dev", dev}
	if strings.Contains(a, ":") {
		args = []string{"address", "add", a + "/128", "dev", dev, "nodad"}
	}
	s.stranger.Run("ip", args...)
}

// squattersAreLeftAlone checks that the containers got none of the stranger's
// addresses, and that nobody gets them by name.
func (s *site) squattersAreLeftAlone(t *testing.T, m *machine, containers ...*container) {
	t.Helper()
	for _, c := range containers {
		for _, all := range squatted {
			for _, a := range all {
				if c.IPAddress.String() == a || c.GlobalIPv6Address.String() == a {
					t.Errorf("%s has got %s, which is the stranger's", c, a)
				}
			}
		}
	}
	dev, err := s.stranger.Interface("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for flag, a := range map[string]string{"--ip": squatted["eth0"][0], "--ip6": squatted["eth0"][3]} {
		ctx, cancel := stepContext(t)
		_, err := m.Engine.Run(ctx, "run", "--rm", "--network", "lan", flag, a, harness.Image, "true")
		cancel()
		if err == nil || !strings.Contains(err.Error(), a+": already in use on the wire, by the machine with MAC "+dev.HardwareAddr.String()) {
			t.Errorf("asked for the stranger's %s by name: %v", a, err)
		}
	}
}

// conflictsAreReported has the stranger take addresses of containers at work.
func (s *site) conflictsAreReported(t *testing.T, m *machine, lan, dmz *container) {
	t.Helper()
	ctx, cancel := stepContext(t)
	defer cancel()
	if st, err := m.status(ctx); err != nil || st.Differences != 0 || len(st.Networks) != 3 {
		t.Errorf("before there is a conflict: %d networks, %q, %v", len(st.Networks), differences(st), err)
	}
	began := time.Now()
	taken := append(lan.addresses(), dmz.addresses()...)
	for i, a := range taken {
		s.take([]string{"eth0", "eth1"}[i/2], a)
	}
	err := proc.Await(ctx, func(ctx context.Context) error {
		st, err := m.status(ctx)
		if err == nil && st.Differences < len(taken) {
			err = fmt.Errorf("of %d conflicts there are %q", len(taken), differences(st))
		}
		return err
	})
	t.Logf("conflicts were reported after %v", time.Since(began))
	if err != nil {
		t.Error(err)
	}
	if ready, err := m.served(ctx, "/readyz"); err != nil || !strings.HasSuffix(ready, "\nok\n") {
		t.Errorf("the plugin is not ready: %s, %v", ready, err)
	}
	err = proc.Await(ctx, func(ctx context.Context) error {
		metrics, err := m.served(ctx, "/metrics")
		for _, want := range []string{
			"dockline_net_conflicts_total 4\n",
			`dockline_net_call_duration_seconds_count{call="NetworkDriver.Join"} `,
			`dockline_net_endpoint_rx_bytes_total{`,
			`dockline_net_reconcile_duration_seconds_count `,
			`state="quarantined"} 2`,
		} {
			if err == nil && !strings.Contains(metrics, want) {
				err = fmt.Errorf("the metrics lack %q:\n%s", want, metrics)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for i, a := range taken {
		bits := "/32"
		if strings.Contains(a, ":") {
			bits = "/128"
		}
		s.stranger.Run("ip", "address", "delete", a+bits, "dev", []string{"eth0", "eth1"}[i/2])
	}
}
