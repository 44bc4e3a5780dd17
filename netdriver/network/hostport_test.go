package network

import (
	"net/netip"
	"slices"
	"testing"
)

// port stands for what the host's port is made of.
type port struct {
	Host
	Pools
	Endpoints
	joined, unrouted []netip.Addr
}

func (p *port) JoinedAddrs(string) []netip.Addr { return p.joined }

func (p *port) ReserveForHost(prefix netip.Prefix, addr netip.Addr) (netip.Addr, error) {
	if !addr.IsValid() {
		addr = prefix.Addr().Next()
	}
	return addr, nil
}

func (p *port) RemoveHostRoutes(_ string, to []netip.Addr) error {
	p.unrouted = append(p.unrouted, to...)
	return nil
}

func (p *port) manager() *Manager { return &Manager{host: p, pools: p, ends: p, space: "ours"} }

func addrs(texts ...string) (all []netip.Addr) {
	for _, a := range texts {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func TestTheHostsAddressIsTheOneNamed(t *testing.T) {
	for name, tc := range map[string]struct{ named, want []netip.Addr }{
		"none":                     {nil, addrs("10.1.0.1", "fd01::1")},
		"in the first subnet":      {addrs("10.1.0.9"), addrs("10.1.0.9", "fd01::1")},
		"in the second":            {addrs("10.2.0.9"), addrs("10.2.0.9", "fd01::1")},
		"in the second, and other": {addrs("10.2.0.9", "fd02::9"), addrs("10.2.0.9", "fd02::9")},
	} {
		d := Definition{ID: "n", Mode: Macvlan, HostAccess: true, HostAddrs: tc.named}
		for _, p := range []string{"10.1.0.0/24", "10.2.0.0/24", "fd01::/64", "fd02::/64"} {
			d.Pools = append(d.Pools, Pool{Space: "ours", Prefix: netip.MustParsePrefix(p)})
		}
		if err := (&port{}).manager().reserveForHost(&d); err != nil || !slices.Equal(d.HostPort, tc.want) {
			t.Errorf("%s: got %v, %v, want %v", name, d.HostPort, err, tc.want)
		}
	}
}

// An endpoint that its engine abandoned goes after another one got its address.
func TestAnAddressThatIsAnothersNowStaysReached(t *testing.T) {
	p := &port{joined: addrs("10.1.0.7")}
	d := Definition{ID: "n", Mode: Macvlan, HostAccess: true}
	if err := p.manager().Unreach(d, addrs("10.1.0.7", "fd01::7")); err != nil || !slices.Equal(p.unrouted, addrs("fd01::7")) {
		t.Errorf("unrouted %v, %v", p.unrouted, err)
	}
}
