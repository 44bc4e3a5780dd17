package etcd

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
)

// An engine before 29.0 draws a MAC for each start of a container that has none:
// what is kept for those keeps nobody from starting.
func TestRestartsUseUpNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	p := a.pool("10.0.0.0/29", "hold", "1h") // six
	web := a.get(p, "web")
	ok(t, a.ReleaseAddress(p.ID, web))
	known := a.get(p, "00:16:3e:00:00:01")
	ok(t, a.ReleaseAddress(p.ID, known))
	for i := range 12 {
		drawn := fmt.Sprintf("02:42:c0:00:02:%02x", i)
		got := a.get(p, drawn)
		if got == web || got == known {
			t.Errorf("%s has %s, which is kept", drawn, got)
		}
		ok(t, a.ReleaseAddress(p.ID, got))
		if again := a.get(p, drawn); again != got {
			t.Errorf("%s had %s, and gets %s", drawn, got, again)
		}
		ok(t, a.ReleaseAddress(p.ID, got))
	}
	for range 4 {
		a.get(p, "")
	}
	if got, err := a.RequestAddress(p.ID, ipam.AddressRequest{}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("what is kept for a name or for hardware went to somebody: %v, %v", got, err)
	}
	if a.get(p, "web") != web || a.get(p, "00:16:3e:00:00:01") != known {
		t.Error("what was kept is not there")
	}
}
