package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    map[string]string
		v6   bool
		want func(Definition) bool
		err  string // part of the error's text, which users read
	}{
		{name: "macvlan is the default", o: map[string]string{"parent": "eth0"},
			want: func(d Definition) bool { return d.Mode == Macvlan && d.Parent == "eth0" && d.IfPrefix == "eth" }},
		{name: "as for the built-in driver", o: map[string]string{"parent": "eth0.10", "macvlan_mode": "bridge", "com.docker.network.driver.mtu": "1400"},
			want: func(d Definition) bool { return d.Parent == "eth0.10" && d.MTU == 1400 }},
		{name: "uplink is the parent of a bridge", o: map[string]string{"mode": "bridge", "uplink": "eth1"},
			want: func(d Definition) bool {
				return d.Mode == Bridge && d.Parent == "eth1" && strings.HasPrefix(d.BridgeName, "dlb-")
			}},
		{name: "a bridge's name", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.name": "lan0"},
			want: func(d Definition) bool { return d.BridgeName == "lan0" && d.Parent == "" }},
		{name: "host access", o: map[string]string{"mode": "bridge", "host_access": "true"},
			want: func(d Definition) bool { return d.HostAccess }},
		{name: "the wire is asked unless told otherwise", o: map[string]string{"parent": "eth0"},
			want: func(d Definition) bool { return !d.NoProbe }},
		{name: "the wire is not asked", o: map[string]string{"parent": "eth0", "probe": "false"},
			want: func(d Definition) bool { return d.NoProbe }},
		{name: "another mode", o: map[string]string{"mode": "ipvlan"}, err: "not one of macvlan, bridge"},
		{name: "another macvlan mode", o: map[string]string{"macvlan_mode": "vepa"}, err: "not offered yet"},
		{name: "no macvlan mode", o: map[string]string{"macvlan_mode": "hub"}, err: "not a mode of macvlan"},
		{name: "macvlan mode of a bridge", o: map[string]string{"mode": "bridge", "macvlan_mode": "bridge"}, err: "no meaning"},
		{name: "two wires", o: map[string]string{"mode": "bridge", "parent": "eth0", "uplink": "eth1"}, err: "one of the two"},
		{name: "uplink of macvlan", o: map[string]string{"uplink": "eth1"}, err: "give parent=eth1"},
		{name: "no interface name", o: map[string]string{"parent": "../x"}, err: "not the name of an interface"},
		{name: "bridge name too long", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.name": "abcdefghijklmnop"}, err: "1 to 15"},
		{name: "MTU of no number", o: map[string]string{"mtu": "big"}, err: "from 68 to 65535"},
		{name: "MTU too small for IPv6", o: map[string]string{"mtu": "1200"}, v6: true, err: "from 1280"},
		{name: "two MTUs", o: map[string]string{"mtu": "1400", "com.docker.network.driver.mtu": "1500"}, err: "one of the two"},
		{name: "host access with an uplink", o: map[string]string{"mode": "bridge", "uplink": "eth1", "host_access": "true"}, err: "without an uplink"},
		{name: "a switch that is neither", o: map[string]string{"allow_overlap": "maybe"}, err: "not true or false"},
		{name: "unknown", o: map[string]string{"paret": "eth0"}, err: `did you mean "parent"?`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Parse(Request{ID: "n", Options: tc.o, IPv6: tc.v6})
			switch {
			case tc.err == "" && (err != nil || !tc.want(d)):
				t.Errorf("got %+v, %v", d, err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func TestAValueErrorNamesItsKey(t *testing.T) {
	_, err := Parse(Request{ID: "n", Options: map[string]string{"mtu": "7"}})
	var value *options.ValueError
	if !errors.As(err, &value) || value.Key != "mtu" || value.Value != "7" {
		t.Errorf("got %v", err)
	}
}

func TestGateway(t *testing.T) {
	pools := []Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}
	for name, tc := range map[string]struct {
		d    Definition
		want bool
	}{
		"macvlan":                 {Definition{Mode: Macvlan, Parent: "eth0"}, true},
		"internal macvlan":        {Definition{Mode: Macvlan, Parent: "eth0", Internal: true}, false},
		"bridge with an uplink":   {Definition{Mode: Bridge, Parent: "eth1"}, true},
		"isolated bridge":         {Definition{Mode: Bridge}, false},
		"isolated, host on it":    {Definition{Mode: Bridge, HostAccess: true}, true},
		"internal, host on it":    {Definition{Mode: Bridge, HostAccess: true, Internal: true}, false},
		"an address of elsewhere": {Definition{Mode: Macvlan, Parent: "eth0", Pools: []Pool{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}}}, false},
	} {
		if tc.d.Pools == nil {
			tc.d.Pools = pools
		}
		if got := tc.d.Gateway(netip.MustParsePrefix("10.0.0.5/24")); got.IsValid() != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
