package etcd

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// Reservations implements ipam.Keeper.
func (b *Backend) Reservations(p ipam.Pool) []ipam.Reservation {
	po := optionsOf(p)
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []ipam.Reservation
	for at, e := range b.mirror.wishes {
		if at.segment == po.segment && p.Prefix.Contains(at.addr) && e.Key != "" {
			all = append(all, ipam.Reservation{Pool: p.Prefix, Addr: at.addr, Key: e.Key})
		}
	}
	return all
}

// Reserve implements ipam.Keeper. Of two hosts that reserve an address at once one
// is refused.
func (b *Backend) Reserve(ctx context.Context, p ipam.Pool, r ipam.Reservation) error {
	at := place{optionsOf(p).segment, r.Addr}
	client, err := b.connected(ctx)
	if err != nil {
		return fmt.Errorf("reserve %s: %w", r.Addr, err)
	}
	key := b.wishKey(at)
	rec := Record{Host: b.cfg.Host, HostName: b.cfg.HostName, Pool: p.ID, Key: r.Key, Since: time.Now().UTC(), ID: uuid.NewString()}
	res, err := b.commit(ctx, client, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(key, encode(rec))}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return fmt.Errorf("reserve %s: %w", r.Addr, err)
	}
	e := entry{Record: rec, rev: res.Header.Revision}
	if !res.Succeeded {
		for _, kv := range res.Responses[0].GetResponseRange().Kvs {
			if e = readRecord(kv); e.Key != r.Key {
				return fmt.Errorf("address %s: %w for %q, on host %s", r.Addr, ipam.ErrReserved, e.Key, e.HostName)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mirror.wishes[at] = e // as the watch is going to say
	return nil
}

// Unreserve implements ipam.Keeper.
func (b *Backend) Unreserve(ctx context.Context, p ipam.Pool, a netip.Addr) error {
	at := place{optionsOf(p).segment, a}
	client, err := b.connected(ctx)
	if err == nil {
		_, err = b.commit(ctx, client, nil, []clientv3.Op{clientv3.OpDelete(b.wishKey(at))}, nil)
	}
	if err != nil {
		return fmt.Errorf("take the reservation of %s back: %w", a, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mirror.wishes, at)
	return nil
}
