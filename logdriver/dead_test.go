package logdriver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/engine"
)

// refusing returns an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	return testport.Of(t)
}

// mute returns the address of somebody who takes connections and never reads.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel takes as many connections as there will be
	return l.Addr().String()
}

// swallowing returns an address whose SYNs are dropped: those of a listener that
// has as many connections waiting as it may.
func swallowing(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	at, aerr := unix.Getsockname(fd)
	if err = errors.Join(err, aerr); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(c) })
		if err := unix.Connect(c, at); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	addr, _ := at.(*unix.SockaddrInet4)
	return fmt.Sprintf("127.0.0.1:%d", addr.Port)
}

// names is a resolver that does not come to an end before it is let go.
type names struct {
	discover.Names
	asked, let chan struct{}
}

func (n *names) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	select {
	case n.asked <- struct{}{}:
	default:
	}
	<-n.let
	return nil, fmt.Errorf("look up %s: %w", host, ctx.Err())
}

// Whatever collectors do, containers start, log and stop, and docker logs shows
// what they wrote.
func TestDeadCollectorsBlockNothing(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		addr      func(*testing.T) string
	}{
		{"refusing", "json+tcp://%s", refusing},
		{"no route", "json+tcp://%s", func(*testing.T) string { return "255.255.255.255:9" }}, // refused before a packet is sent
		{"swallowing", "relp://%s", swallowing},
		{"accepting and mute, with acknowledgements", "relp://%s?timeout=1m", mute},
		{"accepting and mute, without", "syslog+tcp://%s?timeout=1m", mute},
		{"name servers do not answer", "relp://%s", func(*testing.T) string { return "logs.test" }},
		{"one of each", "", func(t *testing.T) string {
			return fmt.Sprintf("relp://logs.test,relp://%s,json+tcp://%s,relp://%s", mute(t), swallowing(t), refusing(t))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			list := tc.addr(t)
			if tc.url != "" {
				list = fmt.Sprintf(tc.url, list)
			}
			h := newHost(t, "")
			n := &names{asked: make(chan struct{}, 1), let: make(chan struct{})}
			t.Cleanup(func() { close(n.let) }) // before the plugin is closed, which waits for it
			h.plugin.pools.Names = n
			s := h.listen()
			for i := range 3 {
				s.lifeOfADeadCollectors(i, list)
			}
			if list == "relp://logs.test" {
				<-n.asked // all of that happened while it was dialled
			}
			if n := s.plugin.ship.Stats.Acked.Load(); n > 0 && !strings.HasPrefix(list, "syslog") { // whose acknowledgement is the kernel's
				t.Errorf("%d records were acknowledged", n)
			}
			if n := s.plugin.pumps.Len(); n != 0 {
				t.Errorf("%d FIFOs are still read", n)
			}
		})
	}
}

func (s *socket) lifeOfADeadCollectors(i int, list string) {
	s.t.Helper()
	lines := make([]string, 3000) // more than a pipe holds
	for n := range lines {
		lines[n] = fmt.Sprintf("line %d %s", n, strings.Repeat("x", 100))
	}
	in := info(i, map[string]string{"collectors": list})
	if _, _, err := s.life(in, lines...); err != nil {
		s.t.Fatal(err)
	}
	if got := len(s.logs(in, engine.ReadConfig{Tail: -1})); got != len(lines) {
		s.t.Errorf("docker logs has %d of %d records", got, len(lines))
	}
}

// A plugin whose collectors are dead stops without waiting for them.
func TestCloseDoesNotWaitForTheDead(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	r := h.run(1, map[string]string{"collectors": "syslog+tcp://" + mute(t) + "?timeout=10m"})
	for range 20_000 { // more than socket buffers hold
		r.write(strings.Repeat("x", 500))
	}
	r.stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of the ten that it would wait
	defer cancel()
	done := make(chan struct{})
	go func() { h.plugin.Close(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		t.Error("the plugin does not stop")
	}
}
