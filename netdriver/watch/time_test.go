package watch

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

// script is a wire without a kernel, for what takes minutes.
type script struct {
	mu        sync.Mutex
	has       map[netip.Addr]net.HardwareAddr
	asked     []time.Time // to everybody, IPv4
	announced int
	claims    chan neighbour.Claim
	opened    int
	fail      error
	cut       error // there is no carrier
	mute      error // nothing can be sent
	twin      bool  // everybody is there twice
	asking    func(netip.Addr)
	reading   time.Duration // the reader has no time for so long
	endpoints []endpoint.Endpoint
	foreign   []netip.Addr // what the pools were told
}

type scriptPort struct {
	*script
	closed chan struct{}
}

func (s *script) Open(network.Definition) (Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.opened++
	return &scriptPort{s, make(chan struct{})}, nil
}
func (s *script) Drop(string) error         { return nil }
func (s *script) Links() ([]string, error)  { return nil, nil }
func (s *script) List() []endpoint.Endpoint { return s.endpoints }

func (s *script) Foreign(_ netip.Prefix, a netip.Addr, _ net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign = append(s.foreign, a)
}

func (s *script) Candidates(pool netip.Prefix, n int, known func(netip.Addr) bool) (next []netip.Addr) {
	for a := pool.Addr().Next(); len(next) < n && pool.Contains(a); a = a.Next() {
		if !known(a) {
			next = append(next, a)
		}
	}
	return next
}

func (p *scriptPort) Ask(a netip.Addr, to net.HardwareAddr) error {
	if p.asking != nil {
		p.asking(a)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if to == nil {
		p.asked = append(p.asked, time.Now())
	}
	if mac := p.has[a]; mac != nil {
		p.claims <- neighbour.Claim{Addr: a, MAC: mac, Answer: true}
		if p.twin {
			p.claims <- neighbour.Claim{Addr: a, MAC: mac, Answer: true}
		}
	}
	return errors.Join(p.fail, p.mute)
}

func (p *scriptPort) Announce(netip.Addr, net.HardwareAddr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announced++
	return nil
}

func (p *scriptPort) Receive() (neighbour.Claim, error) {
	time.Sleep(p.reading) // in the bubble's time
	select {
	case c := <-p.claims:
		return c, nil
	case <-p.closed:
		return neighbour.Claim{}, errors.New("closed")
	}
}

func (p *scriptPort) Unread() bool { return len(p.claims) > 0 }

func (p *scriptPort) Carrier() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *scriptPort) Close() error { close(p.closed); return nil }

// play runs a test on a wire without a kernel, in its own time.
func play(t *testing.T, test func(*testing.T, *script, *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{has: map[netip.Addr]net.HardwareAddr{}, claims: make(chan neighbour.Claim, 100)}
		def := network.Definition{ID: "n", Mode: network.Macvlan, Parent: "nic0", Complete: true, Pools: []network.Pool{{Space: ipam.LocalSpace, Prefix: subnet4}}}
		m := New(Config{Host: s, Networks: networks{def}, Endpoints: s, Log: slog.New(slog.DiscardHandler)})
		m.SetPools(s)
		test(t, s, m)
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d) // the bubble's time
	synctest.Wait()
}

func TestTheReserveIsFilledSlowly(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		m.Sync()
		after(time.Minute)
		if free, asking := m.Reserve(subnet4); len(free) != reserveSize || !asking {
			t.Errorf("%d in reserve, %v", len(free), asking)
		}
		burst := 3 * slotBurst
		for i, at := range s.asked {
			if i < burst {
				continue
			}
			n := 0
			for _, other := range s.asked[i:] {
				if other.Sub(at) < time.Second {
					n++
				}
			}
			if n > 10 {
				t.Errorf("%d questions in the second after %v", n, at.Sub(s.asked[0]))
			}
		}
	})
}

func TestQuarantineEndsWithSilence(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		a := netip.MustParseAddr("192.0.2.1")
		s.has[a] = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		m.Sync()
		after(3 * time.Minute)
		if f := m.Look(subnet4, a); f.Known != ipam.Used || time.Since(f.Heard) > 2*recheckUsed {
			t.Errorf("while the machine is there: %+v", f)
		}
		s.mu.Lock()
		if n := len(s.foreign); n < 3 || s.foreign[0] != a {
			t.Errorf("in three minutes the pools were told %d times: %v", n, s.foreign)
		}
		delete(s.has, a)
		s.mu.Unlock()
		after(3 * time.Minute)
		if f := m.Look(subnet4, a); f.Known != ipam.Free {
			t.Errorf("when it has gone: %+v", f)
		}
	})
}

// Other hosts have it in quarantine as long as they are told.
func TestAMachineThatSpeaksOften(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		m.Sync()
		c := neighbour.Claim{Addr: netip.MustParseAddr("192.0.2.77"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		for range 60 {
			s.claims <- c
			after(10 * time.Second)
		}
		if n := len(s.foreign); n < 8 || n > 12 {
			t.Errorf("in ten minutes the pools were told %d times", n)
		}
		if _, count := m.Events(); count[Quarantined] != 1 {
			t.Errorf("noted %d times", count[Quarantined])
		}
	})
}

func TestAnAddressOfTheReserveThatIsTaken(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		m.Sync()
		after(time.Minute)
		a := netip.MustParseAddr("192.0.2.5")
		s.claims <- neighbour.Claim{Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}} // of himself
		after(0)
		if f := m.Look(subnet4, a); f.Known != ipam.Used {
			t.Errorf("announced by another machine: %+v", f)
		}
		silent := netip.MustParseAddr("192.0.2.6")
		s.mu.Lock()
		s.has[silent] = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		s.mu.Unlock()
		after(recheckFree + reserveSize*tickEvery)
		if f := m.Look(subnet4, silent); f.Known != ipam.Used {
			t.Errorf("taken in silence: %+v", f)
		}
	})
}

func TestAnnouncements(t *testing.T) {
	for name, tc := range map[string]struct {
		before, answers bool
		want            int
	}{
		"it was there before us":     {before: true, answers: true, want: 0},
		"it comes up":                {answers: true, want: len(announceAt)},
		"it answers none of its own": {want: len(announceAt)},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *script, m *Manager) {
				e := endpoint.Endpoint{ID: "e", Network: "n", IPv4: netip.MustParsePrefix("192.0.2.7/24"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, Joined: true}
				if tc.answers {
					s.has[e.IPv4.Addr()] = e.MAC
				}
				if !tc.before {
					m.Sync()
				}
				s.endpoints = []endpoint.Endpoint{e}
				m.Sync()
				after(time.Minute)
				if s.announced != tc.want {
					t.Errorf("announced %d times", s.announced)
				}
				if c := m.Status()[0].Conflicts; len(c) != 0 {
					t.Errorf("conflicts %+v", c)
				}
				s.endpoints = nil
				m.Sync()
				if f := m.Look(subnet4, e.IPv4.Addr()); (f.Known == ipam.Free) != tc.answers {
					t.Errorf("after it left: %+v", f)
				}
				after(time.Minute)
			})
		})
	}
}

// What many containers have left is not kept for longer than it can be asked for.
func TestWhatWasLeftIsForgotten(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		for i := range 200 {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(50 + i)})
			mac := net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}
			s.has[a] = mac
			s.endpoints = append(s.endpoints, endpoint.Endpoint{ID: a.String(), Network: "n", IPv4: netip.PrefixFrom(a, 24), MAC: mac, Joined: true})
		}
		m.Sync()
		after(time.Minute)
		s.mu.Lock()
		clear(s.has)
		s.mu.Unlock()
		s.endpoints = nil
		m.Sync()
		after(5 * time.Minute)
		w := m.wires["n"]
		if n := len(w.facts); n > reserveSize+spares {
			t.Errorf("%d addresses are known", n)
		}
		for i := range reserveSize { // the next that would be given
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})
			if f := m.Look(subnet4, a); f.Known != ipam.Free || time.Since(f.Since) > time.Minute {
				t.Errorf("of %s, %+v", a, f)
			}
		}
	})
}

// A port by which nothing can be sent is not opened over and over.
func TestAMutePort(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		s.mute = errors.New("operation not permitted")
		m.Sync()
		after(time.Minute)
		if _, asking := m.Reserve(subnet4); asking || s.opened > 25 {
			t.Errorf("asking %v, opened %d times in a minute", asking, s.opened)
		}
	})
}

// Who comes while the wire is away is announced when it is back.
func TestTheWireIsBack(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		m.Sync()
		after(time.Minute)
		s.mu.Lock()
		s.cut = errors.New("no carrier")
		s.mu.Unlock()
		after(2 * tickEvery)
		s.endpoints = []endpoint.Endpoint{{ID: "e", Network: "n", IPv4: netip.MustParsePrefix("192.0.2.7/24"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, Joined: true}}
		m.Sync()
		after(time.Minute)
		if s.announced != 0 {
			t.Errorf("announced %d times to nobody", s.announced)
		}
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		after(time.Minute)
		if s.announced != 1 {
			t.Errorf("announced %d times", s.announced)
		}
		s.mu.Lock()
		s.has[netip.MustParseAddr("192.0.2.7")] = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		s.mu.Unlock()
		after(10 * time.Second)
		s.mu.Lock()
		s.cut = errors.New("no carrier")
		s.mu.Unlock()
		after(5 * time.Minute)
		if c := m.Status()[0].Conflicts; len(c) != 1 {
			t.Errorf("while nobody can be asked there are the conflicts %+v", c)
		}
	})
}

func TestAPortThatFails(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		s.fail = errors.New("no such link")
		m.Sync()
		after(time.Minute)
		if _, asking := m.Reserve(subnet4); asking || m.Status()[0].Fault == "" {
			t.Errorf("status %+v", m.Status())
		}
		m.Probe(subnet4, netip.MustParseAddr("192.0.2.9")) // does not wait for what cannot come
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		after(reopenMost + time.Second)
		if _, asking := m.Reserve(subnet4); !asking {
			t.Error("the port was not tried again")
		}
		s.mu.Lock()
		s.cut = errors.New("no carrier")
		s.mu.Unlock()
		after(2 * tickEvery)
		if free, asking := m.Reserve(subnet4); asking || len(free) > 0 || m.Status()[0].Fault != "no carrier" {
			t.Errorf("without a carrier: %v, %v, %q", free, asking, m.Status()[0].Fault)
		}
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		after(reopenMost + time.Second)
		if _, asking := m.Reserve(subnet4); !asking {
			t.Error("a carrier that came back is not seen")
		}
		s.mu.Lock()
		s.fail = errors.New("network is down")
		s.mu.Unlock()
		after(time.Minute)
		if _, asking := m.Reserve(subnet4); asking {
			t.Error("a port that cannot send is kept")
		}
	})
}

func TestTheParentIsAnotherOne(t *testing.T) {
	play(t, func(t *testing.T, s *script, m *Manager) {
		m.Sync()
		after(time.Minute)
		d := m.cfg.Networks.List()[0]
		d.Parent = "nic1"
		m.cfg.Networks = networks{d}
		m.Sync()
		if free, asking := m.Reserve(subnet4); len(free) != 0 || !asking || s.opened != 2 {
			t.Errorf("%d addresses are known of another wire, asking %v, %d ports opened", len(free), asking, s.opened)
		}
		after(time.Minute)
		if free, _ := m.Reserve(subnet4); len(free) != reserveSize {
			t.Errorf("%d addresses are in reserve on the other wire", len(free))
		}
		d.MacvlanMode = kernel.MacvlanPassthru
		m.cfg.Networks = networks{d}
		m.Sync()
		if _, asking := m.Reserve(subnet4); asking || len(m.wires) != 0 {
			t.Error("an interface that is passed through has a port beside")
		}
	})
}

// Conflicts that begin in silence, on networks of many sizes.
func TestAConflictIsSeenInTime(t *testing.T) {
	for name, c := range map[string]struct {
		endpoints int
		within    time.Duration
		most      int // questions a second
	}{
		"few":          {endpoints: 20, within: 10 * time.Second, most: 10},
		"some dozens":  {endpoints: 60, within: 10 * time.Second, most: 15},
		"some hundred": {endpoints: 400, within: 10 * time.Second, most: 65},
		"thousands":    {endpoints: 2000, within: 40 * time.Second, most: 70},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *script, m *Manager) {
				a := netip.MustParseAddr("10.0.0.0")
				def := m.cfg.Networks.List()[0]
				def.Pools[0].Prefix = netip.PrefixFrom(a, 16)
				m.cfg.Networks = networks{def}
				for i := range c.endpoints {
					a = a.Next()
					s.endpoints = append(s.endpoints, endpoint.Endpoint{ID: fmt.Sprint(i), Network: "n", IPv4: netip.PrefixFrom(a, 16), MAC: net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}, Joined: true})
				}
				m.Sync()
				after(time.Minute)
				s.mu.Lock()
				began := len(s.asked)
				for _, e := range s.endpoints {
					s.has[e.IPv4.Addr()] = net.HardwareAddr{2, 9, 0, 0, 0, 9}
				}
				s.mu.Unlock()
				after(c.within)
				if found := len(m.Status()[0].Conflicts); found != c.endpoints {
					t.Errorf("of %d conflicts %d were seen", c.endpoints, found)
				}
				after(conflictOver + c.within)
				if seen := m.Stats.Conflicts.Load(); seen != uint64(c.endpoints) {
					t.Errorf("%d conflicts were seen %d times", c.endpoints, seen)
				}
				for i, from := began, 0; i < len(s.asked); i++ {
					for from = max(from, began); s.asked[i].Sub(s.asked[from]) >= time.Second; from++ {
					}
					if n := i - from + 1; n > c.most {
						t.Fatalf("%d questions within a second", n)
					}
				}
			})
		})
	}
}
