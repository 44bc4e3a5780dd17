package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// twins returns two keys whose addresses are the same by their hash.
func twins(t *testing.T, p Pool) (one, other string, at netip.Addr) {
	t.Helper()
	seen := map[netip.Addr]string{}
	for i := range 10000 {
		key := fmt.Sprint("box-", i)
		a := taken{span: span{p.Range.Addr(), last(p.Range)}}.wanted(key)
		if seen[a] != "" && p.Range.Addr().Next() != a && a.Next() != last(p.Range) && a != p.Range.Addr() && a != last(p.Range) {
			return seen[a], key, a
		}
		seen[a] = key
	}
	t.Fatal("no two keys have the same place")
	return "", "", netip.Addr{}
}

func release(t *testing.T, m *Manager, p Pool, a netip.Addr) {
	t.Helper()
	if err := m.ReleaseAddress(p.ID, a); err != nil {
		t.Fatal(err)
	}
}

func TestTheSameNameHasTheSameAddress(t *testing.T) {
	for _, asked := range []bool{false, true} { // on the wire
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			w := newWorld()
			if asked {
				wire := newLAN()
				for i := range 40 { // in reserve, and not to be preferred
					wire.known[netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)})] = Finding{Known: Free}
				}
				w.wire = wire
			}
			var first []netip.Addr
			for range 2 { // the second time on another host, in another order
				m := w.start(t)
				p := mustPool(t, m, "10.0.0.0/16")
				var got []netip.Addr
				names := []string{"web", "db", "cache"}
				if first != nil {
					slices.Reverse(names)
				}
				for _, name := range names {
					got = append(got, mustAddr(t, m, p, AddressRequest{Key: name}))
				}
				if first != nil {
					slices.Reverse(got)
					if !slices.Equal(first, got) {
						t.Errorf("got %v, before %v", got, first)
					}
				}
				first = got
				w.pools, w.given = table[Pool]{}, table[Given]{}
			}
		})
	}
}

// A container comes from another host, which this one has heard speak by its
// address; a stranger who is still there is not believed to be gone.
func TestAContainerComesFromAnotherHost(t *testing.T) {
	w := newWorld()
	wire := newLAN()
	w.wire = wire
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	one, other, place := twins(t, p)
	wire.known[place] = Finding{Known: Used, Heard: time.Now()}
	if a := mustAddr(t, m, p, AddressRequest{Key: one}); a != place {
		t.Errorf("got %s, want %s", a, place)
	}
	release(t, m, p, place)
	wire.others[place], wire.known[place] = true, Finding{Known: Used, Heard: time.Now()}
	if a := mustAddr(t, m, p, AddressRequest{Key: other}); a == place {
		t.Errorf("got %s, which is another machine's", a)
	}
}

// Whose place was taken when it started keeps the one that it got, also when its
// own becomes free, until the time is over.
func TestAnAddressIsKeptForWhoHadIt(t *testing.T) {
	w := newWorld()
	w.keep = 5 * time.Minute
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	one, other, place := twins(t, p)
	a, b := mustAddr(t, m, p, AddressRequest{Key: one}), mustAddr(t, m, p, AddressRequest{Key: other})
	if a != place || b == place {
		t.Fatalf("got %s and %s, place %s", a, b, place)
	}
	release(t, m, p, a)
	release(t, m, p, b)
	m = w.start(t) // which forgets nothing
	if again := mustAddr(t, m, p, AddressRequest{Key: other}); again != b {
		t.Errorf("%s had %s and gets %s", other, b, again)
	}
	if r := m.Reservations(); len(r) != 1 || r[0].Addr != a || r[0].Key != one {
		t.Errorf("kept %+v", r)
	}
	release(t, m, p, b)
	w.now = w.now.Add(5 * time.Minute)
	if again := mustAddr(t, m, p, AddressRequest{Key: other}); again != place {
		t.Errorf("%s gets %s when the time is over, want its place %s", other, again, place)
	}
}

func TestOthersGetAKeptAddressLast(t *testing.T) {
	w := newWorld()
	w.keep = time.Minute
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/29") // six
	mine := mustAddr(t, m, p, AddressRequest{Key: "web"})
	release(t, m, p, mine)
	var others []netip.Addr
	for range 6 {
		others = append(others, mustAddr(t, m, p, AddressRequest{}))
	}
	if slices.Index(others, mine) != 5 {
		t.Errorf("%s is given as number %d of %v", mine, slices.Index(others, mine), others)
	}
	if r := m.Reservations(); len(r) != 0 || len(w.kept) != 0 {
		t.Errorf("kept %+v and %v although it is given", r, w.kept)
	}
	if _, err := m.RequestAddress(p.ID, AddressRequest{Key: "web"}); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v", err)
	}
}

func TestKeptByNameIsNamedByAnybody(t *testing.T) {
	w := newWorld()
	w.keep = time.Minute
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	a := mustAddr(t, m, p, AddressRequest{Key: "web"})
	release(t, m, p, a)
	if got := mustAddr(t, m, p, AddressRequest{Addr: a, Key: "db"}); got != a {
		t.Errorf("got %s", got)
	}
}

func TestReservations(t *testing.T) {
	w := newWorld()
	ctx := context.Background()
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	r := Reservation{Pool: p.Prefix, Addr: addr("10.0.0.77"), Key: "web"}
	for range 2 {
		if err := m.Reserve(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	m = w.start(t) // a restart
	for range 252 {
		if a := mustAddr(t, m, p, AddressRequest{}); a == r.Addr { // all but the ends, .77 and one more
			t.Fatal("somebody else got it")
		}
	}
	if _, err := m.RequestAddress(p.ID, AddressRequest{Addr: r.Addr, Key: "db"}); !errors.Is(err, ErrReserved) || !strings.Contains(err.Error(), `"web"`) {
		t.Errorf("another by name: %v", err)
	}
	mustAddr(t, m, p, AddressRequest{})
	if _, err := m.RequestAddress(p.ID, AddressRequest{}); !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "1 reserved") {
		t.Errorf("all given: %v", err)
	}
	if a := mustAddr(t, m, p, AddressRequest{Key: "web"}); a != r.Addr {
		t.Errorf("got %s", a)
	}
	if err := m.Unreserve(ctx, p.Prefix, r.Addr); err != nil {
		t.Error(err)
	}
	if err := m.Unreserve(ctx, p.Prefix, r.Addr); !errors.Is(err, ErrNoReservation) {
		t.Errorf("taken back twice: %v", err)
	}
	if all := m.Reservations(); len(all) != 0 || len(w.reservations) != 0 {
		t.Errorf("left: %v, %v", all, w.reservations)
	}
}

// What an operator reserves may lie outside of the range that is chosen from, and
// wins over what is kept.
func TestAReservationOutsideOfTheRange(t *testing.T) {
	w := newWorld()
	w.keep = time.Minute
	m := w.start(t)
	p, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix("10.0.0.0/24"), Range: prefix("10.0.0.64/26")})
	if err != nil {
		t.Fatal(err)
	}
	release(t, m, p, mustAddr(t, m, p, AddressRequest{Key: "web"}))
	if err := m.Reserve(context.Background(), Reservation{Pool: p.Prefix, Addr: addr("10.0.0.5"), Key: "web"}); err != nil {
		t.Fatal(err)
	}
	if a := mustAddr(t, m, p, AddressRequest{Key: "web"}); a != addr("10.0.0.5") {
		t.Errorf("got %s", a)
	}
	if a := mustAddr(t, m, p, AddressRequest{Key: "web"}); !p.Range.Contains(a) { // a second one of the name
		t.Errorf("got %s", a)
	}
}

func TestReserveRefuses(t *testing.T) {
	w := newWorld()
	w.backends = map[string]Backend{SplitName: Split{}}
	m := w.start(t)
	p := mustPool(t, m, "10.0.0.0/24")
	mustAddr(t, m, p, AddressRequest{Addr: addr("10.0.0.1"), Gateway: true})
	share, err := m.RequestPool(PoolRequest{
		Space: LocalSpace, Prefix: prefix("10.1.0.0/24"), Options: map[string]string{"backend": "split", "hosts": "2", "host_index": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reserve(context.Background(), Reservation{Pool: p.Prefix, Addr: addr("10.0.0.7"), Key: "web"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r    Reservation
		want error
	}{
		"of no pool":                   {Reservation{Pool: prefix("10.9.0.0/24"), Addr: addr("10.9.0.1"), Key: "a"}, ErrNoPool},
		"an address of another pool":   {Reservation{Pool: p.Prefix, Addr: addr("10.1.0.200"), Key: "a"}, ErrUnsuitable},
		"the broadcast address":        {Reservation{Pool: p.Prefix, Addr: addr("10.0.0.255"), Key: "a"}, ErrUnsuitable},
		"the gateway":                  {Reservation{Pool: p.Prefix, Addr: addr("10.0.0.1"), Key: "a"}, ErrUnsuitable},
		"another's":                    {Reservation{Pool: p.Prefix, Addr: addr("10.0.0.7"), Key: "a"}, ErrReserved},
		"a second one":                 {Reservation{Pool: p.Prefix, Addr: addr("10.0.0.8"), Key: "web"}, ErrReserved},
		"of the share of another host": {Reservation{Pool: share.Prefix, Addr: addr("10.1.0.5"), Key: "a"}, ErrUnsuitable},
	} {
		if err := m.Reserve(context.Background(), c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Reserve(context.Background(), Reservation{Pool: share.Prefix, Addr: addr("10.1.0.200"), Key: "a"}); err != nil {
		t.Errorf("of this host's share: %v", err)
	}
}

// keeper is a backend that has the cluster's reservations.
type keeper struct {
	embedded
	all map[netip.Addr]Reservation
}

func (k *keeper) Reservations(Pool) (all []Reservation) {
	for _, r := range k.all {
		all = append(all, r)
	}
	return all
}

func (k *keeper) Reserve(_ context.Context, _ Pool, r Reservation) error {
	k.all[r.Addr] = r
	return nil
}

func (k *keeper) Unreserve(_ context.Context, _ Pool, a netip.Addr) error {
	delete(k.all, a)
	return nil
}

func TestReservationsOfTheCluster(t *testing.T) {
	w := newWorld()
	w.keep = time.Hour
	k := &keeper{all: map[netip.Addr]Reservation{}}
	w.backends = map[string]Backend{"keeper": k}
	m := w.start(t)
	p, err := m.RequestPool(PoolRequest{Space: LocalSpace, Prefix: prefix("10.0.0.0/24"), Options: map[string]string{"backend": "keeper"}})
	if err != nil {
		t.Fatal(err)
	}
	web := Reservation{Pool: p.Prefix, Addr: addr("10.0.0.77"), Key: "web"}
	if err := m.Reserve(context.Background(), web); err != nil || len(w.reservations) != 0 || len(k.all) != 1 {
		t.Fatalf("%v, here %v, in the cluster %v", err, w.reservations, k.all)
	}
	k.all[addr("10.0.0.9")] = Reservation{Pool: p.Prefix, Addr: addr("10.0.0.9"), Key: "db", Until: w.now.Add(time.Minute)} // released by another host
	for key, want := range map[string]string{"web": "10.0.0.77", "db": "10.0.0.9"} {
		if a := mustAddr(t, m, p, AddressRequest{Key: key}); a != addr(want) {
			t.Errorf("%s gets %s, want %s", key, a, want)
		}
	}
	release(t, m, p, addr("10.0.0.9"))
	if len(w.kept) != 0 {
		t.Errorf("kept here too: %v", w.kept)
	}
	if err := m.Unreserve(context.Background(), p.Prefix, web.Addr); err != nil || len(m.Reservations()) != 1 {
		t.Errorf("%v; left %v", err, m.Reservations())
	}
}
