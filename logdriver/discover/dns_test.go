package discover

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// zone is a DNS: what logdriver/resolve asks of a real one is tested there.
type zone struct {
	mu    sync.Mutex
	addrs []netip.Addr
	srv   []*net.SRV
	err   error
}

func (z *zone) set(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *zone) Addresses(context.Context, string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.addrs, 0, z.err
}

func (z *zone) Services(context.Context, string) ([]*net.SRV, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.srv, 0, z.err
}

func TestAddresses(t *testing.T) {
	one, six, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.2")
	z := &zone{addrs: []netip.Addr{one, six}}
	f := followSource(t, source(t, "dns+json+tcp://logs.example:5170", Host{Names: z}))
	f.awaits("192.0.2.1:5170*1 [2001:db8::1]:5170*1")
	z.set(func() { z.addrs = []netip.Addr{two, one} })
	f.awaits("192.0.2.1:5170*1 192.0.2.2:5170*1")
	z.set(func() { z.err = errors.New("SERVFAIL") })
	f.fails("SERVFAIL")
}

func TestSRV(t *testing.T) {
	z := &zone{srv: []*net.SRV{
		{Priority: 10, Weight: 3, Port: 601, Target: "a.example."},
		{Priority: 10, Weight: 0, Port: 602, Target: "b.example."},
		{Priority: 20, Weight: 9, Port: 601, Target: "c.example."},
	}}
	f := followSource(t, source(t, "srv+relp://_logs._tcp.example", Host{Names: z}))
	f.awaits("a.example:601*3 b.example:602*1")
	z.set(func() { z.srv = z.srv[2:] })
	f.awaits("c.example:601*9")
	z.set(func() { z.srv = nil })
	f.awaits("")
}
