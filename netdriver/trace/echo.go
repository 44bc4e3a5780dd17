package trace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	protoICMP, protoICMPv6 = 1, 58
	echoHead               = 8 // of an echo (RFC 792)
	// smallest is a packet of the usual size of a ping, that any path has to carry.
	smallestV4, smallestV6 = 84, 104
	greatest               = 9216
	snap                   = 65536
)

// echoer sends echoes to one address from one namespace and hears what comes
// back. It is used by one goroutine.
type echoer struct {
	to   netip.Addr
	id   int
	seq  int
	conn *net.IPConn
	buf  [snap]byte
}

// heard is an answer to one echo.
type heard struct {
	seq  int
	code string // "" for the reply
	from netip.Addr
	mtu  int // that an error names
}

func (s *space) newEchoer(to netip.Addr, dontFragment bool) (*echoer, error) {
	e := &echoer{to: to, id: rand.IntN(1 << 16)}
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	err := s.k.Within(func() error {
		c, err := net.ListenPacket(network, "")
		if err != nil {
			return err
		}
		e.conn = c.(*net.IPConn)
		if dontFragment {
			err = e.dontFragment()
		}
		if err != nil {
			_ = c.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a socket for echoes: %w", err)
	}
	return e, nil
}

// dontFragment has every packet sent whole or not at all, whatever the kernel
// believes about the path (ip(7), IP_PMTUDISC_PROBE).
func (e *echoer) dontFragment() error {
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if e.to.Is4() {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			return
		}
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
	})
	return errors.Join(err, set)
}

func (e *echoer) headers() int {
	if e.to.Is4() {
		return 20 + echoHead
	}
	return 40 + echoHead
}

// send sends an echo of a size, headers included, and returns its number.
func (e *echoer) send(size int) (seq int, err error) {
	e.seq++
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id, Seq: e.seq, Data: make([]byte, max(0, size-e.headers()))}}
	if e.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel adds the checksum
	}
	frame, err := m.Marshal(nil)
	if err != nil {
		return 0, err
	}
	if err := e.conn.SetWriteDeadline(time.Now().Add(echoWithin)); err != nil {
		return 0, err
	}
	_, err = e.conn.WriteTo(frame, &net.IPAddr{IP: e.to.AsSlice(), Zone: e.to.Zone()})
	return e.seq, err
}

// hear waits until the deadline for what concerns our echoes.
func (e *echoer) hear(deadline time.Time) (heard, bool) {
	if err := e.conn.SetReadDeadline(deadline); err != nil {
		return heard{}, false
	}
	for {
		n, from, err := e.conn.ReadFrom(e.buf[:])
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, net.ErrClosed):
			return heard{}, false
		case err != nil: // the kernel's error of an earlier echo, which says what an ICMP error does
			if time.Now().After(deadline) {
				return heard{}, false
			}
			continue
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if h, ours := e.read(e.buf[:n], addr.Unmap()); ours {
			return h, true
		}
	}
}

// read reads an ICMP message: a reply, or an error about an echo of ours.
func (e *echoer) read(b []byte, from netip.Addr) (heard, bool) {
	if len(b) < echoHead {
		return heard{}, false
	}
	h := heard{from: from}
	reply := byte(0)
	if e.to.Is6() {
		reply = 129
	}
	if b[0] == reply {
		h.seq = int(binary.BigEndian.Uint16(b[6:]))
		return h, from == e.to.WithZone("") && int(binary.BigEndian.Uint16(b[4:])) == e.id
	}
	inner := e.inner(b[echoHead:])
	if inner == nil || int(binary.BigEndian.Uint16(inner[4:])) != e.id {
		return heard{}, false
	}
	h.seq = int(binary.BigEndian.Uint16(inner[6:]))
	h.code, h.mtu = e.errorOf(b)
	return h, h.code != ""
}

const tooBig = "packet too big"

// errorOf reads an error's code (RFC 792, RFC 1812 5.2.7.1, RFC 4443 3).
func (e *echoer) errorOf(b []byte) (code string, mtu int) {
	if e.to.Is6() {
		switch b[0] {
		case 1:
			return map[byte]string{0: NetUnreachable, 1: Prohibited, 3: HostUnreachable, 5: Prohibited, 6: NetUnreachable}[b[1]], 0
		case 2:
			return tooBig, int(binary.BigEndian.Uint32(b[4:]))
		case 3:
			return TimeExceeded, 0
		}
		return "", 0
	}
	switch {
	case b[0] == 3 && b[1] == 4:
		return tooBig, int(binary.BigEndian.Uint16(b[6:]))
	case b[0] == 3:
		code := map[byte]string{0: NetUnreachable, 1: HostUnreachable, 6: NetUnreachable, 7: HostUnreachable, 9: Prohibited, 10: Prohibited, 13: Prohibited}[b[1]]
		if code == "" {
			code = OtherError
		}
		return code, 0
	case b[0] == 11:
		return TimeExceeded, 0
	}
	return "", 0
}

// inner returns the echo that an error quotes, if it is one to our address.
func (e *echoer) inner(b []byte) []byte {
	head, dst, proto := 40, 24, 6
	if e.to.Is4() {
		if len(b) < 20 {
			return nil
		}
		head, dst, proto = int(b[0]&0xf)*4, 16, 9
	}
	if len(b) < head+echoHead || b[proto] != protoICMP && b[proto] != protoICMPv6 {
		return nil
	}
	to, ok := netip.AddrFromSlice(b[dst : dst+len(e.to.AsSlice())])
	if !ok || to != e.to.WithZone("") {
		return nil
	}
	return b[head:]
}

const (
	echoes     = 5
	echoEvery  = 200 * time.Millisecond
	echoWithin = time.Second // after the last one
)

// ping sends echoes and hears the answers.
func (s *space) ping(ctx context.Context, to netip.Addr) (Ping, error) {
	e, err := s.newEchoer(to, false)
	if err != nil {
		return Ping{}, err
	}
	defer e.conn.Close()
	p, sent := Ping{}, map[int]time.Time{}
	var took []time.Duration
	size := smallestV4
	if to.Is6() {
		size = smallestV6
	}
	for i := range echoes {
		if ctx.Err() != nil {
			break
		}
		begun := time.Now()
		seq, err := e.send(size)
		p.Sent++
		if err != nil {
			p.Fault, p.Blocked = err.Error(), errors.Is(err, unix.EPERM)
			begun = time.Now()
		} else {
			sent[seq] = begun
		}
		wait := echoEvery
		if i == echoes-1 {
			wait = echoWithin
		}
		for until := begun.Add(wait); len(sent) > 0 || i < echoes-1; {
			h, ok := e.hear(until)
			if !ok {
				break
			}
			if at, new := sent[h.seq]; new {
				delete(sent, h.seq)
				p.note(h, time.Since(at), &took)
			}
		}
	}
	p.sum(took)
	return p, nil
}

func (p *Ping) note(h heard, after time.Duration, took *[]time.Duration) {
	if h.code == "" {
		p.Received++
		*took = append(*took, after)
		return
	}
	for i := range p.Errors {
		if p.Errors[i].From == h.from && p.Errors[i].Code == h.code {
			p.Errors[i].Count++
			return
		}
	}
	p.Errors = append(p.Errors, Unreachable{From: h.from, Code: h.code, Count: 1})
}

func (p *Ping) sum(took []time.Duration) {
	if len(took) == 0 {
		return
	}
	p.Min, p.Max = took[0], took[0]
	var total, jitter time.Duration
	for i, t := range took {
		p.Min, p.Max = min(p.Min, t), max(p.Max, t)
		total += t
		if i > 0 {
			jitter += (t - took[i-1]).Abs()
		}
	}
	p.Avg = total / time.Duration(len(took))
	p.Jitter = jitter / time.Duration(max(1, len(took)-1))
}

const (
	sizesAtOnce = 8
	sizeTries   = 3
	leastWait   = 200 * time.Millisecond
)

// pathMTU looks for the greatest packet that is answered, among those not
// greater than the link's. That of a ping's size was.
func (s *space) pathMTU(ctx context.Context, to netip.Addr, link int, rtt time.Duration) (MTU, error) {
	m := MTU{Link: link}
	e, err := s.newEchoer(to, true)
	if err != nil {
		return m, err
	}
	defer e.conn.Close()
	wait := min(max(leastWait, 4*rtt), 2*time.Second)
	high := min(link, greatest)
	if low, _ := m.try(e, []int{high}, wait); low == high {
		m.Path = high
		return m, nil
	}
	low := smallestV4
	if to.Is6() {
		low = smallestV6
	}
	for high-low > 1 && ctx.Err() == nil {
		var sizes []int
		step := max(1, (high-low)/(sizesAtOnce+1))
		for size := low + step; size < high && len(sizes) < sizesAtOnce; size += step {
			sizes = append(sizes, size)
		}
		best, lost := m.try(e, sizes, wait)
		low = max(low, best)
		if lost > 0 {
			high = min(high, max(lost, low+1))
		}
	}
	m.Path, m.Size = low, high
	return m, nil
}

// try sends packets of some sizes, again those that are not answered, and
// returns the greatest that was answered and the smallest beyond that was not.
// What errors say is noted.
func (m *MTU) try(e *echoer, sizes []int, wait time.Duration) (best, lost int) {
	answered := map[int]bool{}
	for range sizeTries {
		of := map[int]int{}
		for _, size := range sizes {
			if answered[size] {
				continue
			}
			if seq, err := e.send(size); err == nil {
				of[seq] = size
			}
		}
		for until := time.Now().Add(wait); len(of) > 0; {
			h, ok := e.hear(until)
			if !ok {
				break
			}
			if h.code == tooBig {
				m.Told, m.By = h.mtu, h.from
			} else if size := of[h.seq]; h.code == "" && size > 0 {
				answered[size] = true
			}
			delete(of, h.seq)
		}
		if len(answered) == len(sizes) {
			break
		}
	}
	for _, size := range sizes {
		if answered[size] {
			best = max(best, size)
		}
	}
	for _, size := range sizes {
		if !answered[size] && size > best && (lost == 0 || size < lost) {
			lost = size
		}
	}
	return best, lost
}
