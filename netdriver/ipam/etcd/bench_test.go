package etcd_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/ipamtest"
	"github.com/dockline/dockline/netdriver/state"
)

// A request and a release as they come with a container, with tables on a disk
// and a real etcd on loopback that syncs every write.
func BenchmarkRequestAddress(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchRequest(b, n) })
	}
}

func benchRequest(b *testing.B, n int) {
	c, kept := ipamtest.Config(b)
	reserve, err := state.Durable[netip.Addr](kept, "reserve")
	ipamtest.OK(b, err)
	back, err := etcd.New(etcd.Config{
		Settings: etcd.Settings{Endpoints: []string{benchServer(b)}, Prefix: etcd.DefaultPrefix}, Host: "bench", HostName: "bench",
		Reserve: reserve, Log: slog.New(slog.DiscardHandler),
	})
	ipamtest.OK(b, err)
	c.Backends = map[string]ipam.Backend{etcd.Name: back}
	m, err := ipam.New(c)
	ipamtest.OK(b, err)
	back.SetPools(m)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- back.Run(ctx) }()
	defer func() { cancel(); ipamtest.OK(b, <-ended) }()
	p, err := m.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.0.0.0/16"), Options: map[string]string{"backend": etcd.Name}})
	ipamtest.OK(b, err)
	for range n {
		_, err := m.RequestAddress(p.ID, ipam.AddressRequest{})
		ipamtest.OK(b, err)
	}
	ipamtest.Measure(b, m, p.ID)
}

// benchServer starts etcd with its usual settings.
func benchServer(b *testing.B) string {
	b.Helper()
	clients, peers := "http://"+testport.Of(b), "http://"+testport.Of(b)
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
