package dhcp_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/dhcpd"
)

var soak = flag.Duration("soak", 0, "how long leases are kept under disturbance; 0: as long as it takes to renew them a few times")

const (
	endpoints = 50
	atOnce    = 8
)

// TestLeasesAreKept has many containers renew short leases while servers are
// restarted and the plugin is killed. Nobody's address changes, and what the
// server has leased is what we know of, to the end.
func TestLeasesAreKept(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, kind dhcpd.Kind) {
		s := settings()
		period := 30 * time.Second
		if kind == dhcpd.Kea {
			// Renewed often, and outliving a server whose restart takes its time.
			s.Lease, s.Renew, s.Rebind = 40*time.Second, 4*time.Second, 30*time.Second
		}
		if *soak > 0 {
			period = *soak
			if kind == dhcpd.Kea {
				s.Lease, s.Renew, s.Rebind = 30*time.Second, 15*time.Second, 25*time.Second
			}
		}
		k := keeping{rig: newRig(t, kind, s)}
		k.lanNetwork()
		k.startAll()
		k.ended = time.Now().Add(s.Lease)
		k.disturb(period)
		k.compare()
		k.end()
	})
}

type keeping struct {
	*rig
	all   []*container
	ended time.Time // by then no lease would last that was not renewed
}

func (k *keeping) startAll() {
	k.Helper()
	begin := time.Now()
	for i := range endpoints {
		c := &container{mac: mac(k.T, fmt.Sprintf("0a:00:00:00:01:%02x", i))}
		switch i % 3 {
		case 1:
			c.name, c.mac = fmt.Sprintf("box_%d", i), mac(k.T, fmt.Sprintf("02:42:00:00:01:%02x", i))
		case 2:
			c.opts = map[string]string{"hostname": fmt.Sprintf("host-%d", i)}
		}
		k.all = append(k.all, c)
	}
	k.must(together(k.all, k.start))
	k.Logf("%d containers started in %s", len(k.all), time.Since(begin).Round(time.Millisecond))
	seen := map[netip.Prefix]bool{}
	for _, c := range k.all {
		if seen[c.addr] {
			k.Errorf("%s was given twice", c.addr)
		}
		seen[c.addr] = true
	}
}

// together does something with all containers, some at a time.
func together(all []*container, do func(*container) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	slots := make(chan struct{}, atOnce)
	for i, c := range all {
		wg.Go(func() {
			slots <- struct{}{}
			errs[i] = do(c)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// disturb breaks one thing after the other, and restarts containers in between.
func (k *keeping) disturb(period time.Duration) {
	k.Helper()
	until := time.Now().Add(period)
	for round := 0; time.Now().Before(until); round++ {
		switch round % 3 {
		case 0:
			k.restartPlugin()
		case 1:
			k.must(k.server.Stop())
			time.Sleep(2 * time.Second) // the server is away while leases are due
			k.must(k.server.Start(k.Context()))
		case 2:
			k.restartSome()
		}
		time.Sleep(min(3*time.Second, time.Until(until))) // renewals go on meanwhile; what is measured is not time
		k.unchanged()
	}
}

func (k *keeping) restartSome() {
	k.Helper()
	some := make([]*container, 0, 10)
	for _, i := range rand.Perm(len(k.all))[:10] {
		some = append(some, k.all[i])
	}
	was := map[*container]netip.Prefix{}
	for _, c := range some {
		was[c] = c.addr
	}
	k.must(together(some, k.stop))
	for _, c := range some {
		if strings.HasPrefix(c.mac.String(), "02:42") { // the engine makes another one
			c.mac = mac(k.T, fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", rand.IntN(256), rand.IntN(256), rand.IntN(256), rand.IntN(256)))
		}
	}
	k.must(together(some, k.start))
	for _, c := range some {
		if c.addr != was[c] {
			k.Errorf("container %q with MAC %s has %s after its restart, had %s", c.name, c.mac, c.addr, was[c])
		}
	}
}

// unchanged looks whether every container has a lease that lasts.
func (k *keeping) unchanged() {
	k.Helper()
	table := k.table()
	for _, c := range k.all {
		l, ok := table[c.addr.Addr()]
		if !ok || l.State != "bound" || l.MAC != c.mac.String() || time.Now().After(l.Ends) {
			k.Errorf("the lease of %s (%s) is %+v", c.addr, c.mac, l)
		}
	}
}

// compare holds the server's own file against what the plugin has.
func (k *keeping) compare() {
	k.Helper()
	k.await(20*time.Second, func() error {
		theirs, err := k.server.Leases()
		if err != nil {
			return err
		}
		ours := k.table()
		for a, l := range theirs {
			if o, ok := ours[a]; !ok || o.MAC != l.MAC {
				err = errors.Join(err, fmt.Errorf("the server has %+v, we %+v", l, o))
			}
		}
		if len(theirs) != len(ours) || len(ours) != len(k.all) {
			err = errors.Join(err, fmt.Errorf("the server has %d leases, we %d, for %d containers", len(theirs), len(ours), len(k.all)))
		}
		for _, o := range ours {
			if !o.Ends.After(k.ended) {
				err = errors.Join(err, fmt.Errorf("it was never renewed: %+v", o))
			}
		}
		return err
	})
}

// end removes everything: nothing stays leased.
func (k *keeping) end() {
	k.Helper()
	k.must(together(k.all, k.stop))
	k.dropNetwork()
	k.await(20*time.Second, func() error {
		left, err := k.server.Leases()
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("the server still has %d leases", len(left))
		}
		return err
	})
}
