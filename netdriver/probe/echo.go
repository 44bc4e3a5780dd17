package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/kernel"
)

const (
	echoSize = 64 // bytes of an echo with its header
	echoHead = 8
	snap     = 256
)

// echoes sends echoes of one version of IP and hears the answers. The kernel
// passes it nothing but echo replies.
type echoes struct {
	id   int
	conn net.PacketConn
	done chan struct{}
}

func (m *Manager) openEchoes(v6 bool) (*echoes, error) {
	e := &echoes{id: rand.IntN(1 << 16), done: make(chan struct{})}
	err := m.cfg.Host.Within(func() (err error) {
		if v6 {
			if e.conn, err = net.ListenPacket("ip6:ipv6-icmp", "::"); err != nil {
				return err
			}
			var f ipv6.ICMPFilter
			f.SetAll(true)
			f.Accept(ipv6.ICMPTypeEchoReply)
			return ipv6.NewPacketConn(e.conn).SetICMPFilter(&f)
		}
		if e.conn, err = net.ListenPacket("ip4:icmp", "0.0.0.0"); err != nil {
			return err
		}
		var f ipv4.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv4.ICMPTypeEchoReply)
		return ipv4.NewPacketConn(e.conn).SetICMPFilter(&f)
	})
	if err != nil {
		if e.conn != nil {
			err = errors.Join(err, e.conn.Close())
		}
		return nil, fmt.Errorf("open a socket for echoes: %w", err)
	}
	go m.receive(e)
	return e, nil
}

func (e *echoes) close() error {
	err := e.conn.Close()
	<-e.done
	return err
}

// errElsewhere says that the host's route does not lead straight to the wire.
var errElsewhere = errors.New("the host reaches it by another way")

// echo sends an echo by the host's own route, if that leads by one of the links.
func (m *Manager) echo(to netip.Addr, links []string, seq uint16) error {
	way, err := m.cfg.Host.WayTo(to)
	if errors.Is(err, kernel.ErrNoWay) || err == nil && (way.Via.IsValid() || way.Local || !slices.Contains(links, way.Link)) {
		return errElsewhere
	} else if err != nil {
		return err
	}
	version := 0
	if to.Is6() {
		version = 1
	}
	m.mu.Lock()
	e := m.echoes[version]
	m.mu.Unlock()
	if e == nil { // only Run opens any
		if e, err = m.openEchoes(to.Is6()); err != nil {
			m.say("send echoes", err)
			return err
		}
		m.mu.Lock()
		m.echoes[version] = e
		m.mu.Unlock()
	}
	msg := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id, Seq: int(seq), Data: make([]byte, echoSize-echoHead)}}
	if to.Is6() {
		msg.Type = ipv6.ICMPTypeEchoRequest // the kernel adds the checksum
	}
	frame, err := msg.Marshal(nil)
	if err != nil {
		return err
	}
	if err := e.conn.SetWriteDeadline(time.Now().Add(gaps[ICMP])); err != nil {
		return err
	}
	dst := &net.IPAddr{IP: to.AsSlice()}
	_, err = e.conn.WriteTo(frame, dst)
	if errors.Is(err, unix.ENOBUFS) { // a full queue has lost it, as any switch may
		return nil
	}
	return err
}

// receive hears the answers until the socket is closed.
func (m *Manager) receive(e *echoes) {
	defer close(e.done)
	buf := make([]byte, snap)
	for {
		n, from, err := e.conn.ReadFrom(buf)
		now := time.Now()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // an error that came back for an echo: that one is lost
			continue
		}
		ip, is := from.(*net.IPAddr)
		if !is || n < echoHead || int(binary.BigEndian.Uint16(buf[4:])) != e.id {
			continue
		}
		if addr, ok := netip.AddrFromSlice(ip.IP); ok {
			m.echoed(addr.Unmap(), binary.BigEndian.Uint16(buf[6:]), now)
		}
	}
}

// echoed takes note of the answer to an echo.
func (m *Manager) echoed(from netip.Addr, seq uint16, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.order {
		if t.protocol == ICMP && t.addr == from && t.seq == seq && !t.sent.IsZero() {
			t.answered(now)
			return
		}
	}
}
