package hosts

import (
	"fmt"
	"testing"

	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/wire"
)

func ethernet(i int) string { return fmt.Sprintf("eth%d", i) }

// Host is a host of one test. What needs a context or returns an error is a
// method of the host.Host or the harness.Engine in it.
type Host struct {
	*host.Host
	t testing.TB
}

// For is the host for a part of the test, which then is what a failure ends.
func (h *Host) For(t testing.TB) *Host { return &Host{h.Host, t} }

// Run runs a command on the host and returns what it printed. A failure ends the test.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	out, err := h.Host.Run(ctx, name, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// Docker runs a docker command with the host's engine and returns what it
// printed. A failure ends the test.
func (h *Host) Docker(args ...string) string {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	out, err := h.Engine.Run(ctx, args...)
	if err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
	return out
}

// Do runs fn in the host's network: sockets that it opens belong there.
func (h *Host) Do(fn func() error) {
	h.t.Helper()
	if err := h.Host.Do(fn); err != nil {
		h.t.Fatal(err)
	}
}

// Install creates a plugin from a build folder on the host's engine and enables it.
func (h *Host) Install(name, folder string, settings ...string) {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	if err := h.Engine.InstallPlugin(ctx, name, folder, settings...); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
}

// KillPlugin kills a plugin's process, as a crash does, and returns when the
// engine has started another one.
func (h *Host) KillPlugin(name string) {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	old, err := h.Engine.KillPlugin(ctx, name)
	if err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
	if _, err := h.Engine.AwaitPlugin(ctx, name, old); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
}

// KillEngine kills the engine, as a crash does, and starts it again.
func (h *Host) KillEngine() {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	if err := h.Engine.Kill(); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
	if err := h.Engine.Start(ctx); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
}

// RestartEngine stops the engine and starts it again.
func (h *Host) RestartEngine() {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	if err := h.Engine.Restart(ctx); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
}

// Crash cuts the host's power and starts it again, with its engine.
func (h *Host) Crash() {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	if err := h.Host.Crash(ctx); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Engine.Start(ctx); err != nil {
		h.t.Fatalf("on host %s: %v", h.Name, err)
	}
}

// Station is a foreign machine of one test.
type Station struct {
	*wire.Station
	t testing.TB
}

// Run runs a command in the machine's network and returns what it printed. A
// failure ends the test.
func (s *Station) Run(name string, args ...string) string {
	s.t.Helper()
	ctx, cancel := commandContext(s.t)
	defer cancel()
	out, err := s.Station.Run(ctx, name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// Ping sends echo requests, up to eight, and reports whether one was answered. The
// first ones to a link that has just come up may get lost.
func (s *Station) Ping(address string) bool {
	ctx, cancel := commandContext(s.t)
	defer cancel()
	_, err := s.Station.Run(ctx, "sh", "-c", `for i in 1 2 3 4 5 6 7 8; do busybox ping -c 1 -W 2 "$1" && exit; done; exit 1`, "sh", address)
	return err == nil
}

// Send puts a whole frame on the machine's cable.
func (s *Station) Send(frame []byte) {
	s.t.Helper()
	if err := s.Station.Send(ethernet(0), frame); err != nil {
		s.t.Fatal(err)
	}
}
