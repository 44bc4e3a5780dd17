package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// EtherTypes that tests look for, from the IEEE's list.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd
)

const (
	headerLen = 14 // Ethernet: destination, source, type
	tagLen    = 4  // IEEE 802.1Q
)

// Broadcast is everybody's address.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Frame is what came out of a cable. Data is a whole Ethernet frame (without
// its check sequence), VLAN tag included; it has headerLen bytes at least.
type Frame struct {
	Time time.Time
	Port string // the switch's port where it came in, STATION-INTERFACE
	Data []byte
}

// Dst is the destination.
func (f Frame) Dst() net.HardwareAddr { return f.Data[0:6] }

// Src is the source.
func (f Frame) Src() net.HardwareAddr { return f.Data[6:12] }

// VLAN is the number in the outer tag; 0 means that there is none.
func (f Frame) VLAN() int {
	if f.outer() != TypeVLAN || len(f.Data) < headerLen+tagLen {
		return 0
	}
	return int(binary.BigEndian.Uint16(f.Data[headerLen:]) & 0xfff)
}

// Type is the EtherType of the payload, behind a VLAN tag if there is one.
func (f Frame) Type() uint16 {
	if f.VLAN() != 0 {
		return binary.BigEndian.Uint16(f.Data[headerLen+2:])
	}
	return f.outer()
}

func (f Frame) outer() uint16 { return binary.BigEndian.Uint16(f.Data[12:]) }

// Payload is what follows the header and the tag.
func (f Frame) Payload() []byte {
	if f.VLAN() != 0 {
		return f.Data[headerLen+tagLen:]
	}
	return f.Data[headerLen:]
}

// String is for messages of tests.
func (f Frame) String() string {
	s := fmt.Sprintf("%s: %s > %s type %04x", f.Port, f.Src(), f.Dst(), f.Type())
	if id := f.VLAN(); id != 0 {
		s += fmt.Sprintf(" vlan %d", id)
	}
	if arp, ok := f.ARP(); ok {
		s += " " + arp.String()
	}
	return s
}
