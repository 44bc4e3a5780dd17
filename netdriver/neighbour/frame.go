package neighbour

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Claim is what a frame says of who has an address.
type Claim struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
	// Answer is set where the frame answers a question, so that a question is
	// known to have been answered twice.
	Answer bool
}

// Lengths and places in frames: Ethernet II (IEEE 802.3), ARP for Ethernet and
// IPv4 (RFC 826), IPv6 (RFC 8200, 3), neighbour solicitations and
// advertisements with one link-layer address option (RFC 4861, 4.3, 4.4, 4.6.1).
const (
	etherLen = 14
	arpLen   = etherLen + 28
	ipv6Len  = 40
	icmpAt   = etherLen + ipv6Len
	ndLen    = 24 // without options
	optLen   = 8
	frameMax = icmpAt + ndLen + optLen // of ours

	snapLen = 256 // of others' frames: room for options that nobody needs

	arpRequest, arpReply = 1, 2

	solicitation, advertisement = 135, 136

	flagSolicited, flagOverride = 0x40, 0x20

	optSource, optTarget = 1, 2

	hopLimit = 255 // proof that a frame comes from this link (RFC 4861, 7.1)
)

var (
	arpHead   = [...]byte{0, 1, 0x08, 0x00, 6, 4} // Ethernet, IPv4 and the lengths of their addresses
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// question asks who has an address: an ARP probe (RFC 5227, 2.1.1), which says
// nothing about the sender, or a neighbour solicitation. That one carries the
// link-local address of from, where RFC 4862 would have none: a machine that is
// just taking the address would give it up for a question of that kind, though
// nobody wants the address. to is nil to ask everybody.
func question(addr netip.Addr, from, to net.HardwareAddr) []byte {
	if addr.Is4() {
		if to == nil {
			to = broadcast
		}
		return arp(arpRequest, to, from, netip.IPv4Unspecified(), addr)
	}
	a := addr.As16()
	dst := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}) // RFC 4291, 2.7.1
	if to == nil {
		to = group(dst)
	}
	return nd(solicitation, 0, to, from, linkLocal(from), dst, addr, optSource)
}

// announcement says to everybody that mac has an address: an ARP announcement
// (RFC 5227, 2.3) or an unsolicited advertisement (RFC 4861, 7.2.6).
func announcement(addr netip.Addr, mac net.HardwareAddr) []byte {
	if addr.Is4() {
		return arp(arpRequest, broadcast, mac, addr, addr)
	}
	return nd(advertisement, flagOverride, group(allNodes), mac, addr, allNodes, addr, optTarget)
}

func arp(op uint16, dst, from net.HardwareAddr, sender, target netip.Addr) []byte {
	f := ether(arpLen, dst, from, unix.ETH_P_ARP)
	p := f[etherLen:]
	copy(p, arpHead[:])
	binary.BigEndian.PutUint16(p[6:], op)
	copy(p[8:14], from)
	copy(p[14:18], sender.AsSlice())
	copy(p[24:28], target.AsSlice())
	return f
}

func nd(kind, flags byte, dstMAC, from net.HardwareAddr, src, dst, target netip.Addr, option byte) []byte {
	f := ether(frameMax, dstMAC, from, unix.ETH_P_IPV6)
	ip, icmp := f[etherLen:icmpAt], f[icmpAt:]
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(len(icmp))) //nolint:gosec // 32
	ip[6], ip[7] = unix.IPPROTO_ICMPV6, hopLimit
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	icmp[0], icmp[4] = kind, flags
	copy(icmp[8:], target.AsSlice())
	icmp[ndLen], icmp[ndLen+1] = option, 1 // in units of eight bytes
	copy(icmp[ndLen+2:], from)
	binary.BigEndian.PutUint16(icmp[2:], ^sum(ip, icmp))
	return f
}

func ether(size int, dst, src net.HardwareAddr, kind uint16) []byte {
	f := make([]byte, size)
	copy(f, dst)
	copy(f[6:], src)
	binary.BigEndian.PutUint16(f[12:], kind)
	return f
}

// group is the Ethernet address of an IPv6 group (RFC 2464, 7).
func group(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// linkLocal is the address that follows from a MAC (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// sum is the one's complement sum of an ICMPv6 message and its pseudo-header
// (RFC 8200, 8.1). Over a right message with its checksum it is 0xffff.
func sum(ip, icmp []byte) uint16 {
	total := uint32(len(icmp)) + unix.IPPROTO_ICMPV6 //nolint:gosec // at most an IPv6 payload
	for _, part := range [][]byte{ip[8:ipv6Len], icmp} {
		for i := 0; i+1 < len(part); i += 2 {
			total += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			total += uint32(part[len(part)-1]) << 8
		}
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total) //nolint:gosec // folded above
}

// parse reads a claim out of a frame, if there is a valid one in it.
func parse(f []byte) (Claim, bool) {
	if len(f) < arpLen {
		return Claim{}, false
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_ARP:
		return parseARP(f[etherLen:])
	case unix.ETH_P_IPV6:
		return parseND(f)
	}
	return Claim{}, false
}

// parseARP takes any packet with a sender for a claim, request or reply (RFC 5227, 2.4).
func parseARP(p []byte) (Claim, bool) {
	op := binary.BigEndian.Uint16(p[6:])
	c := Claim{Addr: netip.AddrFrom4([4]byte(p[14:18])), MAC: net.HardwareAddr(append([]byte(nil), p[8:14]...)), Answer: op == arpReply}
	return c, string(p[:6]) == string(arpHead[:]) && (op == arpRequest || op == arpReply) && c.valid()
}

// parseND takes an advertisement for a claim of its target, a solicitation for
// one of its source (RFC 4861, 7.1).
func parseND(f []byte) (Claim, bool) {
	if len(f) < icmpAt+ndLen {
		return Claim{}, false
	}
	ip := f[etherLen:icmpAt]
	size := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || ip[6] != unix.IPPROTO_ICMPV6 || ip[7] != hopLimit || size < ndLen || icmpAt+size > len(f) {
		return Claim{}, false
	}
	icmp := f[icmpAt : icmpAt+size]
	if sum(ip, icmp) != 0xffff || icmp[1] != 0 {
		return Claim{}, false
	}
	c := Claim{MAC: net.HardwareAddr(append([]byte(nil), f[6:12]...))}
	switch icmp[0] {
	case advertisement:
		c.Addr, c.Answer = netip.AddrFrom16([16]byte(icmp[8:24])), icmp[4]&flagSolicited != 0
		if mac := linkAddress(icmp[ndLen:], optTarget); mac != nil {
			c.MAC = mac
		}
	case solicitation:
		c.Addr = netip.AddrFrom16([16]byte(ip[8:24]))
	}
	return c, c.valid()
}

// linkAddress finds a link-layer address among the options (RFC 4861, 4.6).
func linkAddress(options []byte, kind byte) net.HardwareAddr {
	for len(options) >= optLen && options[1] > 0 {
		if options[0] == kind && options[1] == 1 {
			return net.HardwareAddr(append([]byte(nil), options[2:optLen]...))
		}
		n := int(options[1]) * optLen
		if n > len(options) {
			break
		}
		options = options[n:]
	}
	return nil
}

func (c Claim) valid() bool {
	return c.Addr.IsValid() && !c.Addr.IsUnspecified() && !c.Addr.IsMulticast() && c.MAC[0]&1 == 0 && string(c.MAC) != "\x00\x00\x00\x00\x00\x00"
}
