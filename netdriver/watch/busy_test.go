package watch

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/neighbour"
)

// On a host that has no time for us, an address that is in use is not taken for
// free: not when the questions go out late, nor when the answer is read or noted late.
func TestAHostWithoutTime(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.9")
	claim := neighbour.Claim{Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Answer: true}
	// last calls answer when the last question of a round comes: the others were lost.
	last := func(answer func(), late time.Duration) func(netip.Addr) {
		asked := 0
		return func(to netip.Addr) {
			if to != a {
				return
			}
			time.Sleep(late) // in the bubble's time
			if asked++; asked == len(fast.asks) {
				answer()
			}
		}
	}
	for name, busy := range map[string]func(*script, *Manager){
		"questions go late": func(s *script, _ *Manager) {
			s.asking = last(func() {
				time.AfterFunc(50*time.Millisecond, func() { s.claims <- claim })
			}, 100*time.Millisecond)
		},
		"answers are read late": func(s *script, _ *Manager) {
			s.reading = fast.verdict + 100*time.Millisecond
			s.has[a] = claim.MAC
		},
		"answers are noted late": func(s *script, m *Manager) {
			m.SetHeard(func(string, neighbour.Claim) { time.Sleep(fast.verdict + 100*time.Millisecond) }) // in the bubble's time
			s.asking = last(func() { s.claims <- claim }, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *script, m *Manager) {
				busy(s, m)
				m.Sync()
				m.Probe(subnet4, a)
				if f := m.Look(subnet4, a); f.Known != ipam.Used {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}

// A wire that is never silent keeps nobody waiting for ever.
func TestAWireThatIsNeverSilent(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		s.reading = time.Hour
		s.claims <- neighbour.Claim{}
		m.Sync()
		begin := time.Now()
		m.Probe(subnet4, netip.MustParseAddr("192.0.2.9"))
		if took := time.Since(begin); took != fast.verdict+readTries*readAgain {
			t.Errorf("it took %v", took)
		}
	})
}

// A cable that is cut between two looks at the carrier frees no address: nobody could
// answer.
func TestACableIsCutBetweenTwoLooks(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		a := netip.MustParseAddr("192.0.2.9")
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
		m.Sync()
		s.claims <- neighbour.Claim{Addr: a, MAC: mac, Answer: true}
		after(tickEvery / 2)
		s.mu.Lock()
		s.cut = errors.New("no carrier")
		s.mu.Unlock()
		m.Probe(subnet4, a)
		if f := m.Look(subnet4, a); f.Known != ipam.NotAsked {
			t.Errorf("without a carrier: %+v", f)
		}
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		after(reopenMost)
		if f := m.Look(subnet4, a); f.Known != ipam.Used || f.MAC.String() != mac.String() {
			t.Errorf("afterwards: %+v", f)
		}
	})
}
