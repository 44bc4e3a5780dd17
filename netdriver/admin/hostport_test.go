package admin

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

func TestStatusOfTheHostsPort(t *testing.T) {
	host := newSpace(t)
	p := newPlugin(t, host)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nic0"
	nic := netlink.NewVeth(attrs)
	nic.PeerName = "nic0-peer"
	ok(t, host.lib.LinkAdd(nic))
	pool, err := p.IPAM.RequestPool(ipam.PoolRequest{Space: ipam.LocalSpace, Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	ok(t, err)
	d, err := network.Parse(network.Request{
		ID: "n", Options: map[string]string{"parent": "nic0", "host_access": "true"}, IPv4: true,
		Pools: []network.Pool{{Space: pool.Space, Prefix: pool.Prefix}},
	})
	ok(t, err)
	ok(t, p.Networks.Create(d))
	name := kernel.HostPortName("n")
	for _, step := range []struct {
		do   func(netlink.Link) error
		want string
	}{
		{func(netlink.Link) error { return nil }, ""},
		{host.lib.LinkSetDown, "the host's port " + name + " is down"},
		{host.lib.LinkDel, "the host's port " + name + " is missing"},
	} {
		l, err := host.lib.LinkByName(name)
		ok(t, err)
		ok(t, step.do(l))
		if got := differences(t, p); got != step.want {
			t.Errorf("differences %q, want %q", got, step.want)
		}
	}
}
