// Package neighbour asks on a wire who has an address, announces addresses,
// and hears who claims one: ARP (RFC 826, RFC 5227) and neighbour discovery
// (RFC 4861) on packet sockets.
//
// It stands beside kernel at the end of the network plugin's path, below watch,
// and is the only place that sees a frame. The kernel drops everything else
// before it reaches the socket.
package neighbour

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Port speaks and listens by one link. Its methods may be called from any
// goroutine, Receive from one.
type Port struct {
	link  *net.Interface
	in    *packet.Conn
	wires []*net.Interface // that lead straight to the wire
	out   []*packet.Conn   // by each of them
	buf   [snapLen]byte
}

// ErrNoCarrier says that nothing that is sent gets anywhere.
var ErrNoCarrier = errors.New("no carrier")

// Open opens a port on a link, in the calling thread's namespace. What must not
// come back to this host's own containers is sent by the other links, the one
// that the first stands on or those that it has as ports. Needs CAP_NET_RAW.
func Open(link *net.Interface, wires ...*net.Interface) (*Port, error) {
	filter, err := bpf.Assemble(only)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	in, err := packet.Listen(link, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", link.Name, err)
	}
	p := &Port{link: link, in: in, wires: wires}
	if err := p.set(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %q: %w", link.Name, err), in.Close())
	}
	for _, wire := range wires {
		out, err := packet.Listen(wire, packet.Raw, 0, nil) // protocol 0 receives nothing
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %q for sending: %w", wire.Name, err), p.Close())
		}
		p.out = append(p.out, out)
	}
	return p, nil
}

// Carrier returns ErrNoCarrier where there are wires and none has one: then
// silence says nothing of who has an address.
func (p *Port) Carrier() error {
	raw, err := p.in.SyscallConn()
	if err != nil {
		return err
	}
	var there bool
	var asked error
	err = raw.Control(func(fd uintptr) { there, asked = p.running(int(fd)) }) //nolint:gosec // a descriptor
	if err = errors.Join(err, asked); err != nil {
		return fmt.Errorf("look for the carrier of %q: %w", p.link.Name, err)
	}
	if !there {
		return fmt.Errorf("listen on %q: %w", p.link.Name, ErrNoCarrier)
	}
	return nil
}

// running reports whether any wire has a carrier (netdevice(7), SIOCGIFFLAGS).
func (p *Port) running(fd int) (bool, error) {
	for _, wire := range p.wires {
		req, err := unix.NewIfreq(wire.Name)
		if err != nil {
			return false, err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
			return false, err
		}
		if req.Uint16()&unix.IFF_RUNNING != 0 {
			return true, nil
		}
	}
	return len(p.wires) == 0, nil
}

func (p *Port) set() error {
	raw, err := p.in.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) //nolint:gosec // a descriptor
	})
	return errors.Join(err, opt, p.in.JoinGroup(group(allNodes)))
}

// only is the filter, in the kernel: ARP, and ICMPv6 of the two kinds that
// claim an address. Of an IPv6 packet with other headers in between nobody
// expects either (RFC 4861 knows none).
var only = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 6},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 6},
	bpf.LoadAbsolute{Off: etherLen + 6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 4},
	bpf.LoadAbsolute{Off: icmpAt, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: advertisement, SkipTrue: 1},
	bpf.RetConstant{Val: snapLen},
	bpf.RetConstant{Val: 0},
}

// Ask asks who has an address: one machine, by its MAC, or everybody if that is nil.
func (p *Port) Ask(addr netip.Addr, to net.HardwareAddr) error {
	return p.send(p.in, question(addr, p.link.HardwareAddr, to))
}

// Announce says to everybody that mac has an address. For IPv6 this host's own
// containers are left out: the one that has the address would take it for
// somebody else's claim (net/ipv6/ndisc.c, ndisc_recv_na).
func (p *Port) Announce(addr netip.Addr, mac net.HardwareAddr) error {
	frame := announcement(addr, mac)
	if addr.Is4() {
		return p.send(p.in, frame)
	}
	var errs []error
	for _, by := range p.out {
		errs = append(errs, p.send(by, frame))
	}
	return errors.Join(errs...)
}

func (p *Port) send(by *packet.Conn, frame []byte) error {
	_, err := by.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	if err != nil && !errors.Is(err, unix.ENOBUFS) { // a full queue has lost one frame, as any switch may
		return fmt.Errorf("send by %q: %w", p.link.Name, err)
	}
	return nil
}

// Receive waits for a claim. It ends with an error when the port is closed or
// its link goes down or away.
func (p *Port) Receive() (Claim, error) {
	for {
		n, _, err := p.in.ReadFrom(p.buf[:])
		if err != nil {
			return Claim{}, fmt.Errorf("listen on %q: %w", p.link.Name, err)
		}
		if c, ok := parse(p.buf[:n]); ok && string(c.MAC) != string(p.link.HardwareAddr) {
			return c, nil
		}
	}
}

// Unread reports whether a frame has come that Receive has not read (packet(7), SIOCINQ).
func (p *Port) Unread() bool {
	raw, err := p.in.SyscallConn()
	if err != nil {
		return false
	}
	waiting := 0
	err = raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }) //nolint:gosec // a descriptor
	return err == nil && waiting > 0
}

// Close closes the port and ends Receive.
func (p *Port) Close() error {
	errs := []error{p.in.Close()}
	for _, out := range p.out {
		errs = append(errs, out.Close())
	}
	return errors.Join(errs...)
}
