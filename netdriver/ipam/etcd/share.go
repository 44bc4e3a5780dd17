package etcd

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// Agree implements ipam.Sharer.
func (b *Backend) Agree(ctx context.Context, p ipam.Pool, definition map[string]string) error {
	o := optionsOf(p)
	if o.share == "" {
		return nil
	}
	return b.join(ctx, o, func(all []PoolRecord) (PoolRecord, error) {
		rec := PoolRecord{Pool: p.ID, Subnet: p.Prefix, Range: p.Range, Definition: definition}
		return rec, b.sameDefinition(rec, o.share, all)
	})
}

// agree compares a pool with what other hosts have of its share, from which it
// takes what the request leaves open, and says that this host has it as well.
func (b *Backend) agree(ctx context.Context, r ipam.PoolRequest, o poolOptions) (ipam.PoolRequest, error) {
	want := r
	err := b.join(ctx, o, func(all []PoolRecord) (_ PoolRecord, err error) {
		want, err = b.compare(r, o, all)
		return PoolRecord{Subnet: want.Prefix, Range: want.Range}, err
	})
	if err != nil {
		return r, err
	}
	return want, nil
}

// join says what this host has of a share, as it follows from what others have,
// the oldest first.
func (b *Backend) join(ctx context.Context, o poolOptions, follows func(all []PoolRecord) (PoolRecord, error)) error {
	client, err := b.connected(ctx)
	if err != nil {
		return fmt.Errorf("look up share %q: %w", o.share, away(err))
	}
	below := b.key(pools, o.segment) + "/"
	for range rounds {
		res, err := b.commit(ctx, client, nil, []clientv3.Op{clientv3.OpGet(below, clientv3.WithPrefix())}, nil)
		if err != nil {
			return fmt.Errorf("look up share %q: %w", o.share, away(err))
		}
		m := newMirror()
		for _, kv := range res.Responses[0].GetResponseRange().Kvs {
			b.apply(m, kv, false)
		}
		rec, err := follows(b.poolsOf(m, o.segment))
		if err != nil {
			return err
		}
		key := b.poolKey(o.segment, rec.Subnet, b.cfg.Host)
		rec.Host, rec.HostName, rec.Share, rec.Since = b.cfg.Host, b.cfg.HostName, o.share, time.Now().UTC()
		if old, there := m.pools[key]; there {
			rec.Since = old.Since
		}
		unchanged := clientv3.Compare(clientv3.ModRevision(below).WithPrefix(), "<", res.Header.Revision+1)
		put, err := b.commit(ctx, client, []clientv3.Cmp{unchanged}, []clientv3.Op{clientv3.OpPut(key, encode(rec))}, nil)
		if err != nil {
			return fmt.Errorf("join share %q: %w", o.share, away(err))
		}
		if put.Succeeded {
			return nil
		}
	}
	return fmt.Errorf("join share %q: other hosts changed theirs meanwhile, %d times; try again", o.share, rounds)
}

// sameDefinition says in what a network differs from that of another host. What
// one of the two says nothing of is as the other has it.
func (b *Backend) sameDefinition(ours PoolRecord, share string, all []PoolRecord) error {
	for _, theirs := range all {
		if theirs.Share != share || theirs.Host == b.cfg.Host || theirs.Subnet != ours.Subnet {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(ours.Definition)) {
			if value, said := theirs.Definition[key]; said && value != ours.Definition[key] {
				return fmt.Errorf("share %q has %s=%s on host %s (since %s), not %s%s", share, key, value, theirs.HostName, theirs.Since.Format(time.RFC3339), ours.Definition[key], advice[key])
			}
		}
	}
	return nil
}

// advice is what to do about a difference that hosts may have reasons for.
var advice = map[string]string{
	"parent":      "; where the interfaces have other names, say on all hosts what fits each: parent=eth0,eno1 or parent=route:192.0.2.0/24",
	"aux-address": "; leave it out here, and what the others set aside holds for this host as well",
}

// definition is that of the network on a pool, where it is shared.
func (b *Backend) definition(p ipam.Pool) map[string]string {
	if b.cfg.Definition == nil || optionsOf(p).share == "" {
		return nil
	}
	return b.cfg.Definition(p.Prefix)
}

// compare says how a request differs from what others have, the oldest first.
func (b *Backend) compare(r ipam.PoolRequest, o poolOptions, all []PoolRecord) (ipam.PoolRequest, error) {
	want := r
	want.Prefix, want.Range = r.Prefix.Masked(), r.Range.Masked()
	v6 := r.V6 || r.Prefix.IsValid() && r.Prefix.Addr().Is6()
	for _, rec := range all {
		if rec.Share != o.share || rec.Host == b.cfg.Host || rec.Subnet.Addr().Is6() != v6 {
			continue
		}
		differ := func(what string, theirs, ours any) (ipam.PoolRequest, error) {
			return r, fmt.Errorf("share %q has %s %v on host %s (since %s), not %v", o.share, what, theirs, rec.HostName, rec.Since.Format(time.RFC3339), ours)
		}
		if !want.Prefix.IsValid() {
			want.Prefix = rec.Subnet
		}
		if want.Prefix != rec.Subnet {
			return differ("the subnet", rec.Subnet, want.Prefix)
		}
		if !want.Range.IsValid() {
			want.Range = rec.Range
		}
		if theirs := rangeOf(rec.Subnet, rec.Range); rangeOf(want.Prefix, want.Range) != theirs {
			return differ("the range", theirs, rangeOf(want.Prefix, want.Range))
		}
	}
	if !want.Prefix.IsValid() {
		return r, fmt.Errorf("share %q: no other host has it, so it needs a subnet (--subnet)", o.share)
	}
	return want, nil
}

func rangeOf(subnet, part netip.Prefix) netip.Prefix {
	if part.IsValid() {
		return part
	}
	return subnet
}

// gatewayLocked returns the gateway that other hosts of the share have.
func (b *Backend) gatewayLocked(p ipam.Pool, po poolOptions) netip.Addr {
	at, _ := b.otherGatewayLocked(p, po)
	return at
}

func (b *Backend) otherGatewayLocked(p ipam.Pool, po poolOptions) (netip.Addr, entry) {
	in := map[string]bool{}
	for _, rec := range b.poolsOf(b.mirror, po.segment) {
		in[rec.Host] = in[rec.Host] || rec.Share == po.share && rec.Subnet == p.Prefix
	}
	for at, by := range b.mirror.asides {
		if at.segment != po.segment || !p.Prefix.Contains(at.addr) {
			continue
		}
		for host, e := range by {
			if host != b.cfg.Host && in[host] && e.Kind == ipam.Gateway {
				return at.addr, e
			}
		}
	}
	return netip.Addr{}, entry{}
}

// sameGateway refuses a gateway that is not that of the others of a share.
func (b *Backend) sameGateway(p ipam.Pool, po poolOptions, a netip.Addr) error {
	if po.share == "" {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if theirs, e := b.otherGatewayLocked(p, po); theirs.IsValid() && theirs != a {
		return fmt.Errorf("share %q has the gateway %s on host %s (since %s), not %s", po.share, theirs, e.HostName, e.Since.Format(time.RFC3339), a)
	}
	return nil
}
