package network

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsShared(t *testing.T) {
	lan := netip.MustParsePrefix("192.0.2.0/24")
	mine := func(change map[string]string) map[string]string {
		all := map[string]string{"mode": "macvlan", "macvlan_mode": "bridge", "internal": "false", "mtu": "that of the parent", "parent": "eth0", "vlan": "none"}
		for k, v := range change {
			if all[k] = v; v == "" {
				delete(all, k)
			}
		}
		return all
	}
	for name, tc := range map[string]struct {
		options  map[string]string
		aux      []netip.Addr
		internal bool
		want     map[string]string
	}{
		"macvlan":                    {map[string]string{"parent": "eth0"}, nil, false, mine(nil)},
		"private":                    {map[string]string{"parent": "eth0", "macvlan_mode": "private"}, nil, false, mine(map[string]string{"macvlan_mode": "private"})},
		"a VLAN":                     {map[string]string{"parent": "eth0", "vlan": "7"}, nil, false, mine(map[string]string{"vlan": "7"})},
		"a VLAN by its name":         {map[string]string{"parent": "eth0.7"}, nil, false, mine(map[string]string{"vlan": "7"})},
		"a MAC is a host's own":      {map[string]string{"parent": "mac:02:00:5e:00:53:01"}, nil, false, mine(map[string]string{"parent": ""})},
		"a route":                    {map[string]string{"parent": "route:10.0.0.0/8"}, nil, false, mine(map[string]string{"parent": "route:10.0.0.0/8"})},
		"an MTU":                     {map[string]string{"parent": "eth0", "mtu": "1400"}, nil, false, mine(map[string]string{"mtu": "1400"})},
		"internal":                   {map[string]string{"parent": "eth0"}, nil, true, mine(map[string]string{"internal": "true"})},
		"set aside, in order":        {map[string]string{"parent": "eth0"}, addrs("192.0.2.3", "192.0.2.2"), false, mine(map[string]string{"aux-address": "192.0.2.2,192.0.2.3"})},
		"the host's address is its":  {map[string]string{"parent": "eth0", "host_access": "true", "host_address": "192.0.2.4"}, addrs("192.0.2.4"), false, mine(nil)},
		"a bridge, by its uplink":    {map[string]string{"mode": "bridge", "uplink": "eth0"}, nil, false, mine(map[string]string{"mode": "bridge", "macvlan_mode": "", "isolated_ports": "false"})},
		"a bridge by any name":       {map[string]string{"mode": "bridge", "uplink": "eth0", "com.docker.network.bridge.name": "br7"}, nil, false, mine(map[string]string{"mode": "bridge", "macvlan_mode": "", "isolated_ports": "false"})},
		"an existing bridge's wires": {map[string]string{"mode": "bridge", "bridge": "br7"}, nil, false, mine(map[string]string{"mode": "bridge", "macvlan_mode": "", "isolated_ports": "false", "parent": "", "vlan": ""})},
	} {
		d, err := Parse(Request{ID: "n", Options: tc.options, Internal: tc.internal, IPv4: true, Pools: []Pool{{Prefix: lan, Aux: tc.aux}, {Prefix: netip.MustParsePrefix("198.51.100.0/24"), Aux: addrs("198.51.100.9")}}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(tc.want, d.Shared(lan)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
