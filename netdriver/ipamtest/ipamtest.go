// Package ipamtest is how long addresses take, whoever they come from.
package ipamtest

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/state"
)

// Config is with tables on a disk, which it returns too, and nothing beside them.
func Config(b *testing.B) (ipam.Config, *state.Dir) {
	b.Helper()
	kept, err := state.Open(b.TempDir(), "boot")
	OK(b, err)
	b.Cleanup(func() { _ = kept.Close() })
	pools, err := state.Durable[ipam.Pool](kept, "pools")
	OK(b, err)
	given, err := state.Journalled[ipam.Given](kept, "addresses")
	OK(b, err)
	cursors, err := state.Journalled[netip.Addr](kept, "cursors")
	OK(b, err)
	return ipam.Config{
		Pools: pools, Addresses: given, Cursors: cursors,
		Routes:    func() ([]netip.Prefix, error) { return nil, nil },
		HostAddrs: func() ([]netip.Addr, error) { return nil, nil },
		Bound:     func(ipam.Pool) bool { return false }, Reserved: func() []netip.Addr { return nil },
		Endpoints: func() map[netip.Addr]bool { return nil },
		Now:       time.Now, Log: slog.New(slog.DiscardHandler),
	}, kept
}

// Measure requests and releases an address of a pool again and again.
func Measure(b *testing.B, m *ipam.Manager, pool string) {
	b.Helper()
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		got, err := m.RequestAddress(pool, ipam.AddressRequest{})
		took = append(took, time.Since(begin))
		OK(b, err)
		OK(b, m.ReleaseAddress(pool, got.Addr()))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms/request")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms/request")
}

// OK ends the benchmark where there is an error.
func OK(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
