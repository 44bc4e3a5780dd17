package discover

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// zone is a DNS server on loopback with the records that it is given.
type zone struct {
	sync.Mutex
	records []string
	broken  bool
	tcp     int // questions that came over TCP
	addr    string
}

func newZone(t *testing.T) *zone {
	t.Helper()
	z := &zone{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	z.addr = l.Addr().String()
	for _, s := range []*dns.Server{{Listener: l, Handler: z}, {PacketConn: p, Handler: z}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
	return z
}

func (z *zone) set(broken bool, records ...string) {
	z.Lock()
	defer z.Unlock()
	z.broken, z.records = broken, records
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.Lock()
	defer z.Unlock()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	if tcp {
		z.tcp++
	}
	m := new(dns.Msg)
	m.SetReply(q)
	known := false
	for _, text := range z.records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
			known = true
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	switch {
	case z.broken:
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
	case !known:
		m.Rcode = dns.RcodeNameError
	}
	if !tcp {
		m.Truncate(dnsUDPSize)
	}
	_ = w.WriteMsg(m)
}

func TestAddresses(t *testing.T) {
	z := newZone(t)
	z.set(false, "logs.example. 1 IN A 192.0.2.1", "logs.example. 1 IN AAAA 2001:db8::1", "other.example. 1 IN A 192.0.2.9")
	entry := "dns+json+tcp://logs.example:5170?dns-server=" + z.addr
	f := followSource(t, source(t, entry))
	f.awaits("192.0.2.1:5170*1 [2001:db8::1]:5170*1")
	z.set(false, "logs.example. 1 IN A 192.0.2.1", "logs.example. 1 IN A 192.0.2.2")
	f.awaits("192.0.2.1:5170*1 192.0.2.2:5170*1")
	z.set(true)
	f.fails("SERVFAIL")
	z.set(false)
	followSource(t, source(t, entry)).fails("no such name")
}

func TestSRV(t *testing.T) {
	z := newZone(t)
	z.set(false, "_logs._tcp.example. 1 IN SRV 10 3 601 a.example.", "_logs._tcp.example. 1 IN SRV 10 0 602 b.example.", "_logs._tcp.example. 1 IN SRV 20 9 601 c.example.")
	f := followSource(t, source(t, "srv+relp://_logs._tcp.example?dns-server="+z.addr))
	f.awaits("a.example:601*3 b.example:602*1")
	z.set(false, "_logs._tcp.example. 1 IN SRV 20 9 601 c.example.")
	f.awaits("c.example:601*9")
}

func TestAnswersTooLongForADatagram(t *testing.T) {
	z := newZone(t)
	var records []string
	for i := range 120 {
		records = append(records, fmt.Sprintf("logs.example. 1 IN A 192.0.2.%d", i))
	}
	z.set(false, records...)
	f := followSource(t, source(t, "dns+relp://logs.example:1?dns-server="+z.addr))
	if n := len(strings.Fields(<-f.said)); n != 120 {
		t.Errorf("%d members, of 120", n)
	}
	z.Lock()
	defer z.Unlock()
	if z.tcp == 0 {
		t.Error("nothing was asked over TCP")
	}
}
