package network

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

const vlanOfOurs = "ours: VLAN"

// someHost has two NICs with routes, a bond, a bridge and VLANs.
func someHost() *hostView {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	dst := netip.MustParsePrefix
	return &hostView{
		links: []kernel.Link{
			{Index: 1, Name: "lo", Type: "device"},
			{Index: 2, Name: "eth0", Type: "device", MAC: mac(2), PermMAC: mac(2)},
			{Index: 3, Name: "eth1", Type: "device", MAC: mac(3), PermMAC: mac(3)},
			{Index: 4, Name: "bond0", Type: "bond", MAC: mac(5)},
			{Index: 5, Name: "ens5", Type: "device", MAC: mac(5), PermMAC: mac(5), Master: 4},
			{Index: 6, Name: "ens6", Type: "device", MAC: mac(5), PermMAC: mac(6), Master: 4},
			{Index: 7, Name: "eth0.7", Type: "vlan", MAC: mac(2), Parent: 2, VLAN: 7},
			{Index: 8, Name: "office", Type: "vlan", MAC: mac(3), Parent: 3, VLAN: 8},
			{Index: 9, Name: "eth1.9", Type: "vlan", MAC: mac(3), Parent: 3, VLAN: 9, Alias: vlanOfOurs},
			{Index: 10, Name: "dlm-00000000000", Type: "macvlan", MAC: mac(3), Parent: 3, Alias: "dockline:x:network:n"},
			{Index: 11, Name: "twin1", Type: "device", MAC: mac(11)},
			{Index: 12, Name: "twin2", Type: "device", MAC: mac(11)},
		},
		ways: []kernel.WayOut{
			{Dst: dst("0.0.0.0/0"), Link: 2, Metric: 100},
			{Dst: dst("192.0.2.0/24"), Link: 2},
			{Dst: dst("10.1.0.0/16"), Link: 3},
			{Dst: dst("10.1.5.5/32"), Link: 10},
			{Dst: dst("172.16.1.0/24"), Link: 2},
			{Dst: dst("172.16.2.0/24"), Link: 3},
			{Dst: dst("198.51.100.0/24"), Link: 2, Metric: 200},
			{Dst: dst("198.51.100.0/24"), Link: 3, Metric: 100},
			{Dst: dst("203.0.113.0/24"), Link: 2},
			{Dst: dst("203.0.113.0/24"), Link: 3},
			{Dst: dst("::/0"), Link: 4},
			{Dst: dst("fe80::/64"), Link: 2},
		},
		owns: func(alias string) bool { return alias == vlanOfOurs },
	}
}

func TestParentRules(t *testing.T) {
	for _, tc := range []struct {
		name, parent string
		vlan         int
		want         string // the parent's name, and for a VLAN of ours its base and id
		err          string
	}{
		{name: "by name", parent: "eth1", want: "eth1"},
		{name: "the first there is", parent: "eno1, ens9,bond0,eth0", want: "bond0"},
		{name: "none there is", parent: "eno1,ens9", err: "none of these interfaces exists; this host has eth0 (02:00:00:00:00:02), eth1"},
		{name: "one that is not", parent: "eno1", err: "no such interface"},
		{name: "by MAC", parent: "mac:02:00:00:00:00:03", want: "eth1"},
		{name: "by MAC, a bond and not its ports", parent: "mac:02:00:00:00:00:05", want: "bond0"},
		{name: "by MAC, of nobody", parent: "mac:02:00:00:00:00:06", err: "no interface fits"},
		{name: "by MAC, of two", parent: "mac:02:00:00:00:00:0B", err: "twin1 and twin2 fit"},
		{name: "by a route", parent: "route:10.1.0.0/16", want: "eth1"},
		{name: "by a route that covers it", parent: "route:10.1.2.0/24", want: "eth1"},
		{name: "by an address, past our own routes", parent: "route:10.1.5.5", want: "eth1"},
		{name: "by the routes within", parent: "route:10.0.0.0/8", want: "eth1"},
		{name: "by the routes within, of two", parent: "route:172.16.0.0/12", err: "eth0 and eth1 fit"},
		{name: "by the default route", parent: "route:8.8.8.8", want: "eth0"},
		{name: "by the default route itself", parent: "route:0.0.0.0/0", want: "eth0"},
		{name: "by the default route of IPv6", parent: "route:2001:db8::/32", want: "bond0"},
		{name: "by the better of two routes", parent: "route:198.51.100.0/24", want: "eth1"},
		{name: "by one route over two links", parent: "route:203.0.113.7", err: "eth0 and eth1 fit"},
		{name: "a VLAN to be made", parent: "eth0.100", want: "eth0.100 eth0 100"},
		{name: "a VLAN to be made, by its id", parent: "eth0", vlan: 100, want: "eth0.100 eth0 100"},
		{name: "a VLAN of what a rule finds", parent: "route:10.1.0.0/16", vlan: 5, want: "eth1.5 eth1 5"},
		{name: "a VLAN in a list", parent: "eno1.5,eth1.5", want: "eth1.5 eth1 5"},
		{name: "the host's own VLAN", parent: "eth0.7", want: "eth0.7"},
		{name: "the host's own VLAN, by its id", parent: "eth0", vlan: 7, want: "eth0.7"},
		{name: "the host's own VLAN of another name", parent: "eth1.8", want: "office"},
		{name: "our own VLAN", parent: "eth1.9", want: "eth1.9 eth1 9"},
		{name: "our own VLAN, by its id", parent: "eth1", vlan: 9, want: "eth1.9 eth1 9"},
		{name: "a VLAN of a VLAN to be made", parent: "eth0.100", vlan: 5, err: "not offered"},
		{name: "a VLAN of nothing", parent: "eno1.100", err: "no such interface"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rule, err := parseParent(keyParent, tc.parent)
			if err != nil {
				t.Fatal(err)
			}
			rule.VLAN = tc.vlan
			f, err := someHost().resolve(rule)
			got := f.parent
			if f.vlan != nil {
				got += " " + f.vlan.Base + " " + strings.TrimLeft(strings.TrimPrefix(f.parent, f.vlan.Base), ".")
			}
			switch {
			case tc.err == "" && (err != nil || got != tc.want):
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			case tc.err != "" && (!errors.Is(err, ErrNoParent) || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}
