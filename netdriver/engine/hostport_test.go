package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/kernel"
)

const lanPool, lanPool6 = "dockline-local/10.9.0.0/24", "dockline-local/fd09::/64"

// hostAccess makes the network n on the LAN that the host itself is in, with our
// own IPAM.
func (h *host) hostAccess(options string) {
	h.t.Helper()
	h.ok("IpamDriver.GetCapabilities", "")
	for pool, gateway := range map[string]string{"10.9.0.0/24": "10.9.0.1", "fd09::/64": "fd09::1"} {
		h.ok("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local","Pool":"`+pool+`"}`)
		h.ok("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/`+pool+`","Address":"`+gateway+`","Options":{"RequestAddressType":"com.docker.network.gateway"}}`)
	}
	h.ok("NetworkDriver.CreateNetwork", hostAccessBody(options))
}

func hostAccessBody(options string) string {
	return `{"NetworkID":"n","Options":{"com.docker.network.generic":{"parent":"nic0","host_access":"true"` + options + `}},` +
		`"IPv4Data":[{"AddressSpace":"dockline-local","Pool":"10.9.0.0/24","Gateway":"10.9.0.1"}],"IPv6Data":[{"AddressSpace":"dockline-local","Pool":"fd09::/64","Gateway":"fd09::1"}]}`
}

// routed lists where the host has routes to by its port.
func (h *host) routed() []string {
	h.t.Helper()
	all := must[[]netlink.Route](h.t)(h.lib.RouteListFiltered(netlink.FAMILY_ALL,
		&netlink.Route{LinkIndex: h.link(kernel.HostPortName("n")).Attrs().Index, Protocol: 0xd1}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL))
	var to []string
	for _, r := range all {
		to = append(to, r.Dst.IP.String())
	}
	slices.Sort(to)
	return to
}

func (h *host) wantRouted(when string, want ...string) {
	h.t.Helper()
	if got := h.routed(); !slices.Equal(got, want) {
		h.t.Errorf("%s: routes to %v, want %v", when, got, want)
	}
}

func TestHostAccess(t *testing.T) {
	h := newHost(t)
	far := h.lan("nic0", "10.9.0.100/24", "fd09::100/64")
	h.hostAccess("")
	a := h.run("a", "10.9.0.7/24", "fd09::7/64")
	h.wantRouted("with a container", "10.9.0.7", "fd09::7")
	port := "10.9.0.3" // .1 is the gateway, .2 the host's
	port6 := "fd09::2"
	for _, when := range []string{"at first", "after a restart"} {
		if from := h.place().reaches(a, "10.9.0.7"); from.String() != port {
			t.Errorf("%s: the container hears from %s", when, from)
		}
		if from := h.place().reaches(a, "fd09::7"); from.String() != port6 {
			t.Errorf("%s: the container hears from %s", when, from)
		}
		a.reaches(h.place(), port)
		a.reaches(h.place(), port6)
		a.reaches(far, "10.9.0.100")
		far.reaches(a, "10.9.0.7")
		h.place().reaches(far, "10.9.0.100")
		h.kill()
		h.start()
		h.wantRouted(when, "10.9.0.7", "fd09::7")
	}
	b := h.run("b", "10.9.0.8/24", "")
	h.wantRouted("with two", "10.9.0.7", "10.9.0.8", "fd09::7")
	h.stop("a", a)
	h.wantRouted("with one left", "10.9.0.8")
	h.stop("b", b)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.wantOurs(0, "after DeleteNetwork")
}

// What somebody deleted comes back, what is too much goes, and what somebody
// added himself stays.
func TestTheHostsPortIsRestored(t *testing.T) {
	h := newHost(t)
	h.lan("nic0")
	h.hostAccess("")
	a := h.run("a", "10.9.0.7/24", "")
	h.deleteLink(kernel.HostPortName("n"))
	h.reconcile()
	h.place().reaches(a, "10.9.0.7")
	port := h.link(kernel.HostPortName("n")).Attrs().Index
	for _, r := range []netlink.Route{
		{LinkIndex: port, Protocol: 0xd1, Scope: netlink.SCOPE_LINK, Dst: must[*netlink.Addr](t)(netlink.ParseAddr("10.9.0.99/32")).IPNet},
		{LinkIndex: port, Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK, Dst: must[*netlink.Addr](t)(netlink.ParseAddr("10.66.0.0/16")).IPNet},
	} {
		if err := h.lib.RouteAdd(&r); err != nil {
			t.Fatal(err)
		}
	}
	h.addAddr(kernel.HostPortName("n"), "10.66.6.6/32")
	h.reconcile()
	h.wantRouted("after a reconcile", "10.9.0.7")
	theirs := must[[]netlink.Route](t)(h.lib.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: port, Protocol: unix.RTPROT_STATIC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL))
	if len(theirs) != 1 {
		t.Errorf("the operator's own route is gone: %v", theirs)
	}
	if addrs := must[[]netip.Prefix](t)(h.k.Addrs(kernel.HostPortName("n"))); len(addrs) != 2 {
		t.Errorf("the port has %v", addrs)
	}
}

func TestTheHostsPortSurvivesAReboot(t *testing.T) {
	h := newHost(t)
	h.lan("nic0")
	h.hostAccess("")
	h.run("a", "10.9.0.7/24", "")
	h.kill()
	h.deleteLink(kernel.HostPortName("n")) // as the reboot does
	h.boot = "2"
	h.start()
	h.wantRouted("after a reboot")
	a := h.run("b", "10.9.0.9/24", "")
	h.place().reaches(a, "10.9.0.9")
	_, text := h.call("IpamDriver.RequestAddress", `{"PoolID":"`+lanPool+`","Address":"10.9.0.3"}`)
	if text == "" {
		reply, _ := h.call("IpamDriver.RequestAddress", `{"PoolID":"`+lanPool+`","Address":"10.9.0.3"}`)
		t.Errorf("the host's address was given out: %v", reply)
	}
}

func TestTheHostsAddressIsNeverGivenOut(t *testing.T) {
	h := newHost(t)
	h.hostAccess("")
	for range 20 {
		for pool, not := range map[string]string{lanPool: "10.9.0.3/24", lanPool6: "fd09::2/64"} {
			if reply := h.ok("IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`); reply["Address"] == not {
				t.Fatalf("given out: %v", reply)
			}
		}
	}
}

// The port answers ARP for its own address only, and on the LAN one machine
// answers for it.
func TestTheHostsPortAnswersForItselfOnly(t *testing.T) {
	h := newHost(t)
	far := h.lan("nic0", "10.9.0.100/24")
	h.hostAccess("")
	a := h.run("a", "10.9.0.7/24", "")
	port, nic := h.link(kernel.HostPortName("n")).Attrs().HardwareAddr.String(), h.link("nic0").Attrs().HardwareAddr.String()
	for _, tc := range []struct {
		from *place
		who  string
		sip  string
		want []string
	}{
		{a, "10.9.0.3", "10.9.0.7", []string{port}},
		{a, "10.9.0.2", "10.9.0.7", nil}, // the host's other address is not to be found here
		{far, "10.9.0.2", "10.9.0.100", []string{nic}},
		{far, "10.9.0.3", "10.9.0.100", []string{nic}},
	} {
		if got := tc.from.arp(tc.who, tc.sip, len(tc.want)); !slices.Equal(got, tc.want) {
			t.Errorf("who has %s? asks %s: %v answer, want %v", tc.who, tc.sip, got, tc.want)
		}
	}
}

// arp asks once on the wire and collects the answers until there are as many as
// expected, and then those of a third of a second more.
func (p *place) arp(who, sip string, expected int) (answers []string) {
	p.t.Helper()
	err := inside(p.ns, func() error {
		l, err := net.InterfaceByName(p.link)
		if err != nil {
			return err
		}
		const proto = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		all := unix.SockaddrLinklayer{Protocol: proto, Ifindex: l.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
		if err := unix.Bind(fd, &all); err != nil {
			return err
		}
		q := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, l.HardwareAddr...)
		q = append(append(append(q, netip.MustParseAddr(sip).AsSlice()...), make([]byte, 6)...), netip.MustParseAddr(who).AsSlice()...)
		if err := unix.Sendto(fd, q, 0, &all); err != nil {
			return err
		}
		const patience, more = 10 * time.Second, 300 * time.Millisecond
		deadline := time.Now().Add(more)
		if expected > 0 {
			deadline = time.Now().Add(patience)
		}
		for time.Now().Before(deadline) {
			tv := unix.NsecToTimeval(time.Until(deadline).Nanoseconds() + 1000)
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
				return err
			}
			b := make([]byte, 64)
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil || n < 28 {
				continue
			}
			if b[7] == 2 && net.IP(b[14:18]).String() == who {
				answers = append(answers, net.HardwareAddr(b[8:14]).String())
				if len(answers) == expected {
					deadline = time.Now().Add(more)
				}
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return answers
}

func TestHostAccessIsRefused(t *testing.T) {
	h := newHost(t)
	h.lan("nic0")
	engines := func(options, ipam string) string {
		return `{"NetworkID":"n","Options":{` + options + `},"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"10.1.0.0/24","Gateway":"10.1.0.1"` + ipam + `}],"IPv6Data":[]}`
	}
	generic := func(more string) string {
		return `"com.docker.network.generic":{"parent":"nic0","host_access":"true"` + more + `}`
	}
	for name, tc := range map[string]struct{ body, with string }{
		"private":                   {engines(generic(`,"macvlan_mode":"private"`), ""), "needs macvlan_mode=bridge"},
		"passthru":                  {engines(generic(`,"macvlan_mode":"passthru"`), ""), "needs macvlan_mode=bridge"},
		"internal":                  {engines(`"com.docker.network.internal":true,`+generic(""), ""), "is internal"},
		"the engine's IPAM":         {engines(generic(""), ""), "--aux-address host=ADDRESS"},
		"an address not set aside":  {engines(generic(`,"host_address":"10.1.0.9"`), ""), "--aux-address host=10.1.0.9"},
		"the gateway":               {engines(generic(`,"host_address":"10.1.0.1"`), ""), "is the gateway"},
		"an address of elsewhere":   {engines(generic(`,"host_address":"10.2.0.9"`), ""), "not an address in a subnet"},
		"two of a family":           {engines(generic(`,"host_address":"10.1.0.9,10.1.0.10"`), ""), "one address of each family"},
		"something else altogether": {engines(generic(`,"host_address":"x"`), ""), "not an address in a subnet"},
	} {
		t.Run(name, func(t *testing.T) { h.refused("NetworkDriver.CreateNetwork", tc.body, tc.with) })
	}
	h.wantOurs(0, "after refusals")
	h.ok("NetworkDriver.CreateNetwork", engines(generic(`,"host_address":"10.1.0.9"`), `,"AuxAddresses":{"host":"10.1.0.9/24"}`))
	a := h.run("a", "10.1.0.7/24", "")
	if from := h.place().reaches(a, "10.1.0.7"); fmt.Sprint(from) != "10.1.0.9" {
		t.Errorf("the container hears from %s", from)
	}
}

// The parent takes the port along, and the port comes back with it.
func TestTheHostsPortReturnsWithItsParent(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", `{"NetworkID":"n","Options":{"com.docker.network.generic":{"parent":"nic1","host_access":"true","host_address":"10.1.0.9"}},`+
		`"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"10.1.0.0/24","Gateway":"10.1.0.1","AuxAddresses":{"host":"10.1.0.9"}}],"IPv6Data":[]}`)
	h.run("a", "10.1.0.7/24", "")
	h.deleteLink("nic1")
	h.reconcile()
	h.wire("nic1", "")
	h.lan("nic1")
	h.reconcile()
	h.wantRouted("with the parent back", "10.1.0.7")
	h.stop("a", nil)
	h.wantRouted("with the container stopped")
	a := h.run("a", "10.1.0.7/24", "")
	h.place().reaches(a, "10.1.0.7")
}

// A router on the LAN is the host's by the NIC, and not by the port as well.
func TestTheHostsPortHearsNoRouter(t *testing.T) {
	h := newHost(t)
	far := h.lan("nic0", "fe80::1/64", "fd09::100/64")
	h.hostAccess("")
	// A router says in all that it sends that it is one.
	if err := inside(far.ns, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) }); err != nil {
		t.Fatal(err)
	}
	defaults := func() (by []string) {
		for _, r := range must[[]netlink.Route](t)(h.lib.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)) {
			by = append(by, must[netlink.Link](t)(h.lib.LinkByIndex(r.LinkIndex)).Attrs().Name)
		}
		return by
	}
	var by []string
	for deadline := time.Now().Add(10 * time.Second); len(by) == 0 && time.Now().Before(deadline); by = defaults() {
		if err := inside(far.ns, func() error { return advertise(far.link) }); err != nil && !errors.Is(err, unix.ENETUNREACH) { // not up yet
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	// What the port answers comes to it behind the advertisements.
	far.reaches(h.place(), "fd09::2")
	if by = defaults(); !slices.Equal(by, []string{"nic0"}) {
		t.Errorf("the host has routers by %v", by)
	}
	if addrs := must[[]netip.Prefix](t)(h.k.Addrs(kernel.HostPortName("n"))); len(addrs) != 2 {
		t.Errorf("the port has %v", addrs)
	}
}

// advertise sends a router advertisement (RFC 4861, 4.2) to all on a link.
func advertise(link string) error {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, l.Index)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet6{ZoneId: uint32(l.Index), Addr: netip.MustParseAddr("fe80::1").As16()})
	}
	if err != nil {
		return err
	}
	advert := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	return unix.Sendto(fd, advert, 0, &unix.SockaddrInet6{ZoneId: uint32(l.Index), Addr: netip.MustParseAddr("ff02::1").As16()})
}

func TestTheHostsAddressMayBeChosen(t *testing.T) {
	h := newHost(t)
	h.lan("nic0")
	h.hostAccess(`,"host_address":"10.9.0.50,fd09::50"`)
	a := h.run("a", "10.9.0.7/24", "fd09::7/64")
	if from := h.place().reaches(a, "fd09::7"); from.String() != "fd09::50" {
		t.Errorf("the container hears from %s", from)
	}
	h.refused("IpamDriver.RequestAddress", `{"PoolID":"`+lanPool+`","Address":"10.9.0.50"}`, "")
}
