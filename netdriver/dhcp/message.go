package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// client is who speaks to a server.
type client struct {
	MAC      net.HardwareAddr
	ID       []byte // option 61
	HostName string // option 12; "": none
}

// wanted is what a server is asked to say besides the address (option 55).
var wanted = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionInterfaceMTU, // routes first (RFC 3442)
	dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
}

// message makes one of the client's. The answer to one that names no address of
// the client's own comes as a broadcast: nobody has the address yet.
func (c client) message(kind dhcpv4.MessageType, secs int, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: c.MAC,
		NumSeconds: uint16(min(secs, 1<<16-1)), //nolint:gosec // bounded here
		Options:    dhcpv4.Options{},
	}
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	m.UpdateOption(dhcpv4.OptClientIdentifier(c.ID))
	for _, o := range options {
		m.UpdateOption(o)
	}
	switch kind {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest:
		m.SetBroadcast()
		m.UpdateOption(dhcpv4.OptParameterRequestList(wanted...))
		m.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
		if c.HostName != "" {
			m.UpdateOption(dhcpv4.OptHostName(c.HostName))
		}
	}
	return m
}

// maxMessage is what fits into a frame of 1500 bytes.
const maxMessage = 1500 - ipLen - udpLen

func ipOption(code dhcpv4.OptionCode, a netip.Addr) dhcpv4.Option {
	return dhcpv4.OptGeneric(code, a.AsSlice())
}

func requested(a netip.Addr) dhcpv4.Option { return ipOption(dhcpv4.OptionRequestedIPAddress, a) }

func serverID(a netip.Addr) dhcpv4.Option { return ipOption(dhcpv4.OptionServerIdentifier, a) }

// Route is one that a server announces (option 121).
type Route struct {
	Dst netip.Prefix
	Via netip.Addr // invalid: on the link itself
}

// Terms are those of a lease, as its server said them.
type Terms struct {
	Server    netip.Addr
	ServerMAC net.HardwareAddr // of the server or the relay before it
	Obtained  time.Time        // when the request was sent that the server answered
	Lasts     time.Duration    // from then
	Renew     time.Duration    // T1
	Rebind    time.Duration    // T2
	Prefix    netip.Prefix     // the subnet; invalid: not said
	Router    netip.Addr       // the default gateway; invalid: none
	Routes    []Route          // without the default one
	MTU       int              // 0: not said
}

// Expires is when the address is another's.
func (t Terms) Expires() time.Time { return t.Obtained.Add(t.Lasts) }

// The parts of a lease after which it is renewed and rebound, where the server
// does not say (RFC 2131, 4.4.5), and the shortest one that is taken.
const (
	renewAfter  = 0.5
	rebindAfter = 0.875
	minLease    = 2 * time.Second
	minMTU      = 68 // RFC 791, 3.2
)

// reading is what an OFFER or ACK says.
func reading(r *Reply, sent time.Time) (netip.Addr, Terms, error) {
	addr, ok := toAddr(r.YourIPAddr)
	if !ok || !addr.IsGlobalUnicast() && !addr.IsLinkLocalUnicast() {
		return netip.Addr{}, Terms{}, fmt.Errorf("it gives the address %s, which is none of a machine", r.YourIPAddr)
	}
	t := Terms{ServerMAC: r.From, Obtained: sent}
	if t.Server, ok = toAddr(r.ServerIdentifier()); !ok {
		return netip.Addr{}, Terms{}, fmt.Errorf("it does not say which server it is from (option 54)")
	}
	t.Lasts = r.IPAddressLeaseTime(0)
	if t.Lasts < minLease {
		return netip.Addr{}, Terms{}, fmt.Errorf("its lease lasts %s (option 51); at least %s are needed", t.Lasts, minLease)
	}
	t.Renew, t.Rebind = r.IPAddressRenewalTime(0), r.IPAddressRebindingTime(0)
	if t.Rebind <= 0 || t.Rebind >= t.Lasts {
		t.Rebind = time.Duration(float64(t.Lasts) * rebindAfter)
	}
	if t.Renew <= 0 || t.Renew >= t.Rebind {
		t.Renew = min(time.Duration(float64(t.Lasts)*renewAfter), t.Rebind)
	}
	if mask := r.SubnetMask(); mask != nil {
		if bits, size := mask.Size(); size == 32 && bits > 0 {
			t.Prefix = netip.PrefixFrom(addr, bits).Masked()
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, r.Options); err == nil && mtu >= minMTU {
		t.MTU = int(mtu)
	}
	t.readRoutes(r.DHCPv4)
	return addr, t, nil
}

// readRoutes takes the classless routes, and the router only where there are
// none (RFC 3442).
func (t *Terms) readRoutes(m *dhcpv4.DHCPv4) {
	routes := m.ClasslessStaticRoute()
	if len(routes) == 0 {
		for _, ip := range m.Router() {
			if a, ok := toAddr(ip); ok {
				t.Router = a
				return
			}
		}
		return
	}
	for _, r := range routes {
		if r == nil || r.Dest == nil {
			continue
		}
		bits, _ := r.Dest.Mask.Size()
		ip, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		if !ok {
			continue
		}
		via, _ := toAddr(r.Router)
		switch {
		case bits == 0 && via.IsValid():
			t.Router = via
		case bits > 0:
			t.Routes = append(t.Routes, Route{Dst: netip.PrefixFrom(ip, bits).Masked(), Via: via})
		}
	}
}

// toAddr returns an address that says something.
func toAddr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}, false
	}
	return a, true
}

const (
	hardwareID = 1 // the type of a client identifier: Ethernet (RFC 2132, 9.14)
	opaqueID   = 0 // none of hardware
	maxID      = 255
)

// ownerOf says by what a container is known when it starts again: its name, or a
// MAC that is some hardware's. One that is locally administered may be the user's
// or made up by the engine, another one each time: it is found out when it comes
// a second time (see resume).
func ownerOf(mac net.HardwareAddr, name string) owner {
	const local = 2
	o := owner{key: name, mac: mac, host: HostLabel(name)}
	if len(mac) > 0 && mac[0]&local == 0 {
		o.key = mac.String()
	}
	return o
}

// clientID is that of an owner: of one known by a name the name and this
// installation, for the same name may be on another host as well; of any other
// the MAC, in the form in which servers' reservations have it.
func clientID(instance string, o owner) []byte {
	if o.key == "" || o.key == o.mac.String() {
		return append([]byte{hardwareID}, o.mac...)
	}
	id := append([]byte{opaqueID}, "dockline/"+instance+"/"+o.key...)
	return id[:min(len(id), maxID)]
}

// HostLabel makes a host name of a container's name (RFC 1123, 2.1), "" where
// nothing is left of it.
func HostLabel(name string) string {
	const maxLabel = 63
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r == '-' || r == '_' || r == '.':
			return '-'
		}
		return -1
	}, name)
	return strings.Trim(clean[:min(len(clean), maxLabel)], "-")
}
