package watch

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/network"
)

// happened reports whether there was such an event.
func (s *site) happened(what Happening, a, mac string) bool {
	all, count := s.m.Events()
	return count[what] > 0 && slices.ContainsFunc(all, func(e Event) bool {
		return e.What == what && e.Addr.String() == a && e.MAC == mac && e.Network == "n" && !e.At.IsZero()
	})
}

// Whichever backend gives addresses, none does that another machine has, and what
// happens on the wire is noted.
func TestEveryBackendHeedsTheWire(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"embedded": nil,
		"split":    {"backend": ipam.SplitName, "hosts": "2", "host_index": "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, network.Macvlan)
			s.foreign.address("eth0", "192.0.2.1/24")
			s.foreign.address("eth0", "192.0.2.2/24")
			mac := s.foreign.link("eth0").Attrs().HardwareAddr.String()
			p, err := s.ipam.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: subnet4, Options: options})
			s.host.ok(err)
			s.watch()
			got, err := s.ipam.RequestAddress(p.ID, ipam.AddressRequest{})
			if want := netip.MustParsePrefix("192.0.2.3/24"); err != nil || got != want {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
			for _, a := range []string{"192.0.2.1", "192.0.2.2"} {
				s.await(a+" is in quarantine", func() bool { return s.happened(Quarantined, a, mac) })
			}
			s.container("e", "192.0.2.7/24", "2001:db8::7/64")
			s.foreign.address("eth0", "192.0.2.7/24")
			s.await("the conflict", func() bool { return s.happened(Conflicting, "192.0.2.7", mac) })
		})
	}
}
