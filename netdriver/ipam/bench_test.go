package ipam_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/state"
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
// with the host's real addresses, beside as many endpoints. The 99th percentile
// of the request is reported.
func BenchmarkRequestAddress(b *testing.B) {
	for _, n := range []int{1, 100, 500} {
		for name, w := range map[string]ipam.Wire{"unprobed": nil, "probed": wire{}} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchRequest(b, n, w) })
		}
	}
}

func benchRequest(b *testing.B, n int, w ipam.Wire) {
	ok := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	kept, err := state.Open(b.TempDir(), "boot")
	ok(err)
	defer kept.Close()
	pools, err := state.Durable[ipam.Pool](kept, "pools")
	ok(err)
	given, err := state.Journalled[ipam.Given](kept, "addresses")
	ok(err)
	cursors, err := state.Journalled[netip.Addr](kept, "cursors")
	ok(err)
	host, err := kernel.Open("bench")
	ok(err)
	defer host.Close()
	endpoints := map[netip.Addr]bool{}
	m, err := ipam.New(ipam.Config{
		Pools: pools, Addresses: given, Cursors: cursors,
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, HostAddrs: host.HostAddrs,
		Bound: func(ipam.Pool) bool { return true }, Reserved: func() []netip.Addr { return nil },
		Endpoints: func() map[netip.Addr]bool { return endpoints },
		Wire:      w, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ok(err)
	p, err := m.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.0.0.0/16")})
	ok(err)
	for a := netip.MustParseAddr("10.0.0.1"); len(endpoints) < n; a = a.Next() {
		_, err := m.RequestAddress(p.ID, ipam.AddressRequest{Addr: a})
		ok(err)
		endpoints[a] = true
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		got, err := m.RequestAddress(p.ID, ipam.AddressRequest{})
		took = append(took, time.Since(begin))
		ok(err)
		ok(m.ReleaseAddress(p.ID, got.Addr()))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms/request")
}
