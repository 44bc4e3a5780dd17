package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/netdriver/kernel"
)

// place is a network namespace with a link in it: a container's sandbox or a
// machine on the LAN.
type place struct {
	t    *testing.T
	ns   netns.NsHandle
	lib  *netlink.Handle
	link string
}

// inside runs fn on a thread in a namespace. Sockets that it opens are there.
func inside(ns netns.NsHandle, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := netns.Set(ns)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// move puts a link of the host into a namespace of its own and does there what
// the engine does: MAC, addresses, up.
func (h *host) move(link string, mac net.HardwareAddr, addrs ...string) *place {
	h.t.Helper()
	p := &place{t: h.t, link: link}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		if p.ns, err = netns.New(); err == nil {
			p.lib, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		made <- err
	}()
	if err := <-made; err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.lib.Close(); _ = p.ns.Close() })
	if err := h.lib.LinkSetNsFd(h.link(link), int(p.ns)); err != nil {
		h.t.Fatal(err)
	}
	l := must[netlink.Link](h.t)(p.lib.LinkByName(link))
	if mac != nil {
		if err := p.lib.LinkSetHardwareAddr(l, mac); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, text := range addrs {
		a := must[*netlink.Addr](h.t)(netlink.ParseAddr(text))
		a.Flags = unix.IFA_F_NODAD
		if err := p.lib.AddrAdd(l, a); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := p.lib.LinkSetUp(l); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// lan is the machine at the other end of a wire.
func (h *host) lan(nic string, addrs ...string) *place { return h.move(nic+"-peer", nil, addrs...) }

// run creates and joins an endpoint of network n and moves its link.
func (h *host) run(id, addr, addr6 string) *place {
	h.t.Helper()
	return h.runOn("n", id, addr, addr6)
}

func (h *host) runOn(network, id, addr, addr6 string) *place {
	h.t.Helper()
	h.ok("NetworkDriver.CreateEndpoint", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Interface":{"Address":%q,"AddressIPv6":%q}}`, network, id, addr, addr6))
	h.ok("NetworkDriver.Join", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q}`, network, id))
	var addrs []string
	for _, a := range []string{addr, addr6} {
		if a != "" {
			addrs = append(addrs, a)
		}
	}
	return h.move(kernel.ContainerName(id), nil, addrs...)
}

func endpointOf(id string) string { return `{"NetworkID":"n","EndpointID":"` + id + `"}` }

// stop ends an endpoint as the engine does, its link with its sandbox.
func (h *host) stop(id string, p *place) {
	h.t.Helper()
	h.ok("NetworkDriver.Leave", endpointOf(id))
	if p != nil {
		if err := p.lib.LinkDel(must[netlink.Link](h.t)(p.lib.LinkByName(p.link))); err != nil {
			h.t.Fatal(err)
		}
	}
	h.ok("NetworkDriver.DeleteEndpoint", endpointOf(id))
}

// host's own namespace as a place.
func (h *host) place() *place { return &place{t: h.t, ns: h.ns, lib: h.lib} }

// reaches sends datagrams until one is answered, and returns whom the other end
// took them from.
func (p *place) reaches(to *place, addr string) netip.Addr {
	p.t.Helper()
	from, err := p.ask(to, addr, 10*time.Second)
	if err != nil {
		p.t.Errorf("%s is not reached from %s: %v", addr, p.link, err)
	}
	return from
}

// misses checks that nothing arrives within a time in which everything else does.
func (p *place) misses(to *place, addr string) {
	p.t.Helper()
	if from, err := p.ask(to, addr, 300*time.Millisecond); err == nil {
		p.t.Errorf("%s is reached from %s (%s)", addr, p.link, from)
	}
}

func (p *place) ask(to *place, addr string, within time.Duration) (from netip.Addr, err error) {
	var server *net.UDPConn
	err = inside(to.ns, func() (err error) {
		server, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)})
		return err
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listen at %s: %w", addr, err)
	}
	heard := make(chan netip.Addr, 1)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buf := make([]byte, 64)
		for {
			n, peer, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			select {
			case heard <- peer.Addr().Unmap():
			default:
			}
			_, _ = server.WriteToUDPAddrPort(buf[:n], peer)
		}
	}()
	defer func() { server.Close(); <-answered }()
	err = inside(p.ns, func() error { return echo(server.LocalAddr().String(), within) })
	if err != nil {
		return netip.Addr{}, err
	}
	return <-heard, nil
}

func echo(addr string, within time.Duration) error {
	const again = 50 * time.Millisecond // a first datagram may be lost while addresses are resolved
	var last error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		c, err := net.Dial("udp", addr)
		if err != nil {
			last = err // no route yet
			runtime.Gosched()
			continue
		}
		_ = c.SetDeadline(time.Now().Add(again))
		_, err = c.Write([]byte("hello"))
		if err == nil {
			_, err = c.Read(make([]byte, 64))
		}
		c.Close()
		if err == nil {
			return nil
		}
		last = err
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			runtime.Gosched()
		}
	}
	return last
}
