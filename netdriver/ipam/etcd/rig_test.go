package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/netdriver/ipam"
)

func TestMain(m *testing.M) { testleak.Main(m) }

// server is a real etcd.
type server struct {
	t        testing.TB
	dir      string
	endpoint string
	peer     string
	args     []string
	cmd      *exec.Cmd
	client   *clientv3.Client
}

func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), endpoint: "http://" + testport.Of(t), peer: "http://" + testport.Of(t)}
	s.start()
	t.Cleanup(s.kill)
	var err error
	s.client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, DialTimeout: 20 * time.Second, Logger: zap.NewNop()})
	ok(t, err)
	t.Cleanup(func() { _ = s.client.Close() })
	s.answers()
	return s
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command("etcd", append(s.args, "--data-dir", s.dir, "--listen-client-urls", s.endpoint, "--advertise-client-urls", s.endpoint,
		"--listen-peer-urls", s.peer, "--initial-advertise-peer-urls", s.peer, "--initial-cluster", "default="+s.peer, "--logger", "zap", "--log-level", "fatal",
		"--heartbeat-interval", "20", "--election-timeout", "200", "--unsafe-no-fsync")...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ok(s.t, s.cmd.Start())
}

func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// signal returns when a process that it stops has stopped.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	ok(s.t, s.cmd.Process.Signal(sig))
	if sig != syscall.SIGSTOP {
		return
	}
	await(s.t, "etcd stands still", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		ok(s.t, err)
		for _, path := range tasks {
			raw, err := os.ReadFile(path)
			if _, state, _ := strings.Cut(string(raw), ") "); err != nil || state[0] != 'T' {
				return false
			}
		}
		return len(tasks) > 0
	})
}

// answers waits until etcd does.
func (s *server) answers() {
	s.t.Helper()
	await(s.t, "etcd answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.client.Get(ctx, "x")
		return err == nil
	})
}

// keys are all keys below a table, with their values.
func (s *server) keys(below string) map[string]string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	res, err := s.client.Get(ctx, DefaultPrefix+"/"+below, clientv3.WithPrefix())
	ok(s.t, err)
	all := map[string]string{}
	for _, kv := range res.Kvs {
		all[string(kv.Key)[len(DefaultPrefix)+1:]] = string(kv.Value)
	}
	return all
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for what another process or goroutine brings about.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
		time.Sleep(5 * time.Millisecond) // there is nothing to subscribe to
	}
}

// table is a Store in memory; what is in it is what a restart finds.
type table[V any] struct {
	mu  sync.Mutex
	all map[string]V
}

func (t *table[V]) Put(key string, v V) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]V{}
	}
	t.all[key] = v
	return nil
}

func (t *table[V]) All() (map[string]V, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.all), nil
}

func (t *table[V]) Delete(keys ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		delete(t.all, k)
	}
	return nil
}

// host is one with its state, whose plugin can end and start again.
type host struct {
	t        testing.TB
	id       string
	boot     string
	settings Settings
	pools    table[ipam.Pool]
	given    table[ipam.Given]
	cursors  table[netip.Addr]
	reserve  table[netip.Addr]
	said     *bytes.Buffer // the log
	saidMu   sync.Mutex
	line     line
	held     atomic.Pointer[func()] // called after the Manager was asked what it has

	*ipam.Manager
	b   *Backend
	end func()
}

func (h *host) Write(p []byte) (int, error) {
	h.saidMu.Lock()
	defer h.saidMu.Unlock()
	return h.said.Write(p)
}

func (h *host) log() string {
	h.saidMu.Lock()
	defer h.saidMu.Unlock()
	return h.said.String()
}

func newHost(t testing.TB, id string, endpoints ...string) *host {
	t.Helper()
	return newHostWith(t, id, Settings{Endpoints: endpoints, Prefix: DefaultPrefix})
}

func newHostWith(t testing.TB, id string, settings Settings) *host {
	t.Helper()
	return startHost(t, &host{t: t, id: id, settings: settings, said: &bytes.Buffer{}})
}

func startHost(t testing.TB, h *host) *host {
	t.Helper()
	h.start()
	t.Cleanup(func() { h.end() })
	return h
}

// start starts the plugin's part.
func (h *host) start() {
	h.t.Helper()
	var err error
	log := slog.New(slog.NewTextHandler(h, nil))
	h.b, err = New(Config{Settings: h.settings, Host: h.id, Boot: h.boot, HostName: "host-" + h.id, Reserve: &h.reserve, LeakGrace: 100 * time.Millisecond, Every: 2 * time.Second, Through: h.line.through, Log: log})
	ok(h.t, err)
	h.Manager, err = ipam.New(ipam.Config{
		Pools: &h.pools, Addresses: &h.given, Cursors: &h.cursors,
		Routes:    func() ([]netip.Prefix, error) { return nil, nil },
		HostAddrs: func() ([]netip.Addr, error) { return nil, nil },
		Bound:     func(ipam.Pool) bool { return false }, Reserved: func() []netip.Addr { return nil },
		Endpoints: func() map[netip.Addr]bool { return nil },
		Backends:  map[string]ipam.Backend{Name: h.b}, Now: time.Now, Log: log,
	})
	ok(h.t, err)
	h.b.SetPools(asked{h.Manager, h})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.b.Run(ctx) }()
	h.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
}

// asked is the Manager as the backend sees it.
type asked struct {
	*ipam.Manager
	h *host
}

func (a asked) Held(backend string) []ipam.HeldPool {
	all := a.Manager.Held(backend)
	if do := a.h.held.Swap(nil); do != nil {
		(*do)()
	}
	return all
}

// restart ends the plugin and starts it again.
func (h *host) restart() { h.end(); h.start() }

func (h *host) pool(subnet string, options ...string) ipam.Pool {
	h.t.Helper()
	return inTime(h.t, func() (ipam.Pool, error) { return h.tryPool(subnet, options...) })
}

// inTime repeats what etcd did not answer in the time that an engine leaves us: a
// machine under load may take longer.
func inTime[V any](t testing.TB, try func() (V, error)) (v V) {
	t.Helper()
	var err error
	await(t, "etcd answers in time", func() bool { v, err = try(); return !errors.Is(err, ipam.ErrAway) })
	ok(t, err)
	return v
}

func (h *host) tryPool(subnet string, options ...string) (ipam.Pool, error) {
	r := ipam.PoolRequest{Space: ipam.LocalSpace, Options: map[string]string{"backend": Name}}
	if subnet != "" {
		r.Prefix = netip.MustParsePrefix(subnet)
	}
	for i := 0; i < len(options); i += 2 {
		r.Options[options[i]] = options[i+1]
	}
	return h.RequestPool(r)
}

func (h *host) gateway(p ipam.Pool, a string) error {
	r := ipam.AddressRequest{Gateway: true}
	if a != "" {
		r.Addr = addr(a)
	}
	_, err := h.RequestAddress(p.ID, r)
	return err
}

func (h *host) get(p ipam.Pool, key string) netip.Addr {
	h.t.Helper()
	return inTime(h.t, func() (netip.Prefix, error) { return h.RequestAddress(p.ID, ipam.AddressRequest{Key: key}) }).Addr()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func (h *host) faulty() bool { return h.b.Status().Fault != "" }

// key is where the record of an address is.
func key(a netip.Addr) string { return fmt.Sprintf("address/default/%s", a) }
