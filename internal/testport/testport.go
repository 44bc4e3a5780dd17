// Package testport keeps ports for tests: of collectors that are not there yet, or
// that end and come back, and of daemons that have to be told where to listen.
//
// A port that was asked of the kernel and let go is anybody's. Between that and the
// moment when the test listens there, it is given to the next who asks, and tests of
// all packages ask all the time: what was to be refused is taken, what was to listen
// cannot, and somebody gets what is none of his.
package testport

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Keep returns an address of loopback where nobody listens, and which is given to
// nobody until release: connections to it are refused. Who names it may listen there,
// also again and again, with SO_REUSEADDR, which Go's net sets as daemons do.
func Keep() (addr string, release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("keep a port: %w", err)
	}
	release = func() { _ = unix.Close(fd) }
	// Bound, and never listening: the kernel passes such a port by when it chooses
	// one, and lets those have it that ask for it.
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, nameErr := unix.Getsockname(fd)
	if err = errors.Join(err, nameErr); err != nil {
		release()
		return "", nil, fmt.Errorf("keep a port: %w", err)
	}
	v4, ok := at.(*unix.SockaddrInet4)
	if !ok {
		release()
		return "", nil, fmt.Errorf("keep a port: got %T", at)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(v4.Port)), release, nil
}

// Of is Keep until the test ends.
func Of(t testing.TB) (addr string) {
	t.Helper()
	addr, release, err := Keep()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}
