package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// maxPings bounds a Pinger's numbers, which are 16 bits wide.
const maxPings = 1 << 16

// Pinger sends numbered echo requests from a station, and knows which were
// answered.
type Pinger struct {
	conn  *icmp.PacketConn
	to    net.Addr
	id    int
	close context.CancelFunc
	wg    sync.WaitGroup

	mu       sync.Mutex // guards all below
	sent     []time.Time
	answered map[int]bool
	news     chan struct{} // closed at each answer
	err      error
}

// Ping begins to send echo requests to an IPv4 address, again and again.
func (s *Station) Ping(to netip.Addr, every time.Duration) (*Pinger, error) {
	p := &Pinger{to: &net.IPAddr{IP: to.AsSlice()}, id: os.Getpid() & 0xffff, answered: map[int]bool{}, news: make(chan struct{})}
	err := s.Do(func() (err error) {
		p.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping from station %s: %w", s.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.close = cancel
	p.wg.Go(func() { p.send(ctx, every) })
	p.wg.Go(p.receive)
	return p, nil
}

func (p *Pinger) send(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := range maxPings {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: p.id, Seq: n}}
		raw, err := m.Marshal(nil)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.sent = append(p.sent, time.Now())
		p.mu.Unlock()
		_, _ = p.conn.WriteTo(raw, p.to) // nobody may have the address: it is not answered then
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Pinger) receive() {
	buf := make([]byte, 1500)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			p.mu.Lock()
			p.err = err
			close(p.news)
			p.mu.Unlock()
			return
		}
		m, err := icmp.ParseMessage(1, buf[:n]) // protocol 1: ICMP
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply || from.String() != p.to.String() {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == p.id {
			p.mu.Lock()
			p.answered[e.Seq] = true
			close(p.news)
			p.news = make(chan struct{})
			p.mu.Unlock()
		}
	}
}

// Since is how many requests that were sent after a moment were not answered
// before the first one that was, which is waited for, and when that was sent.
func (p *Pinger) Since(ctx context.Context, moment time.Time) (lost int, first time.Time, err error) {
	for {
		p.mu.Lock()
		lost := 0
		for n, at := range p.sent {
			if at.Before(moment) {
				continue
			}
			if p.answered[n] {
				p.mu.Unlock()
				return lost, at, nil
			}
			lost++
		}
		news, err := p.news, p.err
		p.mu.Unlock()
		if err != nil {
			return lost, time.Time{}, fmt.Errorf("ping %s: %w", p.to, err)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return lost, time.Time{}, fmt.Errorf("%s does not answer, after %d requests: %w", p.to, lost, context.Cause(ctx))
		}
	}
}

// Close ends it.
func (p *Pinger) Close() error {
	p.close()
	err := p.conn.Close()
	p.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("end pinging %s: %w", p.to, err)
	}
	return nil
}
