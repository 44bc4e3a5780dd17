// Package hosts_test runs the plugins on several hosts at once, with the engine
// versions that people have.
package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/hosts"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/wire"
)

const driver = "dockline-log"

// engines is what each suite's engine version begins with. Sid's moves.
var engines = map[debian.Suite]string{debian.Bookworm: "20.10.", debian.Trixie: "26.1.", debian.Sid: ""}

// build is the folder that a plugin is installed from.
func build(t *testing.T, plugin string) string {
	t.Helper()
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(top, "build/plugins", plugin)
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		t.Fatalf("find the plugin's build (make plugins): %v", err)
	}
	return folder
}

// Two hosts with different engines are one layer 2, on which a machine that
// neither knows reaches both.
func TestHostsShareAWire(t *testing.T) {
	t.Parallel()
	lab := hosts.Open(t)
	lan, other := lab.Wire(t, "lan"), lab.Wire(t, "other")
	a := lab.Host(t, "a", debian.Bookworm, hosts.On(lan, "192.0.2.1/24"))
	b := lab.Host(t, "b", debian.Trixie, hosts.On(lan, "192.0.2.2/24"), hosts.On(other))
	stranger := lan.Foreign("stranger", "192.0.2.9/24")
	seen := lan.Capture(func(f wire.Frame) bool { return f.Type() == wire.TypeARP })

	for _, h := range []*hosts.Host{a, b} {
		out := h.Docker("run", "--rm", "--network", "none", harness.Image, "echo", "hello from", h.Name)
		if want := "hello from " + h.Name; out != want {
			t.Errorf("the container on %s said %q", h.Name, out)
		}
		if got := h.Run("hostname"); got != h.Name {
			t.Errorf("host %s calls itself %s", h.Name, got)
		}
	}
	for h, address := range map[*hosts.Host]string{a: "192.0.2.1", b: "192.0.2.2"} {
		if !stranger.Ping(address) {
			t.Errorf("%s does not answer", address)
		}
		link, err := h.Interface("eth0")
		if err != nil {
			t.Fatal(err)
		}
		f := seen.Await(func(f wire.Frame) bool {
			p, ok := f.ARP()
			return ok && p.Op == wire.ARPReply && p.SenderIP == netip.MustParseAddr(address)
		})
		if f.Port != h.Name+"-eth0" || f.Src().String() != link.HardwareAddr.String() {
			t.Errorf("%s is answered for by %v", address, f)
		}
	}
	// The second uplink is up and bears no address of IPv4.
	if out := b.Run("ip", "-4", "-br", "address", "show", "dev", "eth1"); strings.Contains(out, "/") {
		t.Errorf("the uplink without an address: %s", out)
	}
	if links := a.Run("ls", "/sys/class/net"); strings.Join(strings.Fields(links), " ") != "eth0 lo" {
		t.Errorf("host a sees the interfaces %q in /sys", links)
	}
}

// A power cut takes links, /run and every process; what was written stays.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	h := lab.Host(t, "a", debian.Trixie, hosts.On(lan, "192.0.2.1/24"))
	stranger := lan.Foreign("stranger", "192.0.2.9/24")
	h.Run("touch", "/run/volatile", "/var/durable")
	h.Docker("run", "-d", "--network", "none", "--stop-signal", "KILL", "--name", "idle", "--restart", "always", harness.Image, "sleep", "1000")
	h.Run("ip", "link", "add", "mine", "type", "bridge")
	h.Crash()
	h.Run("test", "!", "-e", "/run/volatile")
	h.Run("test", "-e", "/var/durable")
	if links := h.Run("ls", "/sys/class/net"); strings.Join(strings.Fields(links), " ") != "eth0 lo" {
		t.Errorf("after a power cut there are %q", links)
	}
	if !stranger.Ping("192.0.2.1") {
		t.Error("the host does not answer")
	}
	h.Docker("exec", "idle", "true") // started again by the engine
}

// An engine with its own bridge and firewall has them in its host alone, and
// publishes ports to the wire: what ours is compared with.
func TestBuiltInBridge(t *testing.T) {
	t.Parallel()
	lab := hosts.Open(t)
	lan := lab.Wire(t, "lan")
	h := lab.Host(t, "a", debian.Sid, hosts.On(lan, "192.0.2.1/24"), hosts.Args("--bridge=", "--iptables=true", "--ip-forward=true"))
	h.Docker("run", "-d", "--name", "web", "-p", "8080:80", "--stop-signal", "KILL", harness.Image, "nc", "-ll", "-p", "80", "-e", "echo", "hello")
	stranger := lan.Foreign("stranger", "192.0.2.9/24")
	ctx, cancel := context.WithTimeoutCause(t.Context(), awaitTime, errors.New("the container's port does not answer"))
	defer cancel()
	err := proc.Await(ctx, func(context.Context) error { // the container may not listen yet
		return stranger.Do(func() error { return expectFrom("192.0.2.1:8080", "hello\n") })
	})
	if err != nil {
		t.Error(err)
	}
}

// expectFrom connects and reads all that is said.
func expectFrom(address, want string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	said, err := io.ReadAll(conn)
	if err == nil && string(said) != want {
		err = fmt.Errorf("%s says %q", address, said)
	}
	return err
}
