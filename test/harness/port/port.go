// Package port keeps ports for servers that begin later, or again: one that was
// only looked for, another process may have made its own meanwhile.
package port

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Port is one of the loopback interface that is given to nobody who does not ask
// for it. Whoever connects is refused until somebody listens there, as those can
// that set SO_REUSEADDR, which is most servers.
type Port struct {
	Addr string
	fd   int
}

// Keep finds one that is free.
func Keep() (*Port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep a port: open a socket: %w", err)
	}
	p := &Port{fd: fd}
	if err := p.bind(); err != nil {
		p.Release()
		return nil, fmt.Errorf("keep a port: %w", err)
	}
	return p, nil
}

// bind is all that is done with the socket: it never listens.
func (p *Port) bind() error {
	if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("share it: %w", err)
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if err := unix.Bind(p.fd, &unix.SockaddrInet4{Addr: host.As4()}); err != nil {
		return fmt.Errorf("bind it: %w", err)
	}
	at, err := unix.Getsockname(p.fd)
	if err != nil {
		return fmt.Errorf("read which it is: %w", err)
	}
	p.Addr = net.JoinHostPort(host.String(), fmt.Sprint(at.(*unix.SockaddrInet4).Port))
	return nil
}

// Release lets anybody have it.
func (p *Port) Release() { _ = unix.Close(p.fd) }

// Hold keeps a port until the test ends.
func Hold(t testing.TB) (addr string) {
	t.Helper()
	p, err := Keep()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p.Addr
}
