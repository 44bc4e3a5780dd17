package testport

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// Who names the address listens there, as often as he likes; meanwhile it is refused.
func TestWhoNamesIt(t *testing.T) {
	addr := Of(t)
	for range 3 {
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("nobody listens: %v", err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Close(), s.Close(), c.Close()); err != nil { // the server's side waits, in TIME_WAIT
			t.Fatal(err)
		}
	}
}

// Nobody else gets it: of half the ports that the kernel chooses from, none is one
// that is kept.
func TestNobodyElseGetsIt(t *testing.T) {
	kept := map[string]bool{}
	for range 500 {
		addr := Of(t)
		if kept[addr] {
			t.Fatalf("%s is kept twice", addr)
		}
		kept[addr] = true
	}
	for range 5000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		if kept[addr] {
			t.Fatalf("%s is given to somebody", addr)
		}
	}
}
