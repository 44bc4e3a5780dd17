package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// keepReserve claims ahead what pools want of it, and gives back what they do
// not. An address is in the table after it is claimed and taken out before it is
// given back, so that the table never has what is not this host's.
func (b *Backend) keepReserve(ctx context.Context, client *clientv3.Client, have *mirror, want wanted) error {
	kept := map[string]int{} // by pool
	for at, e := range have.addrs {
		if _, known := want.addrs[at]; known || e.Host != b.cfg.Host || e.Kind != reserved {
			continue
		}
		p, there := b.poolOf(want, at, e)
		if !there || kept[p.ID] >= optionsOf(p).reserve {
			if err := b.giveUp(ctx, client, at, e, 0); err != nil {
				return err
			}
			continue
		}
		kept[p.ID]++
		if err := b.adopt(at, e); err != nil {
			return err
		}
	}
	if err := b.forget(); err != nil {
		return err
	}
	for _, p := range want.pools {
		po := optionsOf(p)
		if short := po.reserve - kept[p.ID]; short > 0 {
			if err := b.refill(ctx, client, p, po, short); err != nil {
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

// adopt has an address in the table that etcd has as reserved for this host.
func (b *Backend) adopt(at place, e entry) error {
	b.table.Lock()
	defer b.table.Unlock()
	b.mu.Lock()
	now, there := b.mirror.at(at)
	_, already := b.reserve[at]
	fine := there && now.rev == e.rev && now.Kind == reserved && !now.doubt && !already
	if fine {
		b.reserve[at] = true
	}
	b.mu.Unlock()
	if !fine {
		return nil
	}
	if err := b.cfg.Reserve.Put(at.String(), at.addr); err != nil {
		return fmt.Errorf("store %s as in reserve: %w", at.addr, err)
	}
	return nil
}

// unreserve takes an address out of the table.
func (b *Backend) unreserve(at place) error {
	b.table.Lock()
	defer b.table.Unlock()
	b.mu.Lock()
	_, there := b.reserve[at]
	delete(b.reserve, at)
	b.mu.Unlock()
	if !there {
		return nil
	}
	if err := b.cfg.Reserve.Delete(at.String()); err != nil {
		return fmt.Errorf("take %s out of the reserve: %w", at.addr, err)
	}
	return nil
}

// retain keeps what was released while etcd is away for who comes next: in etcd
// it is this host's, and stays so until etcd answers. What the Manager had before
// this process saw etcd it had as this host's: the engine knew it, and nobody but
// this host, or an operator who says that it is lost, gives it away.
func (b *Backend) retain(at place) error {
	b.table.Lock()
	defer b.table.Unlock()
	b.mu.Lock()
	_, disputed := b.conflicts[at]
	fine := !disputed && (b.mirror.rev == 0 || b.offlineLocked(at)) && !b.reserve[at]
	if fine {
		b.reserve[at] = true
	}
	b.mu.Unlock()
	if !fine {
		return nil
	}
	if err := b.cfg.Reserve.Put(at.String(), at.addr); err != nil {
		return fmt.Errorf("keep %s: %w", at.addr, err)
	}
	return nil
}

func (b *Backend) retained(at place) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.reserve[at]
}

// forget takes out of the table what is not in reserve in etcd.
func (b *Backend) forget() error {
	b.mu.RLock()
	var gone []place
	for at := range b.reserve {
		if e, there := b.mirror.at(at); !there || e.Host != b.cfg.Host || e.Kind != reserved {
			gone = append(gone, at)
		}
	}
	b.mu.RUnlock()
	for _, at := range gone {
		if err := b.unreserve(at); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) refill(ctx context.Context, client *clientv3.Client, p ipam.Pool, po poolOptions, n int) error {
	none := func(netip.Addr) bool { return false }
	for _, a := range b.pools.Candidates(p.Prefix, n, none) {
		at := place{po.segment, a}
		_, err := b.claim(ctx, client, p, ipam.Claim{Owner: ipam.Owner{Kind: reserved}, Candidates: []netip.Addr{a}})
		if errors.Is(err, ipam.ErrTaken) {
			continue
		} else if err != nil {
			return err
		}
		b.mu.RLock()
		e, _ := b.mirror.at(at)
		b.mu.RUnlock()
		if err := b.adopt(at, e); err != nil {
			return err
		}
	}
	return nil
}
