package ipam

import (
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func splitOptions(index, hosts int) map[string]string {
	return map[string]string{"backend": SplitName, "host_index": strconv.Itoa(index), "hosts": strconv.Itoa(hosts)}
}

// The shares of all hosts are the whole range, each address in one of them.
func TestShares(t *testing.T) {
	for _, tc := range []struct {
		rng   string
		hosts int
	}{{"10.0.0.0/24", 1}, {"10.0.0.0/24", 3}, {"10.0.0.0/24", 64}, {"10.0.0.0/8", 4096}, {"fd00::/64", 7}, {"fd00::/120", 10}, {"fd00::/48", 3}} {
		p := Pool{Prefix: prefix(tc.rng), Range: prefix(tc.rng)}
		next := p.Range.Addr()
		for i := range tc.hosts {
			p.Options = splitOptions(i, tc.hosts)
			v := Split{}.View(p, Owner{})
			if v.First != next || v.Last.Less(v.First) {
				t.Errorf("%s: host %d of %d has %s to %s, want from %s", tc.rng, i, tc.hosts, v.First, v.Last, next)
			}
			next = v.Last.Next()
		}
		if want := last(p.Range).Next(); next != want {
			t.Errorf("%s: %d hosts leave something behind %s", tc.rng, tc.hosts, next)
		}
	}
}

func TestHostsOfASplitRange(t *testing.T) {
	seen := map[netip.Addr]int{}
	gateway, aux := addr("10.0.0.129"), addr("10.0.0.130")
	for i := range 4 {
		w := newWorld()
		w.backends = map[string]Backend{SplitName: Split{}}
		m := w.start(t)
		p, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix("10.0.0.0/24"), Range: prefix("10.0.0.128/26"), Options: splitOptions(i, 4)})
		if err != nil {
			t.Fatal(err)
		}
		mustAddr(t, m, p, AddressRequest{Addr: gateway, Gateway: true})
		mustAddr(t, m, p, AddressRequest{Addr: aux})
		w.now = w.now.Add(auxWithin + 1)
		mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.5")}) // outside of the range: the user's own affair
		for n := 0; ; n++ {
			got, err := m.RequestAddress(p.ID, AddressRequest{Key: strconv.Itoa(n)})
			if err != nil {
				break
			}
			if before, twice := seen[got.Addr()]; twice || got.Addr() == gateway || got.Addr() == aux {
				t.Errorf("host %d gives %s, which is host %d's", i, got, before)
			}
			seen[got.Addr()] = i
		}
		other := netip.AddrFrom4([4]byte{10, 0, 0, byte(128 + (i+1)%4*16 + 8)})
		if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: other}); err == nil || !strings.Contains(err.Error(), "share of host") {
			t.Errorf("host %d gives %s by name: %v", i, other, err)
		}
	}
	if len(seen) != 64-2 {
		t.Errorf("%d addresses were given, want all but the gateway and what is set aside", len(seen))
	}
}

func TestSettingsOfASplit(t *testing.T) {
	for _, tc := range []struct {
		defaults map[string]string
		options  map[string]string
		subnet   string
		want     string // of the error; "" for none
	}{
		{nil, splitOptions(0, 4), "10.0.0.0/24", ""},
		{splitOptions(1, 2), nil, "10.0.0.0/24", ""},
		{nil, map[string]string{"backend": "split"}, "10.0.0.0/24", "needs hosts"},
		{nil, splitOptions(4, 4), "10.0.0.0/24", "the last is 3"},
		{nil, splitOptions(-1, 4), "10.0.0.0/24", "host_index"},
		{nil, map[string]string{"backend": "split", "hosts": "many"}, "10.0.0.0/24", `hosts="many"`},
		{nil, map[string]string{"backend": "split", "host": "1"}, "10.0.0.0/24", `"hosts"`},
		{nil, splitOptions(0, 17), "10.0.0.0/26", "64 addresses, too few for 17 hosts"},
		{nil, splitOptions(0, 4), "", "--subnet"},
	} {
		w := newWorld()
		w.backends, w.defaults = map[string]Backend{SplitName: Split{}}, tc.defaults
		r := PoolRequest{Space: LocalSpace, Options: maps.Clone(tc.options)}
		if tc.subnet != "" {
			r.Prefix = prefix(tc.subnet)
		}
		p, err := w.start(t).RequestPool(r)
		if tc.want == "" && (err != nil || p.Options["hosts"] == "") || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v %v: %v, %v; want %q", tc.defaults, tc.options, p.Options, err, tc.want)
		}
	}
}
