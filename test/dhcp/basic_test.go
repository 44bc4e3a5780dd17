package dhcp_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/dhcpd"
)

func mac(t *testing.T, text string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func eachServer(t *testing.T, do func(t *testing.T, kind dhcpd.Kind)) {
	for _, kind := range []dhcpd.Kind{dhcpd.Dnsmasq, dhcpd.Kea} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			do(t, kind)
		})
	}
}

func TestOneContainer(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		s := settings()
		s.MTU = 1400
		if kind == dhcpd.Dnsmasq {
			s.Route, s.Via = netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.2")
		}
		r := newRig(t, kind, s)
		r.lanNetwork()
		if r.prefix != s.Subnet || r.gateway != s.Router {
			t.Errorf("the network has %s and gateway %s", r.prefix, r.gateway)
		}
		c := &container{mac: mac(t, "0a:00:00:00:00:01"), opts: map[string]string{"hostname": "web-1"}}
		r.must(r.start(c))
		if out := r.run(r.box, "ip", "link", "show", c.link); !strings.Contains(out, "mtu 1400") || !strings.Contains(out, c.mac.String()) {
			t.Errorf("the container's link: %s", out)
		}
		if routes := fmt.Sprint(c.join["StaticRoutes"]); s.Route.IsValid() && !strings.Contains(routes, "198.51.100.0/24") {
			t.Errorf("static routes: %s", routes)
		}
		r.run(r.site, "ping", "-c1", "-W10", c.addr.Addr().String())
		r.await(20*time.Second, func() error { // the name goes with the next renewal
			all, err := r.server.Leases()
			if l := all[c.addr.Addr()]; err == nil && (l.HostName != "web-1" || l.MAC != c.mac.String() || !strings.HasSuffix(l.ClientID, c.mac.String())) {
				err = fmt.Errorf("the server has %+v", all)
			}
			return err
		})
		was := c.addr
		r.must(r.stop(c))
		r.must(r.start(c))
		if c.addr != was {
			t.Errorf("after its restart the container has %s, had %s", c.addr, was)
		}
		r.must(r.stop(c))
		// A MAC that the engine made up: another one each time.
		for i := range 3 {
			c = &container{mac: mac(t, fmt.Sprintf("02:42:00:00:01:%02x", i))}
			r.must(r.start(c))
			if i > 0 && c.addr != was {
				t.Errorf("after restart %d the container has %s, had %s", i, c.addr, was)
			}
			was = c.addr
			r.must(r.stop(c))
		}
		r.dropNetwork()
		r.await(10*time.Second, func() error {
			all, err := r.server.Leases()
			if err == nil && len(all) > 0 {
				err = fmt.Errorf("the server has %+v", all)
			}
			return err
		})
	})
}
