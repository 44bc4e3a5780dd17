package ipam

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dockline/dockline/internal/options"
)

// cluster is a backend that is told what others have.
type cluster struct {
	mu     sync.Mutex
	others map[netip.Addr]bool // what other hosts have; the view learns of it by a claim
	known  map[netip.Addr]bool
	ours   map[netip.Addr]Owner
	away   bool
	server netip.Addr   // valid: it chooses, and that
	subnet netip.Prefix // valid: its own, for who asks for none
	gate   chan struct{}
	said   []string
}

func newCluster(others ...string) *cluster {
	c := &cluster{others: map[netip.Addr]bool{}, known: map[netip.Addr]bool{}, ours: map[netip.Addr]Owner{}}
	for _, a := range others {
		c.others[addr(a)] = true
	}
	return c
}

func (c *cluster) say(words ...string) { c.said = append(c.said, strings.Join(words, " ")) }

func (c *cluster) Prepare(_ context.Context, r PoolRequest) (PoolRequest, error) {
	if !r.Prefix.IsValid() {
		r.Prefix = c.subnet
	}
	return r, CheckOptions(r.Options, options.Option{Name: "segment"})
}

func (c *cluster) View(Pool, Owner) View {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := maps.Clone(c.known)
	return View{Taken: func(a netip.Addr) bool { return known[a] }, Several: 2, Chooses: c.server.IsValid()}
}

func (c *cluster) Claim(_ context.Context, _ Pool, r Claim) (netip.Addr, error) {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away && !r.Replay {
		return netip.Addr{}, ErrAway
	}
	if len(r.Candidates) == 0 {
		return c.server, nil
	}
	for _, a := range r.Candidates {
		if c.others[a] {
			c.known[a] = true
			continue
		}
		c.ours[a] = r.Owner
		c.say("claim", string(r.Kind), a.String())
		return a, nil
	}
	return netip.Addr{}, ErrTaken
}

func (c *cluster) Release(_ context.Context, _ Pool, h Held) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ours, h.Addr)
	c.say("release", string(h.Kind), h.Addr.String())
	return nil
}

func (c *cluster) Leave(_ context.Context, p Pool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.say("leave", p.Prefix.String())
	return nil
}

func inCluster(t *testing.T, w *world, c *cluster) (*Manager, Pool) {
	t.Helper()
	w.backends = map[string]Backend{"cluster": c}
	m := w.start(t)
	p, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix("10.0.0.0/24"), Options: map[string]string{"backend": "cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	return m, p
}

func TestTheBackendOfAPool(t *testing.T) {
	for _, tc := range []struct {
		options map[string]string
		want    string // the backend, or else part of the error
		fails   bool
	}{
		{nil, "", false},
		{map[string]string{"backend": "embedded"}, "", false},
		{map[string]string{"backend": "cluster", "segment": "x"}, "cluster", false},
		{map[string]string{"backend": "etcd"}, `backend="etcd": this plugin has cluster, embedded`, true},
		{map[string]string{"segment": "x"}, `unknown IPAM option "segment"`, true},
		{map[string]string{"backend": "cluster", "segmnt": "x"}, `did you mean "segment"`, true},
	} {
		w := newWorld()
		w.backends = map[string]Backend{"cluster": newCluster()}
		p, err := w.start(t).RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix("10.0.0.0/24"), Options: tc.options})
		switch {
		case tc.fails && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%v: %v, want %s", tc.options, err, tc.want)
		case !tc.fails && (err != nil || p.Backend != tc.want || !maps.Equal(w.pools[p.ID].Options, tc.options)):
			t.Errorf("%v: %+v, %v", tc.options, p, err)
		}
	}
}

func TestClaims(t *testing.T) {
	w := newWorld()
	c := newCluster("10.0.0.2", "10.0.0.3", "10.0.0.9")
	m, p := inCluster(t, w, c)
	mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.1"), Gateway: true})
	a := mustAddr(t, m, p, AddressRequest{})
	if a != addr("10.0.0.4") {
		t.Errorf("got %s, want the first that no host has", a)
	}
	if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: addr("10.0.0.9"), Key: "k"}); !errors.Is(err, ErrTaken) {
		t.Errorf("another host's address by name: %v", err)
	}
	c.away = true
	if _, err := m.RequestAddress(p.ID, AddressRequest{}); !errors.Is(err, ErrAway) {
		t.Errorf("while nobody can be asked: %v", err)
	}
	if len(w.given) != 2 || len(m.Held("cluster")[0].Held) != 2 {
		t.Errorf("given %v, held %v", w.given, m.Held("cluster"))
	}
	if err := errors.Join(m.ReleaseAddress(p.ID, a), m.ReleasePool(p.ID)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"claim gateway 10.0.0.1", "claim  10.0.0.4", "release  10.0.0.4", "leave 10.0.0.0/24"}; !slices.Equal(c.said, want) {
		t.Errorf("the backend was told %q, want %q", c.said, want)
	}
}

// An engine that starts is answered whether or not the cluster can be, and what
// is known is not claimed again.
func TestReplaysOfABackend(t *testing.T) {
	w := newWorld()
	c := newCluster()
	m, p := inCluster(t, w, c)
	a := mustAddr(t, m, p, AddressRequest{Key: "web"})
	c.away, c.said = true, nil
	for _, lost := range []bool{false, true} {
		if lost {
			clear(w.given) // a reboot
		}
		m = w.start(t)
		engineStart(m)
		mustPool(t, m, "10.0.0.0/24") // the stored pool decides, whatever the options
		mustAddr(t, m, p, AddressRequest{Addr: a, Key: "web"})
		if lost != (len(c.said) == 1) {
			t.Errorf("the addresses of this boot are lost: %v; the backend was told %q", lost, c.said)
		}
		// A first start with --ip may come next: the engine does not know of it.
		if got, err := m.RequestAddress(p.ID, AddressRequest{Addr: addr("10.0.0.99"), Key: "new"}); !lost && !errors.Is(err, ErrAway) {
			t.Errorf("what the table does not have was given although nobody could be asked: %v, %v", got, err)
		}
	}
	w.backends = nil // the plugin is set up without it
	clear(w.given)
	m = w.start(t)
	engineStart(m)
	mustPool(t, m, "10.0.0.0/24")
	mustAddr(t, m, p, AddressRequest{Addr: a})
	if _, err := m.RequestAddress(p.ID, AddressRequest{}); err == nil || !strings.Contains(err.Error(), "docker plugin set") {
		t.Errorf("a new address without the backend: %v", err)
	}
}

// While a claim waits others go on, and nobody gets its candidates.
func TestAClaimThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := newCluster()
		m, p := inCluster(t, w, c)
		c.gate = make(chan struct{})
		got := make(chan netip.Addr, 8)
		for range 4 {
			go func() { got <- mustAddr(t, m, p, AddressRequest{}) }()
		}
		named := make(chan error, 1)
		synctest.Wait()
		for _, h := range m.Held("cluster")[0].Held {
			if !h.Busy {
				t.Errorf("%v is held already", h.Addr)
			}
		}
		go func() {
			_, err := m.RequestAddress(p.ID, AddressRequest{Addr: addr("10.0.0.1"), Key: "k"})
			named <- err
		}()
		synctest.Wait()
		close(c.gate)
		seen := map[netip.Addr]bool{}
		for range 4 {
			seen[<-got] = true
		}
		if err := <-named; len(seen) != 4 || !errors.Is(err, ErrInUse) {
			t.Errorf("%d addresses for four; one that was being claimed: %v", len(seen), err)
		}
	})
}

// What was claimed for a pool that went meanwhile is given back.
func TestAPoolThatGoesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := newCluster()
		m, p := inCluster(t, w, c)
		c.gate = make(chan struct{})
		ended := make(chan error)
		go func() {
			_, err := m.RequestAddress(p.ID, AddressRequest{})
			ended <- err
		}()
		synctest.Wait()
		if err := m.ReleasePool(p.ID); err != nil {
			t.Error(err)
		}
		close(c.gate)
		if err := <-ended; !errors.Is(err, ErrNoPool) || len(c.ours) != 0 || len(w.given) != 0 {
			t.Errorf("%v, claimed %v, given %v", err, c.ours, w.given)
		}
	})
}

// A server's choice is taken if it can be.
func TestABackendThatChooses(t *testing.T) {
	w := newWorld()
	c := newCluster()
	m, p := inCluster(t, w, c)
	w.own = []netip.Addr{addr("10.0.0.7")}
	mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.1"), Gateway: true})
	for choice, good := range map[string]bool{"10.0.0.5": true, "10.0.0.1": false, "10.0.0.7": false, "10.0.1.5": false} {
		c.server = addr(choice)
		got, err := m.RequestAddress(p.ID, AddressRequest{})
		if good != (err == nil) || good && got.Addr() != c.server {
			t.Errorf("%s: got %v, %v", choice, got, err)
		}
		if back := slices.Contains(c.said, "release  "+choice); back == good {
			t.Errorf("%s was given back: %v", choice, back)
		}
	}
	w.now = w.now.Add(time.Hour)
	if free := m.Candidates(p.Prefix, 4, func(netip.Addr) bool { return false }); free != nil {
		t.Errorf("a reserve is kept of what a server chooses from: %v", free)
	}
}

// An engine asks twice for a subnet that it does not like, and holds the first.
func TestASubnetThatTheHostIsInHasToBeGiven(t *testing.T) {
	c := newCluster()
	c.subnet = prefix("192.168.1.0/24")
	m, _ := inCluster(t, newWorld(), c)
	r := PoolRequest{Space: LocalSpace, Options: map[string]string{"backend": "cluster"}}
	if _, err := m.RequestPool(r); err != nil {
		t.Fatal(err)
	}
	if _, err := m.RequestPool(r); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "add --subnet 192.168.1.0/24") {
		t.Errorf("the second request: %v", err)
	}
}

func TestWrongOptionsSayWhatToDo(t *testing.T) {
	c := Config{Backends: map[string]Backend{SplitName: Split{}}, Missing: map[string]string{"etcd": "set ETCD_ENDPOINTS"}}
	m := &Manager{cfg: c, pools: map[string]*pool{}, leaving: map[string]bool{}}
	for name, tc := range map[string]struct {
		options map[string]string
		says    string
	}{
		"another backend's":    {map[string]string{"hosts": "4"}, "is of backend split, and this network has backend embedded: give --ipam-opt backend=split"},
		"misspelt":             {map[string]string{"backend": "split", "host": "4"}, `did you mean "hosts"`},
		"one that is not set":  {map[string]string{"backend": "etcd"}, "set ETCD_ENDPOINTS"},
		"one that is not":      {map[string]string{"backend": "etc"}, "this plugin has embedded, split"},
		"without a number":     {map[string]string{"backend": "split", "hosts": "4"}, "host_index"},
		"a number too high":    {map[string]string{"backend": "split", "hosts": "4", "host_index": "4"}, "of 4 hosts, the last is 3"},
		"more hosts than room": {map[string]string{"backend": "split", "hosts": "128", "host_index": "4"}, "too few for 128 hosts"},
	} {
		_, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: netip.MustParsePrefix("10.0.0.0/24"), Options: tc.options})
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
