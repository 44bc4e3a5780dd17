package watch

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/neighbour"
)

// Who is asked for by others as well, every second, has not two machines for that;
// where there are two, they are seen all the same.
func TestAnEndpointThatOthersAskFor(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		addr, mac := netip.MustParseAddr("192.0.2.9"), net.HardwareAddr{2, 0, 0, 0, 0, 9}
		s.endpoints = []endpoint.Endpoint{{ID: "e", Network: "n", IPv4: netip.PrefixFrom(addr, 24), MAC: mac, Joined: true}}
		s.has[addr] = mac
		m.Sync()
		for i := range 4000 { // somewhat more than a second apart, so that it meets checks at all times
			if err := m.Ask("n", addr, [][]byte{nil, mac}[i%2]); err != nil {
				t.Error(err)
			}
			after(1003 * time.Millisecond)
		}
		if n := m.Stats.Conflicts.Load(); n != 0 {
			t.Errorf("%d conflicts", n)
		}
		if l := m.wires["n"].lives[addr]; l.twins > 1 {
			t.Errorf("%d checks in a row seem to have been answered twice", l.twins)
		}
		s.mu.Lock()
		s.twin = true
		s.mu.Unlock()
		for range 10 {
			if err := m.Ask("n", addr, nil); err != nil {
				t.Error(err)
			}
			after(1003 * time.Millisecond)
		}
		if n := m.Stats.Conflicts.Load(); n != 1 {
			t.Errorf("two machines answer for one address: %d conflicts", n)
		}
	})
}

func TestAskingWhereNobodyLooks(t *testing.T) {
	play(t, func(t *testing.T, _ *script, m *Manager) {
		var heard []neighbour.Claim
		m.SetHeard(func(_ string, c neighbour.Claim) { heard = append(heard, c) })
		m.Sync()
		if err := m.Ask("another", netip.MustParseAddr("192.0.2.1"), nil); !errors.Is(err, ErrUnwatched) {
			t.Errorf("%v", err)
		}
		if err := m.Ask("n", netip.MustParseAddr("192.0.2.200"), nil); err != nil || len(heard) != 0 {
			t.Errorf("%v, heard %v", err, heard)
		}
	})
}
