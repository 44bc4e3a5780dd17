package dhcp

import (
	"context"
	"encoding/binary"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dockline/dockline/netdriver/ipam"
)

var (
	subnet  = netip.MustParsePrefix("192.0.2.0/24")
	server  = netip.MustParseAddr("192.0.2.1")
	siteMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	webMAC  = net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}
)

// heard is a message of ours as it was on the wire, and when.
type heard struct {
	*dhcpv4.DHCPv4
	at     time.Duration
	to, by net.HardwareAddr
	toIP   netip.Addr
}

// world is a LAN with one server that the test plays. Time is a bubble's.
type world struct {
	t     *testing.T
	begin time.Time
	m     *Manager

	mu     sync.Mutex // guards all below
	table  map[string]Lease
	ends   map[netip.Addr]Holder
	known  map[netip.Addr]bool // to ipam
	others map[netip.Addr]net.HardwareAddr
	heard  []heard
	answer func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4
	port   *fakePort
	next   byte // of the addresses
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, begin: time.Now(), table: map[string]Lease{}, ends: map[netip.Addr]Holder{}, known: map[netip.Addr]bool{}, others: map[netip.Addr]net.HardwareAddr{}, next: 100}
	w.answer = w.leasing(100*time.Second, nil)
	w.start("boot")
	return w
}

func (w *world) start(boot string) {
	w.t.Helper()
	m, err := New(Config{
		Host: w, Leases: w, Neighbours: w, Ours: func(netip.Prefix) bool { return true },
		Endpoints: func() map[netip.Addr]Holder { w.mu.Lock(); defer w.mu.Unlock(); return maps.Clone(w.ends) },
		Instance:  "inst", Boot: boot, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.SetKnown(func(string) []ipam.HeldPool {
		w.mu.Lock()
		defer w.mu.Unlock()
		p := ipam.HeldPool{Pool: w.pool()}
		for a := range w.known {
			p.Held = append(p.Held, ipam.Held{Addr: a})
		}
		return []ipam.HeldPool{p}
	})
	w.m = m
}

func (w *world) pool() ipam.Pool {
	return ipam.Pool{ID: "p", Prefix: subnet, Range: subnet, Backend: Name, Options: map[string]string{"parent": "eth0"}}
}

// leasing answers everything: a MAC gets the address that it asks for, or the next.
func (w *world) leasing(lasts time.Duration, change func(*dhcpv4.DHCPv4)) func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	return func(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		kinds := map[dhcpv4.MessageType]dhcpv4.MessageType{dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest: dhcpv4.MessageTypeAck}
		kind, ok := kinds[q.MessageType()]
		if !ok {
			return nil
		}
		addr := q.RequestedIPAddress()
		if q.ClientIPAddr != nil && !q.ClientIPAddr.IsUnspecified() {
			addr = q.ClientIPAddr
		}
		if addr == nil || addr.IsUnspecified() {
			addr = net.IPv4(192, 0, 2, w.next)
			w.next++
		}
		r, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(addr), dhcpv4.WithLeaseTime(uint32(lasts/time.Second)),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())))
		if err != nil {
			w.t.Error(err)
		}
		if change != nil {
			change(r)
		}
		return r
	}
}

func nak(q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if q.MessageType() != dhcpv4.MessageTypeRequest {
		return nil
	}
	r, _ := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())))
	return r
}

func silent(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return nil }

func (w *world) answers(fn func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = fn
}

// said returns what was sent since the last call.
func (w *world) said() []heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.heard
	w.heard = nil
	return all
}

func (w *world) claim(c ipam.Claim) (netip.Addr, error) {
	a, err := w.m.Claim(context.Background(), w.pool(), c)
	if err == nil {
		w.mu.Lock()
		w.known[a] = true
		w.ends[a] = Holder{MAC: c.MAC}
		w.mu.Unlock()
	}
	return a, err
}

func (w *world) must(c ipam.Claim) netip.Addr {
	w.t.Helper()
	a, err := w.claim(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func container(mac net.HardwareAddr, name string, addr ...netip.Addr) ipam.Claim {
	return ipam.Claim{Owner: ipam.Owner{MAC: mac, Name: name}, Candidates: addr}
}

func (w *world) end(a netip.Addr) {
	w.mu.Lock()
	delete(w.known, a)
	delete(w.ends, a)
	w.mu.Unlock()
	if err := w.m.Release(context.Background(), w.pool(), ipam.Held{Addr: a}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) lease(a netip.Addr) Lease {
	for _, l := range w.m.Leases() {
		if l.Addr == a {
			return l
		}
	}
	return Lease{}
}

// Links and Open are Host's.
func (w *world) Links(Pool) (Links, error) {
	return Links{Out: &net.Interface{Index: 1, Name: "eth0"}}, nil
}

func (w *world) Open(Links) (Port, error) {
	p := &fakePort{w: w, in: make(chan *Reply, 64), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.port = p
	return p, nil
}

type fakePort struct {
	w      *world
	in     chan *Reply
	once   sync.Once
	closed chan struct{}
}

func (p *fakePort) Send(f []byte) error {
	q, err := dhcpv4.FromBytes(f[etherLen+ipLen+udpLen:])
	if err != nil {
		p.w.t.Error(err)
		return nil
	}
	if sum(0, f[etherLen:etherLen+ipLen]) != 0xffff || int(binary.BigEndian.Uint16(f[etherLen+2:])) != len(f)-etherLen {
		p.w.t.Error("an IP header of ours is not right")
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	to, _ := netip.AddrFromSlice(f[etherLen+16 : etherLen+20])
	p.w.heard = append(p.w.heard, heard{DHCPv4: q, at: time.Since(p.w.begin), to: f[:6], by: f[6:12], toIP: to})
	if r := p.w.answer(q); r != nil {
		p.in <- &Reply{r, siteMAC}
	}
	return nil
}

func (p *fakePort) Receive() (*Reply, error) {
	select {
	case r := <-p.in:
		return r, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *fakePort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Put, Delete and All are the table's.
func (w *world) Put(key string, l Lease) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.table[key] = l
	return nil
}

func (w *world) Delete(keys ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range keys {
		delete(w.table, key)
	}
	return nil
}

func (w *world) All() (map[string]Lease, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.table), nil
}

// Look and Probe are Neighbours'.
func (w *world) Look(_ netip.Prefix, a netip.Addr) ipam.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mac := w.others[a]; mac != nil {
		return ipam.Finding{Known: ipam.Used, MAC: mac}
	}
	return ipam.Finding{Known: ipam.Free}
}

func (w *world) Probe(netip.Prefix, ...netip.Addr) {}
