package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

const subnet = "10.0.0.0/24"

func TestAnAddressHasOneHost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool(subnet), b.pool(subnet)
	for _, h := range []*host{a, b} {
		ok(t, h.gateway(h.Pools()[0], "10.0.0.1"))
	}
	mine := a.get(pa, "web")
	var rec Record
	ok(t, json.Unmarshal([]byte(s.keys("address/")[key(mine)]), &rec))
	if rec.Host != "a" || rec.HostName != "host-a" || rec.Key != "web" || rec.Pool != pa.ID || time.Since(rec.Since) > time.Minute {
		t.Errorf("the record is %+v", rec)
	}
	if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: mine, Key: "db"}); !errors.Is(err, ipam.ErrTaken) || !strings.Contains(err.Error(), "host-a") {
		t.Errorf("the same address on another host: %v", err)
	}
	if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: addr("10.0.0.1"), Key: "db"}); err == nil {
		t.Error("a container has the gateway's address")
	}
	if other := b.get(pb, "web"); other == mine {
		t.Errorf("both have %s", other)
	}
	ok(t, a.ReleaseAddress(pa.ID, mine))
	if again, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: mine, Key: "db"}); err != nil {
		t.Errorf("an address that was released: %v, %v", again, err)
	}
	ok(t, a.ReleasePool(pa.ID))
	ok(t, b.ReleasePool(pb.ID))
	for _, below := range []string{"address/", "aside/", "pool/"} {
		if left := s.keys(below); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	}
}

// Three hosts start and stop containers at once in a range that is nearly full:
// nobody has an address twice, and nothing is left over.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	var late atomic.Bool // something was not answered in time
	var g sync.WaitGroup
	for _, id := range []string{"a", "b", "c"} {
		h := newHost(t, id, s.endpoint)
		p := h.pool("10.0.0.0/27") // 30 addresses
		for i := range 8 {
			g.Go(func() {
				for n := range 12 {
					var got netip.Prefix
					await(t, "host "+id+" is answered in time", func() bool {
						var err error
						got, err = h.RequestAddress(p.ID, ipam.AddressRequest{Key: map[bool]string{true: strconv.Itoa(i)}[n%2 == 0]})
						// What etcd did not answer in time it may have done: until that is
						// given back the others may be all in use.
						late.Store(late.Load() || errors.Is(err, ipam.ErrAway))
						if err != nil && !late.Load() {
							t.Errorf("host %s: %v", id, err)
						}
						return err == nil || !late.Load()
					})
					if !got.IsValid() {
						return
					}
					mu.Lock()
					if by := owner[got.Addr()]; by != "" {
						t.Errorf("%s is %s's and %s's", got, by, id)
					}
					owner[got.Addr()] = id
					mu.Unlock()
					mu.Lock()
					delete(owner, got.Addr())
					mu.Unlock()
					if err := h.ReleaseAddress(p.ID, got.Addr()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	g.Wait()
	await(t, "nothing is left over", func() bool { return len(s.keys("address/")) == 0 })
}

// What a plugin claimed and did not write down, or forgot and did not release,
// when it was killed, is given back.
func TestWhatACrashLeaves(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	h := newHost(t, "a", s.endpoint)
	p := h.pool(subnet)
	kept, leaked := h.get(p, "kept"), h.get(p, "leaked")
	h.end()
	ok(t, h.given.Delete(p.ID+" "+leaked.String()))
	h.start()
	await(t, "the leaked one is free", func() bool { return s.keys("address/")[key(leaked)] == "" })
	if s.keys("address/")[key(kept)] == "" || h.b.Stats.Leaked.Load() != 1 {
		t.Errorf("left in etcd: %v, given back %d", s.keys("address/"), h.b.Stats.Leaked.Load())
	}
}

// The engine's replays are answered whether or not etcd is, also after a reboot.
func TestReplaysWithoutEtcd(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	h := newHost(t, "a", s.endpoint)
	p := h.pool(subnet)
	ok(t, h.gateway(p, "10.0.0.1"))
	web := h.get(p, "web")
	h.end()
	s.kill()
	for _, reboot := range []bool{false, true} {
		if reboot {
			h.given.all = nil
		}
		h.start()
		h.Registered()
		h.pool(subnet)
		ok(t, h.gateway(p, "10.0.0.1"))
		for _, a := range []netip.Addr{web, addr("10.0.0.77")} { // one that etcd never heard of
			// What the table would have if the engine knew it, is a first start.
			_, err := h.RequestAddress(p.ID, ipam.AddressRequest{Addr: a, Key: "k" + a.String()})
			if first := a != web && !reboot; !first && err != nil || first && !errors.Is(err, ipam.ErrAway) {
				t.Errorf("rebooted: %v: %s: %v", reboot, a, err)
			}
		}
		h.ReplayOver()
		h.end()
	}
	s.start()
	s.answers()
	h.start()
	await(t, "etcd has what was replayed", func() bool { return s.keys("address/")["address/default/10.0.0.77"] != "" })
}

// While etcd is paused or gone, running containers keep what they have, new ones
// get what is this host's, and else a clear answer in time.
func TestEtcdAway(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "paused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
			pa, pb := a.pool(subnet, "reserve", "3"), b.pool(subnet)
			left := a.get(pa, "left")
			b.get(pb, "x")
			await(t, "the reserve", func() bool { return len(s.keys("address/")) == 5 && a.b.Status().Reserve == 3 })
			if how == "killed" {
				s.kill()
			} else {
				s.signal(syscall.SIGSTOP)
			}
			if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Key: "y"}); !errors.Is(err, ipam.ErrAway) || !strings.Contains(err.Error(), "etcd cannot be asked") {
				t.Errorf("without a reserve: %v", err)
			}
			got := map[netip.Addr]bool{}
			for i := range 3 {
				got[a.get(pa, strconv.Itoa(i))] = true
			}
			ok(t, a.ReleaseAddress(pa.ID, left))
			if len(got) != 3 {
				t.Errorf("from the reserve: %v", got)
			}
			for _, when := range []string{"with nothing left", "after a restart"} {
				for _, r := range []ipam.AddressRequest{{}, {Key: "left"}, {Addr: left, Key: "left"}} {
					if again, err := a.RequestAddress(pa.ID, r); !errors.Is(err, ipam.ErrAway) {
						t.Errorf("%s: %v, %v", when, again, err)
					}
				}
				a.restart()
			}
			if how == "killed" {
				s.start()
			} else {
				s.signal(syscall.SIGCONT)
			}
			await(t, "etcd has what was given meanwhile, and a reserve", func() bool {
				containers, ahead := 0, 0
				for _, v := range s.keys("address/") {
					var r Record
					if ok(t, json.Unmarshal([]byte(v), &r)); r.Host == "a" && r.Kind == ipam.Container {
						containers++
					} else if r.Kind == reserved {
						ahead++
					}
				}
				return containers == 3 && ahead == 3
			})
			await(t, "b gets one", func() bool {
				got, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Key: "z"})
				if err == nil && (got.Addr() == left || len(a.Addresses(pa.ID)) != 3) {
					t.Errorf("got %s; a has %v", got, a.Addresses(pa.ID))
				}
				return err == nil
			})
		})
	}
}

// A reserve on the disk is good for a plugin that starts while etcd is away.
func TestAReserveSurvives(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	h := newHost(t, "a", s.endpoint)
	p := h.pool(subnet, "reserve", "2")
	await(t, "the reserve", func() bool { return h.b.Status().Reserve == 2 })
	h.end()
	s.kill()
	h.start()
	for i := range 2 {
		if a := h.get(p, strconv.Itoa(i)); !a.IsValid() {
			t.Errorf("got %s", a)
		}
	}
	if _, err := h.RequestAddress(p.ID, ipam.AddressRequest{}); !errors.Is(err, ipam.ErrAway) {
		t.Errorf("the third: %v", err)
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool(subnet), b.pool(subnet)
	s.signal(syscall.SIGSTOP)
	a.b.lost(errors.New("a test says so")) // its watch has to begin again
	await(t, "a is away", a.faulty)
	s.signal(syscall.SIGCONT)
	var taken []netip.Addr
	await(t, "b claims", func() bool {
		got, err := b.RequestAddress(pb.ID, ipam.AddressRequest{})
		if err == nil {
			taken = append(taken, got.Addr())
		}
		return len(taken) > 20
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := s.client.Get(ctx, "x")
	ok(t, err)
	_, err = s.client.Compact(ctx, res.Header.Revision, clientv3.WithCompactPhysical())
	ok(t, err)
	await(t, "a is back", func() bool { return !a.faulty() })
	if err := a.b.watch(ctx, s.client, 1); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a watch from before the compaction: %v", err)
	}
	a.get(pa, "")
	await(t, "a sees all", func() bool { return len(a.b.List("b")) >= len(taken) })
}

// An etcd that begins anew gets back what the hosts have.
func TestEtcdLosesEverything(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool(subnet, "reserve", "1"), b.pool(subnet)
	ok(t, a.gateway(pa, "10.0.0.1"))
	taken := map[netip.Addr]bool{a.get(pa, "web"): true, b.get(pb, "db"): true, b.get(pb, ""): true}
	complete := func() bool {
		return len(s.keys("address/")) == 4 && len(s.keys("aside/")) == 1 && len(s.keys("pool/")) == 2 && len(s.keys("alive/")) == 2
	}
	await(t, "everything is there", complete)
	s.kill()
	s.dir = t.TempDir()
	s.start()
	s.answers()
	await(t, "everything is there again", complete)
	for at := range taken {
		if s.keys("address/")[key(at)] == "" {
			t.Errorf("%s is missing", at)
		}
	}
	await(t, "a claims", func() bool { // when b has had time
		got, err := a.RequestAddress(pa.ID, ipam.AddressRequest{})
		if err == nil && taken[got.Addr()] {
			t.Errorf("%s was given twice", got)
		}
		return err == nil
	})
	if n := a.b.Stats.Conflicts.Load() + b.b.Stats.Conflicts.Load(); n != 0 {
		t.Errorf("%d conflicts", n)
	}
}

func TestAHostThatIsLost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa := a.pool(subnet, "reserve", "1")
	ok(t, a.gateway(pa, "10.0.0.1"))
	web := a.get(pa, "web")
	await(t, "a is alive", func() bool { return len(s.keys("alive/")) == 2 && a.b.Status().Reserve == 1 })
	for id, want := range map[string]error{"a": ErrAlive, "b": ErrNoHost, "nobody": ErrNoHost, "": ErrNoHost} {
		if _, err := b.b.Reclaim(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("reclaim from %q: %v, want %v", id, err, want)
		}
	}
	a.end()
	if _, err := b.b.Reclaim(t.Context(), "a"); !errors.Is(err, ErrAlive) {
		t.Errorf("right after its end: %v", err)
	}
	_, err := s.client.Delete(t.Context(), DefaultPrefix+"/alive/a") // half a minute later
	ok(t, err)
	await(t, "b sees it", func() bool {
		for _, h := range b.b.Status().Hosts {
			if h.Host == "a" {
				return !h.Alive && h.Addresses == 2
			}
		}
		return false
	})
	all, err := b.b.Reclaim(t.Context(), "a")
	if err != nil || len(all) != 2 || len(s.keys("address/"))+len(s.keys("aside/"))+len(s.keys("pool/")) != 0 {
		t.Errorf("reclaimed %v, %v, left %v", all, err, s.keys(""))
	}
	pb := b.pool(subnet)
	_, err = b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: web, Key: "db"})
	ok(t, err)
	a.start() // it was not lost for good
	await(t, "the alarm", func() bool { return len(a.b.Status().Conflicts) == 1 })
	if c := a.b.Status().Conflicts[0]; c.Addr != web || !strings.Contains(c.Other, "host-b") || !strings.Contains(a.log(), "another host's in etcd") {
		t.Errorf("the conflict is %+v, the log\n%s", c, a.log())
	}
	ok(t, a.ReleaseAddress(pa.ID, web))
	a.b.Kick()
	await(t, "the end of the alarm", func() bool { return len(a.b.Status().Conflicts) == 0 })
	if r := s.keys("address/")[key(web)]; !strings.Contains(r, "host-b") {
		t.Errorf("the record of %s is %s", web, r)
	}
}

// A container that the engine knows from before does not get an address that is
// another host's by now.
func TestAReplayOfAnothersAddress(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool(subnet), b.pool(subnet)
	web := a.get(pa, "web")
	await(t, "a has said that it is alive", func() bool { return len(s.keys("alive/")) == 2 }) // it would say so after its end
	a.end()
	_, err := s.client.Delete(t.Context(), DefaultPrefix+"/alive/a")
	ok(t, err)
	_, err = b.b.Reclaim(t.Context(), "a")
	ok(t, err)
	_, err = b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: web, Key: "db"})
	ok(t, err)
	a.given.all = nil // a reboot
	a.start()
	a.Registered()
	a.pool(subnet)
	if _, err := a.RequestAddress(pa.ID, ipam.AddressRequest{Addr: web, Key: "web"}); !errors.Is(err, ipam.ErrTaken) || !strings.Contains(a.log(), "level=ERROR") {
		t.Errorf("%v; the log\n%s", err, a.log())
	}
}

// A container that moves gets its address again, nobody else does meanwhile.
func TestAnAddressIsHeld(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool("10.0.0.0/29", "hold", "1h"), b.pool("10.0.0.0/29", "hold", "1h")
	web := a.get(pa, "web")
	ok(t, a.ReleaseAddress(pa.ID, web))
	await(t, "b sees that", func() bool { return len(b.b.List("a")) == 1 && b.b.List("a")[0].Kind == held })
	if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: web, Key: "db"}); !errors.Is(err, ipam.ErrTaken) || !strings.Contains(err.Error(), "kept until") {
		t.Errorf("somebody else asks for it: %v", err)
	}
	for range 5 {
		b.get(pb, "")
	}
	if got, err := b.RequestAddress(pb.ID, ipam.AddressRequest{}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("the last one went to somebody: %v, %v", got, err)
	}
	if got := b.get(pb, "web"); got != web {
		t.Errorf("on the other host it got %s, before it had %s", got, web)
	}
}

func TestAMachineOfNobodys(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool("10.0.0.0/30"), b.pool("10.0.0.0/30")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	printer := addr("10.0.0.1")
	a.Foreign(pa.Prefix, printer, mac)
	await(t, "b knows", func() bool { return len(b.b.Status().Foreign) == 1 })
	if got := b.get(pb, ""); got == printer {
		t.Errorf("b gives %s", got)
	}
	b.Foreign(pb.Prefix, addr("10.0.0.2"), mac) // b's own
	if _, err := a.RequestAddress(pa.ID, ipam.AddressRequest{}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("a gives what is left: %v", err)
	}
	if n := len(s.keys("foreign/")); n != 1 || a.b.Stats.Foreign.Load() != 1 {
		t.Errorf("%d addresses in quarantine, counted %d", n, a.b.Stats.Foreign.Load())
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	if _, err := b.tryPool("", "share", "lan"); err == nil || !strings.Contains(err.Error(), "needs a subnet") {
		t.Errorf("the first without a subnet: %v", err)
	}
	pa := a.pool(subnet, "share", "lan")
	ok(t, a.gateway(pa, "10.0.0.9"))
	if _, err := b.tryPool("10.0.0.0/25", "share", "lan"); err == nil || !strings.Contains(err.Error(), `share "lan" has the subnet 10.0.0.0/24 on host host-a`) {
		t.Errorf("another subnet: %v", err)
	}
	pb := b.pool("", "share", "lan")
	if pb.Prefix != pa.Prefix || pb.ID != pa.ID {
		t.Errorf("got %+v, want as %+v", pb, pa)
	}
	await(t, "b sees the gateway", func() bool { return len(b.b.List("a")) == 1 })
	if err := b.gateway(pb, "10.0.0.1"); err == nil || !strings.Contains(err.Error(), "has the gateway 10.0.0.9 on host host-a") {
		t.Errorf("another gateway: %v", err)
	}
	got, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Gateway: true})
	if err != nil || got.Addr() != addr("10.0.0.9") {
		t.Errorf("the gateway that nobody named: %v, %v", got, err)
	}
}
