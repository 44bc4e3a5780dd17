package network

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/netdriver/kernel"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name  string
		o     map[string]string
		v6    bool
		pools bool // it has a subnet
		want  func(Definition) bool
		err   string // part of the error's text, which users read
	}{
		{name: "macvlan is the default", o: map[string]string{"parent": "eth0"},
			want: func(d Definition) bool { return d.Mode == Macvlan && d.Rule.String() == "eth0" && d.IfPrefix == "eth" }},
		{name: "as for the built-in driver", o: map[string]string{"parent": "eth0.10", "macvlan_mode": "bridge", "com.docker.network.driver.mtu": "1400"},
			want: func(d Definition) bool { return d.Rule.String() == "eth0.10" && d.MTU == 1400 }},
		{name: "uplink is the parent of a bridge", o: map[string]string{"mode": "bridge", "uplink": "eth1"},
			want: func(d Definition) bool {
				return d.Mode == Bridge && d.Rule.String() == "eth1" && strings.HasPrefix(d.BridgeName, "dlb-")
			}},
		{name: "a bridge's name", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.name": "lan0"},
			want: func(d Definition) bool { return d.BridgeName == "lan0" && d.Rule == nil }},
		{name: "host access", o: map[string]string{"mode": "bridge", "host_access": "true"},
			want: func(d Definition) bool { return d.HostAccess }},
		{name: "an existing bridge", o: map[string]string{"mode": "bridge", "bridge": "br0"},
			want: func(d Definition) bool { return d.BridgeName == "br0" && d.Foreign && d.Port == (kernel.Port{}) }},
		{name: "how ports behave", o: map[string]string{"mode": "bridge", "hairpin": "true", "isolated_ports": "true", "learning": "false", "unicast_flood": "false", "multicast_flood": "false", "broadcast_flood": "false"},
			want: func(d Definition) bool {
				return d.Port == (kernel.Port{Hairpin: true, Isolated: true, NoLearning: true, NoUnicastFlood: true, NoMulticastFlood: true, NoBroadcastFlood: true})
			}},
		{name: "in the built-in driver's words", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.enable_icc": "false"},
			want: func(d Definition) bool { return d.Port == (kernel.Port{Isolated: true}) }},
		{name: "the kernel's own, said", o: map[string]string{"mode": "bridge", "hairpin": "false", "learning": "true", "broadcast_flood": "true", "com.docker.network.bridge.enable_icc": "true"},
			want: func(d Definition) bool { return d.Port == (kernel.Port{}) }},
		{name: "the host's addresses", o: map[string]string{"mode": "bridge", "uplink": "eth0", "move_host_addresses": "true"},
			want: func(d Definition) bool { return d.MoveHost && d.ConfirmWithin == time.Minute }},
		{name: "more time", o: map[string]string{"mode": "bridge", "uplink": "eth0", "move_host_addresses": "true", "confirm_within": "5m"},
			want: func(d Definition) bool { return d.ConfirmWithin == 5*time.Minute }},
		{name: "a bridge without the mode", o: map[string]string{"bridge": "br0"}, err: "belongs to mode=bridge"},
		{name: "no bridge's name", o: map[string]string{"mode": "bridge", "bridge": ""}, err: "not a name"},
		{name: "ports of macvlan", o: map[string]string{"parent": "eth0", "hairpin": "true"}, err: "no meaning with mode=macvlan"},
		{name: "neither true nor false", o: map[string]string{"mode": "bridge", "learning": "sometimes"}, err: "not true or false"},
		{name: "isolated and not", o: map[string]string{"mode": "bridge", "isolated_ports": "false", "com.docker.network.bridge.enable_icc": "false"}, err: "one of the two"},
		{name: "nothing to move", o: map[string]string{"mode": "bridge", "move_host_addresses": "true"}, err: "the uplink whose addresses"},
		{name: "moving with macvlan", o: map[string]string{"parent": "eth0", "move_host_addresses": "true"}, err: "needs mode=bridge"},
		{name: "time for nothing", o: map[string]string{"parent": "eth0", "confirm_within": "1m"}, err: "no meaning without"},
		{name: "no time", o: map[string]string{"mode": "bridge", "uplink": "eth0", "move_host_addresses": "true", "confirm_within": "1s"}, err: "from 5s to 1h"},
		{name: "the wire is asked unless told otherwise", o: map[string]string{"parent": "eth0"},
			want: func(d Definition) bool { return !d.NoProbe }},
		{name: "the wire is not asked", o: map[string]string{"parent": "eth0", "probe": "false"},
			want: func(d Definition) bool { return d.NoProbe }},
		{name: "peers to be probed", o: map[string]string{"parent": "eth0", "probe_peers": "10.0.0.9, ::ffff:10.0.0.10"}, pools: true,
			want: func(d Definition) bool {
				return slices.Equal(d.ProbePeers, []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.10")})
			}},
		{name: "a peer elsewhere", o: map[string]string{"parent": "eth0", "probe_peers": "10.0.1.9"}, pools: true, err: "10.0.1.9 is not in a subnet of the network"},
		{name: "a peer twice", o: map[string]string{"parent": "eth0", "probe_peers": "10.0.0.9,10.0.0.9"}, pools: true, err: "10.0.0.9 is there twice"},
		{name: "a peer by name", o: map[string]string{"parent": "eth0", "probe_peers": "nas"}, pools: true, err: `"nas" is no address`},
		{name: "peers, and no probes", o: map[string]string{"parent": "eth0", "probe": "false", "probe_peers": "10.0.0.9"}, pools: true, err: "no meaning with probe=false"},
		{name: "too many peers", o: map[string]string{"parent": "eth0", "probe_peers": "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9"}, pools: true, err: "9 addresses; at most 8"},
		{name: "another mode", o: map[string]string{"mode": "ipvlan"}, err: "not one of macvlan, bridge"},
		{name: "another macvlan mode", o: map[string]string{"parent": "eth0", "macvlan_mode": "vepa"},
			want: func(d Definition) bool { return d.MacvlanMode == kernel.MacvlanVEPA }},
		{name: "a VLAN", o: map[string]string{"parent": "eth0", "vlan": "100"},
			want: func(d Definition) bool { return d.Rule.VLAN == 100 }},
		{name: "a sub-interface with a long name", o: map[string]string{"parent": "enx0011223344.4094"},
			want: func(d Definition) bool { return d.Rule.String() == "enx0011223344.4094" }},
		{name: "no macvlan mode", o: map[string]string{"macvlan_mode": "hub"}, err: "not one of bridge, private, vepa, passthru"},
		{name: "a VLAN of nothing", o: map[string]string{"vlan": "100"}, err: "of what?"},
		{name: "a VLAN too high", o: map[string]string{"parent": "eth0", "vlan": "4095"}, err: "from 1 to 4094"},
		{name: "half a MAC", o: map[string]string{"parent": "mac:02:42"}, err: "not a hardware address"},
		{name: "no route", o: map[string]string{"parent": "route:default"}, err: "not a destination"},
		{name: "a list with a gap", o: map[string]string{"parent": "eth0,,eth1"}, err: "not the name of an interface"},
		{name: "host access past private", o: map[string]string{"parent": "eth0", "macvlan_mode": "private", "host_access": "true"}, err: "needs macvlan_mode=bridge"},
		{name: "host address without access", o: map[string]string{"parent": "eth0", "host_address": "10.0.0.2"}, err: "host_access=true"},
		{name: "host address elsewhere", o: map[string]string{"parent": "eth0", "host_access": "true", "host_address": "10.0.0.2"}, err: "not an address in a subnet"},
		{name: "macvlan mode of a bridge", o: map[string]string{"mode": "bridge", "macvlan_mode": "bridge"}, err: "no meaning"},
		{name: "two wires", o: map[string]string{"mode": "bridge", "parent": "eth0", "uplink": "eth1"}, err: "one of the two"},
		{name: "uplink of macvlan", o: map[string]string{"uplink": "eth1"}, err: "give parent=eth1"},
		{name: "no interface name", o: map[string]string{"parent": "../x"}, err: "not the name of an interface"},
		{name: "bridge name too long", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.name": "abcdefghijklmnop"}, err: "1 to 15"},
		{name: "MTU of no number", o: map[string]string{"mtu": "big"}, err: "from 68 to 65535"},
		{name: "MTU too small for IPv6", o: map[string]string{"mtu": "1200"}, v6: true, err: "from 1280"},
		{name: "two MTUs", o: map[string]string{"mtu": "1400", "com.docker.network.driver.mtu": "1500"}, err: "one of the two"},
		{name: "host access with an uplink", o: map[string]string{"mode": "bridge", "uplink": "eth1", "host_access": "true"}, err: "not offered with an uplink"},
		{name: "a switch that is neither", o: map[string]string{"allow_overlap": "maybe"}, err: "not true or false"},
		{name: "nothing translated, as here", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.enable_ip_masquerade": "false"},
			want: func(d Definition) bool { return d.Mode == Bridge }},
		{name: "masquerading", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.enable_ip_masquerade": "true"}, err: "nothing is translated"},
		{name: "published ports", o: map[string]string{"mode": "bridge", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}, err: "no port is published"},
		{name: "ipvlan", o: map[string]string{"parent": "eth0", "ipvlan_mode": "l2"}, err: "ipvlan is not offered"},
		{name: "two host addresses of a family", o: map[string]string{"parent": "eth0", "host_access": "true", "host_address": "10.0.0.2,10.0.0.3"}, pools: true, err: "one address of each family"},
		{name: "unknown", o: map[string]string{"paret": "eth0"}, err: `did you mean "parent"?`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			request := Request{ID: "n", Options: tc.o, IPv6: tc.v6}
			if tc.pools {
				request.Pools = []Pool{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}}
			}
			d, err := Parse(request)
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
		"existing bridge":         {Definition{Mode: Bridge, Foreign: true}, true},
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
