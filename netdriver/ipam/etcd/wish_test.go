package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/ipam"
)

// What an operator reserves on one host holds on all, and after their restarts.
func TestReservationsOfTheCluster(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa, pb := a.pool(subnet), b.pool(subnet)
	r := ipam.Reservation{Pool: pa.Prefix, Addr: addr("10.0.0.77"), Key: "web"}
	for range 2 {
		ok(t, a.Reserve(t.Context(), r))
	}
	await(t, "the other host knows", func() bool { return len(b.Reservations()) == 1 })
	if _, err := b.RequestAddress(pb.ID, ipam.AddressRequest{Addr: r.Addr, Key: "db"}); !errors.Is(err, ipam.ErrReserved) {
		t.Errorf("another by name: %v", err)
	}
	b.end()
	b.start()
	await(t, "it knows again", func() bool { return len(b.Reservations()) == 1 })
	if err := b.Reserve(t.Context(), ipam.Reservation{Pool: pb.Prefix, Addr: r.Addr, Key: "db"}); !errors.Is(err, ipam.ErrReserved) || !strings.Contains(err.Error(), "web") {
		t.Errorf("reserved for another: %v", err)
	}
	if got := b.get(pb, "web"); got != r.Addr {
		t.Errorf("got %s, want %s", got, r.Addr)
	}
	ok(t, b.Unreserve(t.Context(), pb.Prefix, r.Addr))
	await(t, "both know that it is over", func() bool { return len(a.Reservations())+len(b.Reservations()) == 0 })
	if left := s.keys("reservation/"); len(left) != 0 {
		t.Errorf("left in etcd: %v", left)
	}
	s.kill()
	await(t, "etcd is missed", func() bool { return a.Reserve(t.Context(), r) != nil })
}
