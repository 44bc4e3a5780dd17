// Package etcd runs a real etcd for tests: one member, or several that are
// machines of their own on a wire, which can be killed, started again and cut
// off. Debian's etcd-server is what runs.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	clientPort = "2379"
	peerPort   = "2380"
	nic        = "eth0"
	answerTime = 3 * time.Second // for one question
)

// Cluster is an etcd. What is left of it goes with the lab.
type Cluster struct {
	Members []*Member
	initial string
}

// Member is one machine of the cluster, and the etcd on it.
type Member struct {
	*wire.Station
	Addr netip.Addr

	cluster *Cluster
	dir     string
	mu      sync.Mutex // guards cmd
	cmd     *exec.Cmd  // nil: it does not run
}

// New makes a machine on the wire for each address (with its prefix length) and
// starts a member on it. It returns when the cluster answers.
func New(ctx context.Context, l *lab.Lab, on *wire.Wire, addresses ...string) (*Cluster, error) {
	c := &Cluster{}
	var names []string
	for i, a := range addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return nil, fmt.Errorf("make an etcd: %w", err)
		}
		name := fmt.Sprintf("etcd%d", i)
		station, err := on.Foreign(ctx, name, a)
		if err != nil {
			return nil, err
		}
		c.Members = append(c.Members, &Member{Station: station, Addr: p.Addr(), cluster: c, dir: filepath.Join(l.Dir, name)})
		names = append(names, fmt.Sprintf("%s=http://%s", name, net.JoinHostPort(p.Addr().String(), peerPort)))
	}
	c.initial = strings.Join(names, ",")
	for _, m := range c.Members {
		if err := m.Start(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := c.Await(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Endpoints are the URLs that clients are given.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.url())
	}
	return all
}

func (m *Member) url() string { return "http://" + net.JoinHostPort(m.Addr.String(), clientPort) }

// Client returns a client that talks to the members from a machine's network,
// to those named or else to all.
func (c *Cluster) Client(from *wire.Station, endpoints ...string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(), DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (conn net.Conn, err error) {
			err = from.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(address, "http://"))
				return err
			})
			return conn, err
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of etcd: %w", err)
	}
	return client, nil
}

// Start starts the member again, on what it had written.
func (m *Member) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	defer log.Close()
	peer := "http://" + net.JoinHostPort(m.Addr.String(), peerPort)
	cmd := m.Command(context.WithoutCancel(ctx), "etcd", "--name", m.Name, "--data-dir", m.dir, "--log-level", "warn", "--pre-vote",
		"--listen-client-urls", m.url(), "--advertise-client-urls", m.url(),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", m.cluster.initial)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is not for it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	m.cmd = cmd
	return nil
}

// Kill ends the member as a crash does. One that does not run is no error.
func (m *Member) Kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return nil
	}
	// Nobody has waited for it, so the number is still the process's.
	err := m.cmd.Process.Kill()
	_ = m.cmd.Wait() // says that it was killed
	m.cmd = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", m.Name, err)
	}
	return nil
}

// Isolate cuts the member off from the others and from clients. It runs on.
func (m *Member) Isolate(ctx context.Context) error { return m.Cut(ctx, nic) }

// Rejoin undoes Isolate.
func (m *Member) Rejoin(ctx context.Context) error { return m.Mend(ctx, nic) }

// Log returns what the member has said.
func (m *Member) Log() string {
	raw, err := os.ReadFile(m.dir + ".log")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Await returns when a majority of the members answers.
func (c *Cluster) Await(ctx context.Context) error {
	client, err := c.Client(c.Members[0].Station)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return proc.Await(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		_, err := client.Get(ctx, "is anybody there") // a linearizable read
		return err
	})
}

// Leader returns the member that leads, as one of those that are there says.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	var errs []error
	for _, m := range c.Members {
		led, leader, err := m.leads(ctx)
		if err == nil && led {
			return m, nil
		}
		if err == nil && leader == 0 {
			err = fmt.Errorf("%s knows no leader", m.Name)
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("find the leader: %w", errors.Join(errs...))
}

func (m *Member) leads(ctx context.Context) (leads bool, leader uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	client, err := m.cluster.Client(m.Station, m.url())
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = client.Close() }()
	s, err := client.Status(ctx, m.url())
	if err != nil {
		return false, 0, fmt.Errorf("ask %s: %w", m.Name, err)
	}
	return s.Leader == s.Header.MemberId, s.Leader, nil
}

// Close ends all members. Their files go with the lab.
func (c *Cluster) Close() error {
	var errs []error
	for _, m := range c.Members {
		errs = append(errs, m.Kill(), m.Close())
	}
	return errors.Join(errs...)
}
