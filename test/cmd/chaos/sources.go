package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dockline/dockline/test/harness/proc"
)

// members is who is in a pool, with weights; those that are not are not in it.
type members map[int]int

// String is for people.
func (m members) String() string {
	var all []string
	for _, i := range slices.Sorted(maps.Keys(m)) {
		one := nameOf(i)
		if m[i] != 1 {
			one += "*" + strconv.Itoa(m[i])
		}
		all = append(all, one)
	}
	return strings.Join(all, " ")
}

// consul answers as Consul's HTTP API does for the health of one service,
// blocking queries included (developer.hashicorp.com/consul/api-docs/health).
type consul struct {
	server *http.Server

	mu      sync.Mutex // guards the rest
	changed chan struct{}
	index   uint64
	entries []*api.ServiceEntry
	broken  bool
}

func startConsul(l net.Listener) *consul {
	c := &consul{index: 7, changed: make(chan struct{})}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	go func() { _ = c.server.Serve(l) }() // ends with Close
	return c
}

// set changes the answer; no members are one too.
func (c *consul) set(m members) {
	var all []*api.ServiceEntry
	for i, weight := range m {
		meta := map[string]string{}
		if weight == 0 { // Consul itself has no such weight
			meta["dockline-weight"] = "0"
		}
		all = append(all, &api.ServiceEntry{
			Node:    &api.Node{Node: "n" + strconv.Itoa(i), Address: addressOf(i)},
			Service: &api.AgentService{ID: nameOf(i), Address: addressOf(i), Port: port, Weights: api.AgentWeights{Passing: weight, Warning: 1}, Meta: meta},
		})
	}
	c.change(func() { c.entries = all })
}

// fail has it answer with an error, or no longer.
func (c *consul) fail(is bool) { c.change(func() { c.broken = is }) }

func (c *consul) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.index++
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	c.mu.Lock()
	for wait > 0 && c.index == wait && !c.broken {
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.broken || !strings.HasSuffix(r.URL.Path, "/logs") {
		http.Error(w, "no cluster leader", http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(c.index, 10))
	_ = json.NewEncoder(w).Encode(c.entries)
}

// names is a name server for the zone chaos.test.
type names struct {
	server *dns.Server
	done   chan error

	mu     sync.Mutex // guards the rest
	addrs  members    // of logs.chaos.test
	srv    members    // of _logs._tcp.chaos.test
	broken bool
}

func startNames(conn net.PacketConn) *names {
	n := &names{done: make(chan error, 1)}
	started := make(chan struct{})
	n.server = &dns.Server{PacketConn: conn, Handler: n, NotifyStartedFunc: func() { close(started) }}
	go func() { n.done <- n.server.ActivateAndServe() }()
	<-started
	return n
}

func (n *names) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

const ttl = 1 // seconds

// ServeDNS answers.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	address := func(i int) {
		a.Answer = append(a.Answer, &dns.A{Hdr: header(dns.TypeA), A: net.ParseIP(addressOf(i))})
	}
	switch t := q.Question[0].Qtype; {
	case n.broken:
		a.Rcode = dns.RcodeServerFailure
	case name == "logs.chaos.test." && t == dns.TypeA:
		for i := range n.addrs {
			address(i)
		}
	case name == "_logs._tcp.chaos.test." && t == dns.TypeSRV:
		for i, weight := range n.srv {
			a.Answer = append(a.Answer, &dns.SRV{Hdr: header(dns.TypeSRV), Priority: 10, Weight: uint16(weight), Port: port, Target: nameOf(i) + ".chaos.test."})
		}
	case strings.HasSuffix(name, ".chaos.test.") && t == dns.TypeA:
		for i := range collectors {
			if name == nameOf(i)+".chaos.test." {
				address(i)
			}
		}
	}
	_ = w.WriteMsg(a)
}

func (n *names) close() error { return errors.Join(n.server.Shutdown(), <-n.done) }

// etcd is Debian's, on the host.
type etcd struct {
	w      *world
	dir    string
	cmd    *exec.Cmd
	client *clientv3.Client
	keys   members // what it was told
}

const etcdAddr, etcdPeer = "127.0.0.1:2379", "127.0.0.1:2380"

func (e *etcd) start(ctx context.Context) error {
	e.cmd = e.w.host.Station.Command(context.WithoutCancel(ctx), "etcd", "--data-dir", e.dir, "--log-level", "error",
		"--listen-client-urls", "http://"+etcdAddr, "--advertise-client-urls", "http://"+etcdAddr,
		"--listen-peer-urls", "http://"+etcdPeer, "--initial-advertise-peer-urls", "http://"+etcdPeer, "--initial-cluster", "default=http://"+etcdPeer)
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	if e.client != nil {
		return nil
	}
	var err error
	e.client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + etcdAddr}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (c net.Conn, err error) {
			err = e.w.host.Do(func() error {
				c, err = (&net.Dialer{}).DialContext(ctx, "tcp", etcdAddr)
				return err
			})
			return c, err
		})},
	})
	if err != nil {
		return fmt.Errorf("make a client of etcd: %w", err)
	}
	return nil
}

// kill ends it as a crash does.
func (e *etcd) kill() error {
	if e.cmd == nil {
		return nil
	}
	// Nobody has been waited for, so the number is still the process's.
	err := e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	e.cmd = nil
	return err
}

// set has its keys name these members.
func (e *etcd) set(ctx context.Context, m members) error {
	for i := range e.keys {
		if _, ok := m[i]; !ok {
			if err := e.do(ctx, func(ctx context.Context) error {
				_, err := e.client.Delete(ctx, "/logs/"+nameOf(i))
				return err
			}); err != nil {
				return err
			}
		}
	}
	for i, weight := range m {
		if was, ok := e.keys[i]; ok && was == weight {
			continue
		}
		if err := e.do(ctx, func(ctx context.Context) error {
			_, err := e.client.Put(ctx, "/logs/"+nameOf(i), fmt.Sprintf("%s:%d?weight=%d", addressOf(i), port, weight))
			return err
		}); err != nil {
			return err
		}
	}
	e.keys = maps.Clone(m)
	return nil
}

// do repeats what etcd does not take at once: it may just have been started.
func (e *etcd) do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("etcd does not answer"))
	defer cancel()
	return proc.Await(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return f(ctx)
	})
}

func (e *etcd) close() error {
	var err error
	if e.client != nil {
		err = e.client.Close()
	}
	return errors.Join(err, e.kill())
}

func etcdDir(dir string) string { return filepath.Join(dir, "etcd") }
