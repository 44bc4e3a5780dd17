package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/dockline/dockline/test/harness/netns"
)

// Where there are few ports, one that is held is given to who asks for it, again
// and again, and to nobody else.
func TestHold(t *testing.T) {
	ns := fmt.Sprintf("port-%d", os.Getpid())
	if err := netns.Add(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netns.Delete(ns) })
	err := netns.Do(ns, func() error {
		// The file is the namespace's of the thread that opens it.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40007"), 0o644); err != nil {
			return err
		}
		held := Hold(t)
		if given := others(); len(given) != 7 || given[held] {
			t.Errorf("of eight ports, of which %s is held, %v are given", held, given)
		}
		return used(held)
	})
	if err != nil {
		t.Error(err)
	}
}

// others are the addresses that are given to who asks for any, until there is none.
func others() map[string]bool {
	given := map[string]bool{}
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return given
		}
		defer l.Close()
		given[l.Addr().String()] = true
	}
}

// used listens and connects, twice.
func used(addr string) error {
	for range 2 {
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("nobody listens at %s, but: %v, %w", addr, c, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		c.Close()
		l.Close()
	}
	return nil
}
