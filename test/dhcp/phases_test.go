package dhcp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/wire"
)

// stateOf waits until a container's lease is as it should be.
func (r *rig) stateOf(c *container, ok func(lease) bool) {
	r.Helper()
	r.await(40*time.Second, func() error {
		l := r.table()[c.addr.Addr()]
		if !ok(l) {
			return fmt.Errorf("the lease is %+v", l)
		}
		return nil
	})
}

// TestServersChange has a lease renewed, taken over by another server, refused,
// and leased again, while its container runs.
func TestServersChange(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		s := settings()
		s.Renew, s.Rebind = 2*time.Second, 5*time.Second
		if kind == dhcpd.Kea {
			s.Lease = 20 * time.Second
		}
		r := newRig(t, kind, s)
		r.lanNetwork()
		c := &container{mac: mac(t, "0a:00:00:00:02:01")}
		seen, err := r.lan.Capture(unicasts(c.mac))
		r.must(err)
		t.Cleanup(func() { _ = seen.Close() })
		r.must(r.start(c))
		first := r.table()[c.addr.Addr()]
		r.stateOf(c, func(l lease) bool { return l.State == "bound" && l.Ends.After(first.Ends.Add(4*time.Second)) })
		r.renewedByUnicast(seen)

		// Another server, that knows nothing of the lease, takes over at T2.
		r.must(r.server.Stop())
		site, err := r.lan.Foreign(t.Context(), "site2", "192.0.2.3/24")
		r.must(err)
		other, err := dhcpd.New(r.lab, kind, site, s)
		r.must(err)
		r.must(other.Start(t.Context()))
		t.Cleanup(func() { _ = other.Stop() })
		r.stateOf(c, func(l lease) bool { return l.State == "bound" && l.Server == netip.MustParseAddr("192.0.2.3") })

		// One that refuses: what it leases is elsewhere.
		r.must(other.Stop())
		r.run(site, "ip", "address", "add", "198.51.100.1/24", "dev", "eth0")
		r.run(site, "ip", "address", "del", "192.0.2.3/24", "dev", "eth0")
		elsewhere := s
		elsewhere.Subnet, elsewhere.Router = netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("198.51.100.1")
		elsewhere.First, elsewhere.Last = netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("198.51.100.20")
		refusing, err := dhcpd.New(r.lab, kind, site, elsewhere)
		r.must(err)
		r.must(refusing.Start(t.Context()))
		t.Cleanup(func() { _ = refusing.Stop() })
		r.stateOf(c, func(l lease) bool { return l.State == "lost" && l.Why != "" })
		r.run(r.site, "ping", "-c1", "-W10", c.addr.Addr().String()) // it keeps the address
		r.must(refusing.Stop())
		r.must(r.server.Start(t.Context()))
		r.stateOf(c, func(l lease) bool { return l.State == "bound" })
		r.must(r.stop(c))
	})
}

// unicasts are the frames of DHCP with a container's MAC that were not to all.
func unicasts(mac net.HardwareAddr) func(wire.Frame) bool {
	return func(f wire.Frame) bool {
		const udp, ports = 9, 20 // in an IPv4 header without options
		p := f.Payload()
		if f.Type() != wire.TypeIPv4 || len(p) < ports+4 || p[udp] != 17 || bytes.Equal(f.Dst(), wire.Broadcast) {
			return false
		}
		to := binary.BigEndian.Uint16(p[ports+2:])
		return to == 67 && bytes.Equal(f.Src(), mac) || to == 68 && bytes.Equal(f.Dst(), mac)
	}
}

// renewedByUnicast checks that a renewal and its answer were between the
// container's MAC and the server.
func (r *rig) renewedByUnicast(c *wire.Capture) {
	r.Helper()
	for _, port := range []string{"host-eth0", "site-eth0"} {
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
		_, err := c.Await(ctx, func(f wire.Frame) bool { return f.Port == port })
		cancel()
		if err != nil {
			r.Errorf("no renewal by unicast came in at %s: %v", port, err)
		}
	}
}

func TestSubnetsThatDoNotMatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, dhcpd.Dnsmasq, settings())
	for subnet, want := range map[string][]string{
		"192.0.2.0/25":    {"192.0.2.0/25", "leases out of 192.0.2.0/24"},
		"198.51.100.0/24": {"198.51.100.0/24", "leases out of 192.0.2.0/24"},
	} {
		err := r.makeNetwork(subnet, m{"backend": "dhcp", "parent": "eth0"}, m{"parent": "eth0"})
		for _, text := range want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("subnet %s: %v, want %q in it", subnet, err, text)
			}
		}
	}
	if err := r.makeNetwork("", m{"backend": "dhcp"}, m{"parent": "eth0"}); err == nil || !strings.Contains(err.Error(), "parent=eth0") {
		t.Errorf("without a parent: %v", err)
	}
	if err := r.makeNetwork("", m{"backend": "dhcp", "parent": "eth7"}, m{"parent": "eth7"}); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("with a parent that is not there: %v", err)
	}
	// Without --ipam-opt parent the server is found when containers start.
	r.must(func() error {
		_, err := r.call("IpamDriver.RequestPool", m{"AddressSpace": "dockline-local", "Pool": "192.0.2.0/24", "Options": m{"backend": "dhcp"}})
		return err
	}())
}

// TestNoServer has containers start where no server answers: one that never ran
// fails with an error that says what to do, one that ran goes on with its lease,
// and what an engine replays is confirmed.
func TestNoServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, dhcpd.Dnsmasq, settings())
	r.lanNetwork()
	c := &container{mac: mac(t, "0a:00:00:00:03:01")}
	r.must(r.start(c))
	was := c.addr
	r.must(r.stop(c))
	r.must(r.server.Stop())
	r.must(r.start(c))
	if c.addr != was {
		t.Errorf("it has %s, had %s", c.addr, was)
	}
	err := r.start(&container{mac: net.HardwareAddr{0x0a, 0, 0, 0, 3, 2}})
	if err == nil || !strings.Contains(err.Error(), "no DHCP server answered on eth0 within") {
		t.Errorf("without a server: %v", err)
	}
	r.must(r.stop(c))
	r.must(r.start(c))
	r.restartPlugin()
	for _, step := range []struct {
		path string
		body m
	}{
		{"IpamDriver.GetCapabilities", m{}},
		{"IpamDriver.RequestPool", m{"AddressSpace": "dockline-local", "Pool": r.prefix.String(), "Options": m{"backend": "dhcp", "parent": "eth0"}}},
		{"IpamDriver.RequestAddress", m{"PoolID": r.pool, "Address": r.gateway.String(), "Options": m{"RequestAddressType": "com.docker.network.gateway"}}},
		{"IpamDriver.RequestAddress", m{"PoolID": r.pool, "Address": c.addr.Addr().String()}},
	} {
		if _, err := r.call(step.path, step.body); err != nil {
			t.Errorf("replay of %s: %v", step.path, err)
		}
	}
	if l := r.table()[c.addr.Addr()]; l.State != "bound" {
		t.Errorf("after the replay the lease is %+v", l)
	}
}

// TestInUse has the server offer addresses that other machines have.
func TestInUse(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Last = s.First.Next().Next().Next()
	r := newRig(t, dhcpd.Kea, s)
	stranger, err := r.lan.Foreign(t.Context(), "stranger", s.First.String()+"/24", s.First.Next().String()+"/24")
	r.must(err)
	r.lanNetwork()
	c := &container{mac: mac(t, "0a:00:00:00:04:01")}
	r.must(r.start(c))
	if a := c.addr.Addr(); a == s.First || a == s.First.Next() {
		t.Errorf("the container has %s, which is another machine's", a)
	}
	log, err := os.ReadFile(r.server.Log())
	r.must(err)
	if !bytes.Contains(log, []byte("DHCP4_DECLINE_LEASE")) {
		t.Error("the server was told of no address")
	}
	_ = stranger
}

// TestWires has the server reached by other ways than a macvlan parent.
func TestWires(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		s := settings()
		s.Renew, s.Rebind = 2*time.Second, 5*time.Second
		r := newRig(t, kind, s)
		r.must(r.makeNetwork("", m{"backend": "dhcp", "parent": "eth0"}, m{"mode": "bridge", "uplink": "eth0"}))
		c := &container{mac: mac(t, "0a:00:00:00:05:01")}
		r.must(r.start(c))
		r.run(r.site, "ping", "-c1", "-W10", c.addr.Addr().String())
		first := r.table()[c.addr.Addr()]
		r.stateOf(c, func(l lease) bool { return l.State == "bound" && l.Ends.After(first.Ends.Add(4*time.Second)) })
		r.must(r.stop(c))
		r.dropNetwork()
	})
}

// TestServerBesideIt has the server on a macvlan link of the same parent: its
// answers to a container's MAC are heard by nobody else, those to all are.
func TestServerBesideIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, dhcpd.Dnsmasq, settings())
	r.must(r.server.Stop())
	beside, err := wire.NewStation(t.Context(), r.lab, "beside")
	r.must(err)
	r.run(r.host, "ip", "link", "add", "link", "eth0", "name", "sib", "type", "macvlan", "mode", "bridge")
	r.run(r.host, "ip", "link", "set", "sib", "netns", beside.NS, "name", "eth0")
	r.run(beside, "ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
	r.run(beside, "ip", "link", "set", "eth0", "up")
	r.run(r.site, "ip", "address", "del", "192.0.2.1/24", "dev", "eth0")
	s := settings()
	s.Renew, s.Rebind = 2*time.Second, 4*time.Second
	r.server, err = dhcpd.New(r.lab, dhcpd.Dnsmasq, beside, s)
	r.must(err)
	r.must(r.server.Start(t.Context()))
	t.Cleanup(func() { _ = r.server.Stop() })
	r.must(r.makeNetworkAt("192.0.2.0/24", "192.0.2.1", m{"backend": "dhcp"}, m{"parent": "eth0"}))
	c := &container{mac: mac(t, "0a:00:00:00:06:01")}
	r.must(r.start(c))
	first := r.table()[c.addr.Addr()]
	r.stateOf(c, func(l lease) bool { return l.State == "bound" && l.Ends.After(first.Ends.Add(4*time.Second)) })
}

// TestItMoves has a container start again on another host, which any DHCP client
// with its MAC is: it gets the address, and nobody gives that back under it.
func TestItMoves(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		r := newRig(t, kind, settings())
		r.lanNetwork()
		c := &container{mac: mac(t, "0a:00:00:00:07:01")}
		r.must(r.start(c))
		r.must(r.stop(c))
		other, err := r.lan.Foreign(t.Context(), "other")
		r.must(err)
		r.run(other, "ip", "link", "set", "eth0", "address", c.mac.String())
		r.run(other, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true")
		r.await(20*time.Second, func() error {
			if table := r.table(); len(table) > 0 {
				return fmt.Errorf("here is still %+v", table)
			}
			return nil
		})
		r.dropNetwork()
		all, err := r.server.Leases()
		if err != nil || all[c.addr.Addr()].MAC != c.mac.String() {
			t.Errorf("the server has %+v, %v; the container had %s", all, err, c.addr)
		}
	})
}

// TestHostAccess has the host's own port lease an address as well.
func TestHostAccess(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		r := newRig(t, kind, settings())
		r.must(r.makeNetwork("", m{"backend": "dhcp", "parent": "eth0"}, m{"parent": "eth0", "host_access": "true"}))
		c := &container{mac: mac(t, "0a:00:00:00:08:01")}
		r.must(r.start(c))
		r.run(r.host, "ping", "-c1", "-W10", c.addr.Addr().String())
		r.await(20*time.Second, func() error {
			theirs, err := r.server.Leases()
			if ours := r.table(); err == nil && (len(theirs) != 2 || len(ours) != 2) {
				err = fmt.Errorf("the server has %v, we %v", theirs, ours)
			}
			return err
		})
		r.restartPlugin()
		r.must(r.stop(c))
		r.dropNetwork()
		r.await(20*time.Second, func() error {
			left, err := r.server.Leases()
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("the server still has %v", left)
			}
			return err
		})
	})
}
