package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/network"
)

// etcdServer starts one, and returns its endpoint.
func etcdServer(t *testing.T) string {
	t.Helper()
	endpoint, peer := "http://"+testport.Of(t), "http://"+testport.Of(t)
	cmd := exec.Command("etcd", "--data-dir", t.TempDir(), "--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer,
		"--logger", "zap", "--log-level", "fatal", "--unsafe-no-fsync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, end, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // with the thread that started it the server ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if <-end; err == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	t.Cleanup(func() { close(end); <-ended })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// reservedNow is a table in memory.
type reservedNow struct {
	mu  sync.Mutex
	all map[string]netip.Addr
}

func (r *reservedNow) Put(key string, a netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[key] = a
	return nil
}

func (r *reservedNow) Delete(keys ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys {
		delete(r.all, k)
	}
	return nil
}

func (r *reservedNow) All() (map[string]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.all), nil
}

// member is a host of the cluster.
func member(t *testing.T, id, endpoint string) *etcd.Backend {
	t.Helper()
	b, err := etcd.New(etcd.Config{
		Settings: etcd.Settings{Endpoints: []string{endpoint}, Prefix: etcd.DefaultPrefix}, Host: id, HostName: "host-" + id,
		Reserve: &reservedNow{all: map[string]netip.Addr{}}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, b *etcd.Backend, p etcd.Pools) {
	t.Helper()
	b.SetPools(p)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A machine that has addresses which it got from nobody is heard on the wire of
// one host, and no host gives them out.
func TestASquatterIsInQuarantineForAllHosts(t *testing.T) {
	t.Parallel()
	endpoint := etcdServer(t)
	s := newSite(t, network.Macvlan)
	for _, a := range []string{"192.0.2.1/24", "192.0.2.2/24"} {
		s.foreign.address("eth0", a)
	}
	mac := s.foreign.link("eth0").Attrs().HardwareAddr.String()
	here, there := member(t, "a", endpoint), member(t, "b", endpoint)
	s.backends[etcd.Name] = here
	run(t, here, s.ipam)
	far, err := ipam.New(ipam.Config{ // a host on whose wire nobody is asked
		Pools: table[ipam.Pool]{}, Addresses: table[ipam.Given]{}, Cursors: table[netip.Addr]{},
		Routes: none[netip.Prefix], HostAddrs: none[netip.Addr], Bound: func(ipam.Pool) bool { return true },
		Reserved: func() []netip.Addr { return nil }, Endpoints: func() map[netip.Addr]bool { return nil }, Now: time.Now,
		Log: slog.New(slog.DiscardHandler), Backends: map[string]ipam.Backend{etcd.Name: there},
	})
	s.host.ok(err)
	run(t, there, far)
	small := netip.MustParsePrefix("192.0.2.0/30")
	request := ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: subnet4, Range: small, Options: map[string]string{"backend": etcd.Name}}
	p, err := s.ipam.RequestPool(request)
	s.host.ok(err)
	q, err := far.RequestPool(request)
	s.host.ok(err)
	s.watch()
	s.await("both are in quarantine in the cluster", func() bool {
		all := there.Status().Foreign
		return len(all) == 2 && !slices.ContainsFunc(all, func(c etcd.Claimed) bool { return c.MAC != mac })
	})
	for host, from := range map[string]struct {
		m *ipam.Manager
		p ipam.Pool
	}{"a": {s.ipam, p}, "b": {far, q}} {
		s.await("host "+host+" knows that nobody has an address", func() bool {
			return len(here.List(""))+len(there.List("")) == 0
		})
		got, err := from.m.RequestAddress(from.p.ID, ipam.AddressRequest{})
		if err != nil || got.Addr() != netip.MustParseAddr("192.0.2.3") {
			t.Errorf("host %s gives %v, %v", host, got, err)
		}
		if err == nil {
			s.host.ok(from.m.ReleaseAddress(from.p.ID, got.Addr()))
		}
	}
	if !s.happened(Quarantined, "192.0.2.1", mac) {
		t.Error("no event says so")
	}
	if _, err := s.ipam.RequestAddress(p.ID, ipam.AddressRequest{Addr: netip.MustParseAddr("192.0.2.2"), Key: "web"}); !errors.Is(err, ipam.ErrInUse) {
		t.Errorf("asked for by name: %v", err)
	}
}
