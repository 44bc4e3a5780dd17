package etcd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// line is between a host and etcd. What is to be late is not answered, and
// arrives when the test says so.
type line struct {
	mu       sync.Mutex // guards all
	cut      bool       // nothing arrives
	removals bool       // removals are late
	late     []func(context.Context, *clientv3.Client) error
	asked    []question // while the line was cut
}

// question is what was asked of etcd, and how long it may wait for the answer.
type question struct{ at, until time.Time }

func (l *line) set(cut, removals bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.removals = cut, removals
}

// arrive has etcd do what is late.
func (l *line) arrive(t *testing.T, client *clientv3.Client) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.late) == 0 {
		t.Error("nothing is late")
	}
	for _, do := range l.late {
		ok(t, do(t.Context(), client))
	}
	l.late = nil
}

func (l *line) through(kv clientv3.KV) clientv3.KV { return lined{kv, l} }

type lined struct {
	clientv3.KV
	l *line
}

func (k lined) Get(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	k.l.mu.Lock()
	cut := k.l.cut
	k.l.mu.Unlock()
	if cut {
		return nil, context.DeadlineExceeded
	}
	return k.KV.Get(ctx, key, o...)
}

func (k lined) Txn(ctx context.Context) clientv3.Txn { return &linedTxn{k: k, ctx: ctx} }

type linedTxn struct {
	k               lined
	ctx             context.Context //nolint:containedctx // as the real one has it
	conditions      []clientv3.Cmp
	then, otherwise []clientv3.Op
}

func (x *linedTxn) If(c ...clientv3.Cmp) clientv3.Txn  { x.conditions = c; return x }
func (x *linedTxn) Then(o ...clientv3.Op) clientv3.Txn { x.then = o; return x }
func (x *linedTxn) Else(o ...clientv3.Op) clientv3.Txn { x.otherwise = o; return x }

func (x *linedTxn) Commit() (*clientv3.TxnResponse, error) {
	l := x.k.l
	l.mu.Lock()
	deadline, _ := x.ctx.Deadline()
	removal := false
	for _, o := range x.then {
		removal = removal || o.IsDelete()
	}
	switch {
	case l.cut:
		l.asked = append(l.asked, question{time.Now(), deadline})
	case l.removals && removal:
		l.late = append(l.late, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Txn(ctx).If(x.conditions...).Then(x.then...).Else(x.otherwise...).Commit()
			return err
		})
	default:
		l.mu.Unlock()
		return x.k.KV.Txn(x.ctx).If(x.conditions...).Then(x.then...).Else(x.otherwise...).Commit()
	}
	l.mu.Unlock()
	return nil, context.DeadlineExceeded
}

// A release of which nothing came back may be done later, whatever became of the
// plugin since: its address is given to nobody while etcd is away.
func TestALateRelease(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*host){
		"the same process":             func(*host) {},
		"another one":                  func(h *host) { h.restart(); await(h.t, "it listed", func() bool { return !h.faulty() }) },
		"another one that saw no etcd": func(h *host) { h.end(); h.line.set(true, true); h.start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
			pa, pb := a.pool(subnet), b.pool(subnet)
			web := a.get(pa, "web")
			a.line.set(false, true)
			ok(t, a.ReleaseAddress(pa.ID, web))
			between(a)
			a.line.set(true, true)
			for range 2 { // the second one is not the first to notice
				for _, r := range []ipam.AddressRequest{{Addr: web, Key: "web"}, {Key: "web"}, {}} {
					if got, err := a.RequestAddress(pa.ID, r); !errors.Is(err, ipam.ErrAway) {
						t.Errorf("without etcd: %v, %v", got, err)
					}
				}
				ok(t, a.ReleaseAddress(pa.ID, web))
			}
			a.line.arrive(t, s.client)
			if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: web, Key: "db"}); err != nil {
				t.Errorf("on the other host: %v", err)
			}
		})
	}
}

// A release that is late does not remove a later claim, be it the host's own.
func TestALateReleaseOfWhatWasClaimedAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	p := a.pool(subnet)
	web := a.get(p, "web")
	a.line.set(false, true)
	ok(t, a.ReleaseAddress(p.ID, web))
	await(t, "it is claimed again", func() bool {
		_, err := a.RequestAddress(p.ID, ipam.AddressRequest{Addr: web, Key: "web"})
		return err == nil
	})
	a.line.arrive(t, s.client)
	if r := s.keys("address/")[key(web)]; !strings.Contains(r, `"web"`) {
		t.Errorf("the record is %q", r)
	}
}

// What is given out of the reserve stays this host's, also where it was about to
// be given back.
func TestTheReserveIsGivenWhileItIsGivenBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	p := a.pool(subnet, "reserve", "1")
	await(t, "the reserve", func() bool { return a.b.Status().Reserve == 1 })
	at := a.b.reserve.list()[0]
	given := make(chan error, 1)
	do := func() { // what etcd has and what the Manager has are known to the comparing goroutine
		a.b.mu.Lock()
		a.b.fault = errors.New("a test says so")
		a.b.mu.Unlock()
		_, err := a.RequestAddress(p.ID, ipam.AddressRequest{Addr: at.addr, Key: "db"})
		a.b.mu.Lock()
		a.b.fault = nil
		a.b.mu.Unlock()
		given <- err
	}
	a.held.Store(&do)
	ok(t, a.Reserve(t.Context(), ipam.Reservation{Pool: p.Prefix, Addr: at.addr, Key: "db"})) // it is not to be in reserve
	ok(t, <-given)
	await(t, "etcd has whose it is", func() bool {
		r := s.keys("address/")[key(at.addr)]
		if r == "" {
			t.Fatal("it was given back")
		}
		return strings.Contains(r, `"db"`)
	})
}

// An address that a host has claimed ahead goes to whom an operator reserves it
// for, on whatever host that is. A gateway of another host waits for that as well.
func TestTheReserveGivesWay(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	a.pool(subnet, "reserve", "2")
	pb := b.pool(subnet)
	await(t, "the reserve", func() bool { return a.b.Status().Reserve == 2 && len(b.b.List("a")) == 2 })
	at := a.b.reserve.list()[0]
	if err := b.gateway(pb, at.addr.String()); !errors.Is(err, ipam.ErrTaken) || !strings.Contains(err.Error(), "in reserve on host host-a") {
		t.Errorf("as a gateway: %v", err)
	}
	ok(t, b.Reserve(t.Context(), ipam.Reservation{Pool: pb.Prefix, Addr: at.addr, Key: "db"}))
	await(t, "it is given up", func() bool { _, there := s.keys("address/")[key(at.addr)]; return !there })
	await(t, "another one is in reserve", func() bool { return a.b.Status().Reserve == 2 })
	if a.b.reserve.has(at) {
		t.Errorf("%s is in reserve again", at)
	}
	await(t, "b sees that", func() bool {
		return len(b.b.List("a")) == 2 && b.b.List("a")[0].Addr != at.addr && b.b.List("a")[1].Addr != at.addr
	})
	if got := b.get(pb, "db"); got != at.addr {
		t.Errorf("it got %s, reserved is %s", got, at.addr)
	}
}

// Without etcd a request ends within two seconds: all that it waits for has a
// deadline before that.
func TestNothingWaitsForLong(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	p := a.pool(subnet)
	web := a.get(p, "web")
	last := func(what string, do func()) {
		t.Helper()
		a.line.set(false, false)
		await(t, "etcd is there", func() bool { return !a.faulty() })
		a.line.mu.Lock()
		a.line.cut, a.line.asked = true, nil
		a.line.mu.Unlock()
		do()
		a.line.mu.Lock()
		defer a.line.mu.Unlock()
		if len(a.line.asked) == 0 {
			t.Fatalf("%s asked nobody", what)
		}
		begin := a.line.asked[0].at // and not when do began: it may have to wait for a CPU
		for _, q := range a.line.asked {
			if may := q.until.Sub(begin); may > 2*time.Second {
				t.Errorf("%s may wait for %s", what, may)
			}
		}
	}
	for what, r := range map[string]ipam.AddressRequest{"any address": {}, "a named one": {Addr: netip.MustParseAddr("10.0.0.9")}} {
		last(what, func() {
			if _, err := a.RequestAddress(p.ID, r); !errors.Is(err, ipam.ErrAway) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	last("a release", func() { ok(t, a.ReleaseAddress(p.ID, web)) })
}
