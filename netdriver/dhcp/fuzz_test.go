package dhcp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// FuzzFrame reads what anybody on the LAN may send.
func FuzzFrame(f *testing.F) {
	reply := func(options ...dhcpv4.Option) []byte {
		m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: webMAC, YourIPAddr: net.IPv4(192, 0, 2, 9), Options: dhcpv4.Options{}}
		m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Minute))
		m.UpdateOption(serverID(server))
		for _, o := range options {
			m.UpdateOption(o)
		}
		b := frame(path{siteMAC, webMAC, server, netip.MustParseAddr("192.0.2.9")}, m.ToBytes())
		b[etherLen+ipLen+3] = clientPort
		return b
	}
	f.Add(reply())
	f.Add(reply(dhcpv4.OptGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{24, 10, 0, 0, 192, 0, 2, 1, 0, 192, 0, 2, 1})))
	f.Add(reply(dhcpv4.OptGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{33, 255, 255, 255, 255, 255, 1})))
	f.Add(reply(dhcpv4.OptGeneric(dhcpv4.OptionSubnetMask, []byte{255, 0, 255, 0}), dhcpv4.OptGeneric(dhcpv4.OptionRouter, []byte{1, 2, 3})))
	f.Add(reply(dhcpv4.OptGeneric(dhcpv4.OptionRenewTimeValue, []byte{255, 255, 255, 255}), dhcpv4.OptGeneric(dhcpv4.OptionRebindingTimeValue, []byte{0, 0, 0, 0}), dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0})))
	f.Add(reply(dhcpv4.OptGeneric(dhcpv4.OptionIPAddressLeaseTime, []byte{255, 255, 255, 255})))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		_ = refused(r).Error()
		now := time.Now()
		a, terms, err := reading(r, now)
		if err != nil {
			return
		}
		switch {
		case !a.Is4() || !terms.Server.Is4():
			t.Errorf("address %s of server %s", a, terms.Server)
		case terms.Renew <= 0 || terms.Renew > terms.Rebind || terms.Rebind > terms.Lasts || !terms.Expires().After(now):
			t.Errorf("T1 %s, T2 %s, lasts %s", terms.Renew, terms.Rebind, terms.Lasts)
		case terms.Prefix.IsValid() && !terms.Prefix.Contains(a):
			t.Errorf("%s is not in %s", a, terms.Prefix)
		}
		for _, route := range terms.Routes {
			if !route.Dst.IsValid() || route.Dst.Bits() == 0 || route.Dst != route.Dst.Masked() {
				t.Errorf("route to %s by %s", route.Dst, route.Via)
			}
		}
	})
}
