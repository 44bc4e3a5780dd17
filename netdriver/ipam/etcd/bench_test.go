package etcd_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/state"
)

// A request and a release as they come with a container, with tables on a disk
// and a real etcd on loopback that syncs every write. The 99th percentile of the
// request is reported.
func BenchmarkRequestAddress(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchRequest(b, n) })
	}
}

func benchRequest(b *testing.B, n int) {
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
	reserve, err := state.Durable[netip.Addr](kept, "reserve")
	ok(err)
	back, err := etcd.New(etcd.Config{
		Settings: etcd.Settings{Endpoints: []string{benchServer(b)}, Prefix: etcd.DefaultPrefix}, Host: "bench", HostName: "bench",
		Reserve: reserve, Log: slog.New(slog.DiscardHandler),
	})
	ok(err)
	m, err := ipam.New(ipam.Config{
		Pools: pools, Addresses: given, Cursors: cursors,
		Routes:    func() ([]netip.Prefix, error) { return nil, nil },
		HostAddrs: func() ([]netip.Addr, error) { return nil, nil },
		Bound:     func(ipam.Pool) bool { return false }, Reserved: func() []netip.Addr { return nil },
		Endpoints: func() map[netip.Addr]bool { return nil }, Backends: map[string]ipam.Backend{etcd.Name: back},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ok(err)
	back.SetPools(m)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- back.Run(ctx) }()
	defer func() { cancel(); ok(<-ended) }()
	p, err := m.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.0.0.0/16"), Options: map[string]string{"backend": etcd.Name}})
	ok(err)
	for range n {
		_, err := m.RequestAddress(p.ID, ipam.AddressRequest{})
		ok(err)
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
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms/request")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms/request")
}

// benchServer starts etcd with its usual settings.
func benchServer(b *testing.B) string {
	b.Helper()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return "http://" + l.Addr().String()
	}
	clients, peers := free(), free()
	cmd := exec.Command("etcd", "--data-dir", b.TempDir(), "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers, "--log-level", "fatal", "--logger", "zap")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return clients
}
