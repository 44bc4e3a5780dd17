package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// reserve is the table of what may be given out while etcd is away, on the disk.
// It has nothing but addresses that certainly are this host's: see the package's
// comment.
type reserve struct {
	store ipam.Store[netip.Addr]
	order sync.Mutex // orders changes; before mu

	mu  sync.RWMutex // guards all; a leaf
	all map[place]bool
}

func openReserve(store ipam.Store[netip.Addr]) (*reserve, error) {
	r := &reserve{store: store, all: map[place]bool{}}
	stored, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("load the reserve: %w", err)
	}
	for key, addr := range stored {
		segment, _, _ := strings.Cut(key, " ")
		r.all[place{segment, addr}] = true
	}
	return r, nil
}

func (r *reserve) has(at place) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.all[at]
}

func (r *reserve) list() []place {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.all))
}

func (r *reserve) set(at place, there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[at] = true; !there {
		delete(r.all, at)
	}
}

// add is for who has just claimed an address with a certain outcome, and has it in
// hand.
func (r *reserve) add(at place) error {
	r.order.Lock()
	defer r.order.Unlock()
	if err := r.store.Put(at.String(), at.addr); err != nil {
		return fmt.Errorf("store %s as in reserve: %w", at.addr, err)
	}
	r.set(at, true)
	return nil
}

// take takes an address out, and reports whether it was there. Once it returned
// without an error the address is not there after a crash either.
func (r *reserve) take(at place) (bool, error) {
	r.order.Lock()
	defer r.order.Unlock()
	if !r.has(at) {
		return false, nil
	}
	if err := r.store.Delete(at.String()); err != nil {
		return false, fmt.Errorf("take %s out of the reserve: %w", at.addr, err)
	}
	r.set(at, false)
	return true, nil
}

// clear takes everything out.
func (r *reserve) clear() error {
	for _, at := range r.list() {
		if _, err := r.take(at); err != nil {
			return err
		}
	}
	return nil
}

// keepReserve claims ahead what pools want of it, and gives back what they do
// not, and what an operator has reserved for somebody since.
func (b *Backend) keepReserve(ctx context.Context, client *clientv3.Client, have *mirror, want wanted) error {
	kept := map[string]int{} // by pool
	for _, at := range b.reserve.list() {
		e, there := have.addrs[at]
		p, wanted := b.poolOf(want, at, e)
		_, wished := have.wishes[at]
		if there && wanted && !wished && e.Host == b.cfg.Host && e.Kind == reserved && kept[p.ID] < optionsOf(p).reserve {
			kept[p.ID]++
		} else if _, err := b.reserve.take(at); err != nil {
			return err
		}
	}
	for at, e := range have.addrs {
		if e.Host == b.cfg.Host && e.Kind == reserved && !b.reserve.has(at) {
			if _, err := b.giveUpUnknown(ctx, client, at, e, 0); err != nil {
				return err
			}
		}
	}
	if b.restored() {
		return nil // other hosts say first what they have
	}
	for _, p := range want.pools {
		if short := optionsOf(p).reserve - kept[p.ID]; short > 0 {
			if err := b.refill(ctx, client, p, short); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Backend) poolOf(want wanted, at place, e entry) (ipam.Pool, bool) {
	for _, p := range want.pools {
		if p.ID == e.Pool && optionsOf(p).segment == at.segment {
			return p, true
		}
	}
	return ipam.Pool{}, false
}

func (b *Backend) refill(ctx context.Context, client *clientv3.Client, p ipam.Pool, n int) error {
	segment := optionsOf(p).segment
	for _, a := range b.pools.Candidates(p.Prefix, n, func(a netip.Addr) bool { return b.wished(place{segment, a}) }) {
		err := b.alone(place{segment, a}, func() error { return b.claimAhead(ctx, client, p, place{segment, a}) })
		if err != nil && !errors.Is(err, ipam.ErrTaken) {
			return err
		}
	}
	return nil
}

// claimAhead makes a record of its own, however the address was this host's
// before: no release that is still under way is of that one.
func (b *Backend) claimAhead(ctx context.Context, client *clientv3.Client, p ipam.Pool, at place) error {
	if _, err := b.claim(ctx, client, p, ipam.Claim{Owner: ipam.Owner{Kind: reserved}, Candidates: []netip.Addr{at.addr}}); err != nil {
		return err
	}
	return b.reserve.add(at)
}

func (b *Backend) wished(at place) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	_, there := b.mirror.wishes[at]
	return there
}
