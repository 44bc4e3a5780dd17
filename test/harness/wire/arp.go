package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Operations of RFC 826.
const (
	ARPRequest = 1
	ARPReply   = 2
)

const arpLen = 28 // for Ethernet and IPv4

// arpHead is hardware Ethernet, protocol IPv4, and the lengths of their addresses.
var arpHead = []byte{0, 1, 0x08, 0x00, 6, 4}

// ARP is a packet of RFC 826 between Ethernet and IPv4.
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC net.HardwareAddr // nil means zeros
	SenderIP, TargetIP   netip.Addr
}

// Ask is the request of who has an address. A sender of 0.0.0.0 makes it a
// probe (RFC 5227 section 2.1.1).
func Ask(mac net.HardwareAddr, sender, target netip.Addr) ARP {
	return ARP{Op: ARPRequest, SenderMAC: mac, SenderIP: sender, TargetIP: target}
}

// Announce is the gratuitous request by which a machine says that an address is
// its own (RFC 5227 section 2.3).
func Announce(mac net.HardwareAddr, addr netip.Addr) ARP {
	return Ask(mac, addr, addr)
}

// Answer is the reply to a request: the target is at mac.
func (a ARP) Answer(mac net.HardwareAddr) ARP {
	return ARP{Op: ARPReply, SenderMAC: mac, SenderIP: a.TargetIP, TargetMAC: a.SenderMAC, TargetIP: a.SenderIP}
}

// Frame is the packet in an Ethernet frame to dst.
func (a ARP) Frame(dst net.HardwareAddr) []byte {
	frame := make([]byte, headerLen+arpLen)
	copy(frame, dst)
	copy(frame[6:], a.SenderMAC)
	binary.BigEndian.PutUint16(frame[12:], TypeARP)
	p := frame[headerLen:]
	copy(p, arpHead)
	binary.BigEndian.PutUint16(p[6:], a.Op)
	copy(p[8:], a.SenderMAC)
	copy(p[14:], a.SenderIP.AsSlice())
	copy(p[18:], a.TargetMAC)
	copy(p[24:], a.TargetIP.AsSlice())
	return frame
}

// ARP reads the frame as an ARP packet, if it is one.
func (f Frame) ARP() (ARP, bool) {
	p := f.Payload()
	if f.Type() != TypeARP || len(p) < arpLen || string(p[:6]) != string(arpHead) {
		return ARP{}, false
	}
	return ARP{
		Op:        binary.BigEndian.Uint16(p[6:]),
		SenderMAC: net.HardwareAddr(p[8:14]),
		SenderIP:  netip.AddrFrom4([4]byte(p[14:18])),
		TargetMAC: net.HardwareAddr(p[18:24]),
		TargetIP:  netip.AddrFrom4([4]byte(p[24:28])),
	}, true
}

// Probe reports whether it asks for an address without claiming one.
func (a ARP) Probe() bool { return a.Op == ARPRequest && a.SenderIP.IsUnspecified() }

// Gratuitous reports whether it claims an address without being asked.
func (a ARP) Gratuitous() bool { return a.SenderIP == a.TargetIP }

// String is for messages of tests.
func (a ARP) String() string {
	if a.Op == ARPReply {
		return fmt.Sprintf("arp reply %s is at %s", a.SenderIP, a.SenderMAC)
	}
	return fmt.Sprintf("arp who has %s tell %s (%s)", a.TargetIP, a.SenderIP, a.SenderMAC)
}
