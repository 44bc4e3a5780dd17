package dhcp

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Port sends and receives frames on one wire. Its methods may be called from
// any goroutine, Receive from one.
type Port interface {
	Send(frame []byte) error
	// Receive waits for a server's reply, to whomever, or another machine's
	// question. It ends with an error when the port is closed or its link goes
	// down or away.
	Receive() (*Reply, error)
	Close() error
}

// Links are where a wire is: what is sent by, and what is listened on besides.
type Links struct {
	Out *net.Interface
	In  []*net.Interface
}

func (l Links) same(o Links) bool {
	if len(l.In) != len(o.In) || l.Out.Index != o.Out.Index {
		return false
	}
	for i := range l.In {
		if l.In[i].Index != o.In[i].Index {
			return false
		}
	}
	return true
}

// OpenSockets opens packet sockets, in the calling thread's namespace. Needs
// CAP_NET_RAW. They hear replies to any MAC: a server answers a renewal to the
// endpoint's, which its link has the interface take (net/core/dev.c: sockets for
// all protocols come before macvlan and bridges).
func OpenSockets(l Links) (Port, error) {
	filter, err := bpf.Assemble(only)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	s := &sockets{heard: make(chan *Reply), failed: make(chan error, 1+len(l.In)), closed: make(chan struct{})}
	for _, link := range append([]*net.Interface{l.Out}, l.In...) {
		c, err := packet.Listen(link, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
		if err == nil {
			err = ignoreOwn(c)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %q: %w", link.Name, err), s.Close())
		}
		s.conns = append(s.conns, c)
		s.readers.Go(func() { s.read(c, link.Name) })
	}
	return s, nil
}

type sockets struct {
	conns   []*packet.Conn // the first is sent by
	heard   chan *Reply
	failed  chan error
	readers sync.WaitGroup

	once   sync.Once
	closed chan struct{}
}

func ignoreOwn(c *packet.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) //nolint:gosec // a descriptor
	})
	return errors.Join(err, opt)
}

// only is the filter, in the kernel: whole UDP packets over IPv4 to a client or
// a server.
var only = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 9},
	bpf.LoadAbsolute{Off: etherLen + 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 7},
	bpf.LoadAbsolute{Off: etherLen + 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 5},
	bpf.LoadMemShift{Off: etherLen},
	bpf.LoadIndirect{Off: etherLen + 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: serverPort, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
	bpf.RetConstant{Val: snapLen},
	bpf.RetConstant{Val: 0},
}

func (s *sockets) read(c *packet.Conn, name string) {
	buf := make([]byte, snapLen)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			s.failed <- fmt.Errorf("listen on %q: %w", name, err)
			return
		}
		r, err := parse(buf[:n])
		if err != nil {
			continue // anybody may send anything to that port
		}
		select {
		case s.heard <- r:
		case <-s.closed:
			return
		}
	}
}

// Send implements Port. A full queue has lost one frame, as any switch may.
func (s *sockets) Send(f []byte) error {
	_, err := s.conns[0].WriteTo(f, &packet.Addr{HardwareAddr: net.HardwareAddr(f[:6])})
	if err != nil && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Receive implements Port.
func (s *sockets) Receive() (*Reply, error) {
	select {
	case r := <-s.heard:
		return r, nil
	case err := <-s.failed:
		return nil, err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements Port.
func (s *sockets) Close() error {
	var errs []error
	s.once.Do(func() {
		close(s.closed)
		for _, c := range s.conns {
			errs = append(errs, c.Close())
		}
		s.readers.Wait()
	})
	return errors.Join(errs...)
}
