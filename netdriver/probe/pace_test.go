package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

// fake is a host whose wires answer as a test says, and the networks on it.
type fake struct {
	m *Manager

	mu       sync.Mutex
	networks []network.Definition
	asked    []question
	answer   func(question) time.Duration // how long it takes; 0: there is none
	refuse   error
	way      kernel.Way  // of the host; none: there is no route
	echoes   []time.Time // when one was to be sent
}

type question struct {
	at      time.Time
	network string
	addr    netip.Addr
	to      string
}

func (f *fake) List() []network.Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.networks)
}

func (f *fake) LinkAddrs() (map[string][]netip.Prefix, error) {
	return map[string][]netip.Prefix{"lo": {netip.MustParsePrefix("192.0.2.250/32")}, f.way.Link: {netip.MustParsePrefix("192.0.2.251/24")}}, nil
}

func (f *fake) WayTo(netip.Addr) (kernel.Way, error) {
	if f.way.Link == "" {
		return kernel.Way{}, kernel.ErrNoWay
	}
	return f.way, nil
}

func (f *fake) Within(func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.echoes = append(f.echoes, time.Now())
	return errors.New("there are no sockets here")
}

func (f *fake) Ask(network string, a netip.Addr, to net.HardwareAddr) error {
	f.mu.Lock()
	q := question{time.Now(), network, a, to.String()}
	f.asked = append(f.asked, q)
	after, err := f.answer(q), f.refuse
	f.mu.Unlock()
	if after > 0 && err == nil {
		time.AfterFunc(after, func() {
			f.m.Heard(network, neighbour.Claim{Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Answer: true})
			f.m.Heard(network, neighbour.Claim{Addr: a, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Answer: true}) // who is late
		})
	}
	return err
}

func (f *fake) stats(t *testing.T, addr string) Stats {
	t.Helper()
	for _, s := range f.m.Stats().Targets {
		if s.Addr.String() == addr {
			return s
		}
	}
	t.Fatalf("%s is not asked: %+v", addr, f.m.Stats())
	return Stats{}
}

func definition(id, gateway string, peers ...string) network.Definition {
	d := network.Definition{ID: id, Mode: network.Macvlan, Parent: "nic0", Complete: true, Pools: []network.Pool{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}}
	if gateway != "" {
		d.Pools[0].Gateway = netip.MustParseAddr(gateway)
	}
	for _, p := range peers {
		d.ProbePeers = append(d.ProbePeers, netip.MustParseAddr(p))
	}
	return d
}

// run runs a Manager in a bubble of fake time.
func run(t *testing.T, f *fake, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		f.m = New(Config{Every: 10 * time.Second, Networks: f, Wires: f, Host: f, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.m.Run(ctx) }()
		test(t)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestEachIsAskedInItsTurn(t *testing.T) {
	f := &fake{networks: []network.Definition{definition("n", "192.0.2.1", "192.0.2.9", "192.0.2.1", "192.0.2.250")}}
	slow := netip.MustParseAddr("192.0.2.9")
	f.answer = func(q question) time.Duration {
		switch {
		case q.addr != slow:
			return 3 * time.Millisecond
		case len(f.asked)%4 < 2:
			return 20 * time.Millisecond
		}
		return 30 * time.Millisecond
	}
	run(t, f, func(t *testing.T) {
		time.Sleep(100*time.Second + time.Second) // of the bubble's time
		gw, peer := f.stats(t, "192.0.2.1"), f.stats(t, "192.0.2.9")
		if gw.Sent < 10 || gw.Sent > 11 || gw.Lost != 0 || gw.Answered != gw.Sent || gw.Sum != time.Duration(gw.Sent)*3*time.Millisecond || gw.Jitter != 0 {
			t.Errorf("the gateway: %+v", gw)
		}
		if peer.Jitter < time.Duration(peer.Jitters)*5*time.Millisecond || peer.Jitters != peer.Answered-1 || peer.Below[0.01] != 0 || peer.Below[0.05] != peer.Answered {
			t.Errorf("the peer: %+v", peer)
		}
		if n := len(f.m.Stats().Targets); n != 2 {
			t.Errorf("%d targets", n)
		}
		for i, q := range f.asked {
			if first := i < 2; first != (q.to == "") {
				t.Errorf("question %d goes to %q", i, q.to)
			}
		}
	})
}

// A target that is silent is lost, and everybody is asked for it; a wire that is
// not there loses too; those that come back are counted on.
func TestSilence(t *testing.T) {
	f := &fake{networks: []network.Definition{definition("n", "192.0.2.1")}}
	var answer time.Duration
	f.answer = func(question) time.Duration { return answer }
	run(t, f, func(t *testing.T) {
		time.Sleep(5 * time.Second) // of the bubble's time: between two questions
		for _, step := range []struct {
			answer         time.Duration
			refuse         error
			answered, lost uint64
			everybody      bool // is asked for it at the end
		}{
			{0, nil, 0, 4, true},
			{time.Millisecond, nil, 3, 4, false},
			{2 * time.Second, nil, 3, 7, true}, // too late
			{time.Millisecond, errors.New("no wire"), 3, 10, true},
			{time.Millisecond, nil, 6, 10, false},
		} {
			f.mu.Lock()
			answer, f.refuse = step.answer, step.refuse
			f.mu.Unlock()
			time.Sleep(30 * time.Second) // of the bubble's time
			synctest.Wait()
			s := f.stats(t, "192.0.2.1")
			f.mu.Lock()
			last := f.asked[len(f.asked)-1]
			f.mu.Unlock()
			if s.Answered != step.answered || s.Lost != step.lost || (last.to == "") != step.everybody {
				t.Errorf("%+v: answered %d, lost %d, the last question to %q", step, s.Answered, s.Lost, last.to)
			}
		}
	})
}

// Echoes to those of whom nobody knows where they are have the kernel ask for them:
// they are few.
func TestEchoesToTheDead(t *testing.T) {
	f := &fake{way: kernel.Way{Link: "nic0"}}
	var answer time.Duration
	f.answer = func(question) time.Duration { return answer }
	for i := range 50 {
		f.networks = append(f.networks, definition(fmt.Sprintf("n%02d", i), fmt.Sprintf("192.0.2.%d", 1+i)))
	}
	run(t, f, func(t *testing.T) {
		apart := func(least, most time.Duration) {
			t.Helper()
			f.mu.Lock()
			f.echoes = nil
			f.mu.Unlock()
			time.Sleep(5 * time.Minute) // of the bubble's time
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			n := len(f.echoes) - 1
			for i := range n {
				if d := f.echoes[i+1].Sub(f.echoes[i]); d < least {
					t.Errorf("an echo comes %v after the one before", d)
				}
			}
			if mean := f.echoes[n].Sub(f.echoes[0]) / time.Duration(n); mean > most {
				t.Errorf("%d echoes, %v apart", n, mean)
			}
		}
		apart(gaps[silent], gaps[silent]+10*time.Millisecond)
		f.mu.Lock()
		answer = time.Millisecond
		f.mu.Unlock()
		time.Sleep(20 * time.Second) // of the bubble's time: all answer by ARP
		apart(gaps[ICMP], 250*time.Millisecond)
		for _, s := range f.m.Stats().Targets {
			if s.Protocol == ICMP && s.Sent < 20 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// However many networks there are, four ARP packets a second are sent, and no more
// than a thousand targets are asked; networks come and go.
func TestMany(t *testing.T) {
	f := &fake{answer: func(question) time.Duration { return time.Millisecond }}
	for i := range 1100 {
		f.networks = append(f.networks, definition(fmt.Sprintf("n%04d", i), "192.0.2.1", "192.0.2.2"))
	}
	run(t, f, func(t *testing.T) {
		begun := time.Now()
		time.Sleep(500 * time.Second) // of the bubble's time
		synctest.Wait()
		all := f.m.Stats()
		if len(all.Targets) != Most || all.LeftOut != 1200 || all.Every != 250*time.Second {
			t.Errorf("%d targets, %d left out, every %v", len(all.Targets), all.LeftOut, all.Every)
		}
		for i, q := range f.asked[1:] {
			if d := q.at.Sub(f.asked[i].at); d < gaps[ARP] {
				t.Fatalf("question %d comes %v after the one before", i+1, d)
			}
		}
		if n := len(f.asked); n < 1950 || n > 2001 {
			t.Errorf("%d questions in %v", n, time.Since(begun))
		}
		for _, s := range all.Targets {
			if s.Sent < 1 || s.Sent > 3 || s.Addr.String() != "192.0.2.1" {
				t.Fatalf("%+v", s)
			}
		}
		f.mu.Lock()
		f.networks = f.networks[:1]
		f.networks[0].NoProbe = true
		f.networks = append(f.networks, definition("new", "192.0.2.1"))
		f.mu.Unlock()
		time.Sleep(20 * time.Second) // of the bubble's time
		if all := f.m.Stats(); len(all.Targets) != 1 || all.Targets[0].Network != "new" || all.Targets[0].Answered == 0 || all.LeftOut != 0 {
			t.Errorf("%+v", all)
		}
	})
}

// What a thousand targets cost: a step is done ten times a second.
func BenchmarkStep(b *testing.B) {
	f := &fake{}
	for i := range Most {
		f.networks = append(f.networks, definition(fmt.Sprintf("n%04d", i), "192.0.2.1"))
	}
	m := New(Config{Every: time.Second, Networks: f, Wires: f, Host: f, Log: slog.New(slog.DiscardHandler)})
	m.follow()
	now := time.Now()
	for b.Loop() {
		now = now.Add(gaps[ARP])
		m.step(now)
	}
}

func BenchmarkFollow(b *testing.B) {
	f := &fake{}
	for i := range Most {
		f.networks = append(f.networks, definition(fmt.Sprintf("n%04d", i), "192.0.2.1"))
	}
	m := New(Config{Every: time.Second, Networks: f, Wires: f, Host: f, Log: slog.New(slog.DiscardHandler)})
	for b.Loop() {
		m.follow()
	}
}
