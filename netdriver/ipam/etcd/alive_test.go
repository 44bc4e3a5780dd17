package etcd

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
)

// Two processes of one machine are not one host at once: the earlier one ends.
func TestATwin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	p := a.pool(subnet)
	await(t, "a is alive", func() bool { return len(s.keys("alive/")) == 1 })
	newHost(t, "a", s.endpoint)
	await(t, "the alarm", a.faulty)
	if _, err := a.RequestAddress(p.ID, ipam.AddressRequest{}); err == nil || !strings.Contains(err.Error(), "has the id of this one") {
		t.Errorf("a new address: %v", err)
	}
}

// A machine that was copied with the plugin's state, and one that starts again so
// soon that it still counts as alive, cannot be told apart at first: it takes over
// nothing, gives nothing back, and works with what is new.
func TestACopiedMachine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := startHost(t, &host{t: t, id: "a", boot: "1", settings: Settings{Endpoints: []string{s.endpoint}, Prefix: DefaultPrefix}, said: &bytes.Buffer{}})
	p := a.pool("10.0.0.0/28")
	await(t, "a is alive", func() bool { return len(s.keys("alive/")) == 1 })
	var had []string
	for range 6 {
		had = append(had, key(a.get(p, "")))
	}
	copied := &host{t: t, id: "a", boot: "2", settings: a.settings, said: &bytes.Buffer{}, pools: table[ipam.Pool]{all: maps.Clone(a.pools.all)}}
	startHost(t, copied)
	for range 4 {
		if got := key(copied.get(p, "")); slices.Contains(had, got) {
			t.Errorf("the copy got %s, which a has", got)
		}
	}
	if _, err := copied.RequestAddress(p.ID, ipam.AddressRequest{Addr: addr(had[0][len("address/default/"):])}); err == nil {
		t.Error("the copy got an address that a has, by name")
	}
	ok(t, copied.ReleasePool(p.ID)) // which gives back what is of the network
	copied.b.mu.Lock()
	copied.b.doubted = copied.b.doubted.Add(-twinAfter)
	copied.b.mu.Unlock()
	await(t, "the copy's alarm", copied.faulty)
	copied.b.Kick()
	all := s.keys("address/")
	for _, k := range had {
		if all[k] == "" {
			t.Errorf("%s was given back, and a has it", k)
		}
	}
	if a.faulty() {
		t.Errorf("a, which was there first: %s", a.b.Status().Fault)
	}
	a.get(p, "")
	a.end()
	_, err := s.client.Delete(t.Context(), DefaultPrefix+"/alive/a") // its lease has ended
	ok(t, err)
	await(t, "the copy is the host", func() bool { return !copied.faulty() })
	ok(t, copied.gateway(copied.pool("10.0.1.0/24"), ""))
}

// Clocks do not say who of two was first.
func TestACopyWithAnotherClock(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := newHost(t, "a", s.endpoint)
	await(t, "a is alive", func() bool { return len(s.keys("alive/")) == 1 })
	_, err := s.client.Put(t.Context(), DefaultPrefix+"/alive/a", `{"host":"a","host_name":"copy","since":"2001-01-01T00:00:00Z","id":"other","boot":"2"}`)
	ok(t, err)
	await(t, "the alarm", a.faulty)
}
