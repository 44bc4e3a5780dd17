package watch

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/neighbour"
)

// On a host that has no time for us, an address that is in use is not taken for
// free: not when the questions go out late, nor when the answer is read late.
func TestAHostWithoutTime(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.9")
	claim := neighbour.Claim{Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Answer: true}
	for name, busy := range map[string]func(*script){
		"questions go late": func(s *script) {
			asked := 0
			s.asking = func(to netip.Addr) {
				if to != a {
					return
				}
				time.Sleep(100 * time.Millisecond) // in the bubble's time
				if asked++; asked == 3 {           // the first ones were lost
					time.AfterFunc(50*time.Millisecond, func() { s.claims <- claim })
				}
			}
		},
		"answers are read late": func(s *script) {
			s.reading = fast.verdict + 100*time.Millisecond
			s.has[a] = claim.MAC
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *script, m *Manager) {
				busy(s)
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
