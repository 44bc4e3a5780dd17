package ipam_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipamtest"
	"github.com/dockline/dockline/netdriver/kernel"
)

// wire is one on which every address is free, and known to be.
type wire struct{}

func (wire) Look(netip.Prefix, netip.Addr) ipam.Finding { return ipam.Finding{Known: ipam.Free} }
func (wire) Probe(netip.Prefix, ...netip.Addr)          {}
func (wire) Taken(netip.Prefix, netip.Addr)             {}
func (wire) Reserve(netip.Prefix) (free []netip.Addr, asking bool) {
	a := netip.MustParseAddr("10.0.8.0")
	for range 32 {
		a = a.Next()
		free = append(free, a)
	}
	return free, true
}

// A request and a release as they come with a container, on tables on a disk,
// with the host's real addresses, beside as many endpoints.
func BenchmarkRequestAddress(b *testing.B) {
	for _, n := range []int{1, 100, 500} {
		for name, w := range map[string]ipam.Wire{"unprobed": nil, "probed": wire{}} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchRequest(b, n, w) })
		}
	}
}

func benchRequest(b *testing.B, n int, w ipam.Wire) {
	host, err := kernel.Open("bench")
	ipamtest.OK(b, err)
	defer host.Close()
	endpoints := map[netip.Addr]bool{}
	c, _ := ipamtest.Config(b)
	c.HostAddrs, c.Wire = host.HostAddrs, w
	c.Bound = func(ipam.Pool) bool { return true }
	c.Endpoints = func() map[netip.Addr]bool { return endpoints }
	m, err := ipam.New(c)
	ipamtest.OK(b, err)
	p, err := m.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.0.0.0/16")})
	ipamtest.OK(b, err)
	for a := netip.MustParseAddr("10.0.0.1"); len(endpoints) < n; a = a.Next() {
		_, err := m.RequestAddress(p.ID, ipam.AddressRequest{Addr: a})
		ipamtest.OK(b, err)
		endpoints[a] = true
	}
	ipamtest.Measure(b, m, p.ID)
}
