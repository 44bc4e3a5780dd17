package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// Lengths and places in frames: Ethernet II, IPv4 without options in what we
// send (RFC 791, 3.1), UDP (RFC 768).
const (
	etherLen = 14
	ipLen    = 20
	udpLen   = 8

	serverPort, clientPort = 67, 68

	timeToLive = 64
	snapLen    = 2048 // more than a frame of the usual MTU
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// path is by whom and to whom a message goes.
type path struct {
	fromMAC, toMAC net.HardwareAddr
	from, to       netip.Addr
}

// toAll is the path of who has no address yet, or looks for any server.
func toAll(mac net.HardwareAddr) path {
	return path{mac, broadcast, netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})}
}

// frame packs a message.
func frame(p path, payload []byte) []byte {
	f := make([]byte, etherLen+ipLen+udpLen+len(payload))
	copy(f, p.toMAC)
	copy(f[6:], p.fromMAC)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	ip, udp := f[etherLen:etherLen+ipLen], f[etherLen+ipLen:]
	ip[0] = 4<<4 | ipLen/4
	binary.BigEndian.PutUint16(ip[2:], uint16(len(f)-etherLen)) //nolint:gosec // a message of ours, far below 64 KiB
	ip[6] = 0x40                                                // do not fragment
	ip[8], ip[9] = timeToLive, unix.IPPROTO_UDP
	copy(ip[12:], p.from.AsSlice())
	copy(ip[16:], p.to.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))
	binary.BigEndian.PutUint16(udp, clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp))) //nolint:gosec // as above
	copy(udp[udpLen:], payload)
	pseudo := sum(uint32(unix.IPPROTO_UDP)+uint32(len(udp)), ip[12:20]) //nolint:gosec // as above
	check := ^sum(uint32(pseudo), udp)
	if check == 0 {
		check = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return f
}

// sum is the one's complement sum (RFC 1071).
func sum(total uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		total += uint32(b[len(b)-1]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total) //nolint:gosec // folded above
}

// Reply is a message that was heard, a server's or another client's, and the MAC
// of who put it on the wire.
type Reply struct {
	*dhcpv4.DHCPv4
	From net.HardwareAddr
}

// parse reads a frame, if it is one of DHCP. UDP's checksum is not
// looked at: that of a frame from a machine on this host is not filled in yet
// where a packet socket sees it (packet(7), TP_STATUS_CSUMNOTREADY).
func parse(f []byte) (*Reply, error) {
	if len(f) < etherLen+ipLen+udpLen || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP {
		return nil, fmt.Errorf("not an IPv4 frame")
	}
	ip := f[etherLen:]
	head, size := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	switch {
	case ip[0]>>4 != 4 || head < ipLen || size < head+udpLen || size > len(ip):
		return nil, fmt.Errorf("its IP header is not right")
	case sum(0, ip[:head]) != 0xffff:
		return nil, fmt.Errorf("its IP checksum is not right")
	case ip[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0:
		return nil, fmt.Errorf("not one whole UDP packet")
	}
	udp := ip[head:size]
	n := int(binary.BigEndian.Uint16(udp[4:]))
	port := binary.BigEndian.Uint16(udp[2:])
	if n < udpLen || n > len(udp) {
		return nil, fmt.Errorf("its UDP header is not right")
	}
	m, err := dhcpv4.FromBytes(udp[udpLen:n])
	if err != nil {
		return nil, fmt.Errorf("read a DHCP message: %w", err)
	}
	if m.OpCode == dhcpv4.OpcodeBootReply && port != clientPort || m.OpCode == dhcpv4.OpcodeBootRequest && port != serverPort {
		return nil, fmt.Errorf("its port is not that of whom it is for")
	}
	return &Reply{m, append(net.HardwareAddr(nil), f[6:12]...)}, nil
}
