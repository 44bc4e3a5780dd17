package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

const (
	leakGrace  = 30 * time.Second
	startGrace = 2 * leakGrace
)

// Conflict is an address in use here that is another host's in etcd.
type Conflict struct {
	Segment string     `json:"segment"`
	Addr    netip.Addr `json:"address"`
	Pool    string     `json:"pool"`
	Key     string     `json:"key,omitempty"` // of the owner here
	Other   string     `json:"other"`         // who has it in etcd
	Since   time.Time  `json:"since"`
}

// wanted is what this host should have in etcd, by the Manager.
type wanted struct {
	pools map[string]ipam.Pool // by key
	addrs map[place]holding
}

type holding struct {
	ipam.Held
	pool ipam.Pool
}

// reconcile makes what etcd has of this host what the Manager has.
func (b *Backend) reconcile(ctx context.Context, client *clientv3.Client) error {
	b.mu.Lock()
	b.mirror.bury()
	b.mu.Unlock()
	if b.mayHaveTwin() {
		return nil
	}
	have := b.have()
	want := b.wanted() // later: what etcd has as ours and is not here was not on its way here
	for _, step := range []func(context.Context, *clientv3.Client, *mirror, wanted) error{b.sayPools, b.claimMissing, b.dropLeaked, b.dropExpired, b.keepReserve} {
		if err := step(ctx, client, have, want); err != nil {
			return err
		}
	}
	return nil
}

// have is what etcd has of this host, and what has ended by itself.
func (b *Backend) have() *mirror {
	b.mu.RLock()
	defer b.mu.RUnlock()
	m := newMirror()
	for at, e := range b.mirror.addrs {
		if !e.dead && (e.Host == b.cfg.Host || e.Kind == held) {
			m.addrs[at] = e
		}
	}
	for at, by := range b.mirror.asides {
		if e, there := by[b.cfg.Host]; there {
			applyAside(m, at, b.cfg.Host, e, false)
		}
	}
	for key, r := range b.mirror.pools {
		if r.Host == b.cfg.Host {
			m.pools[key] = r
		}
	}
	m.foreign, m.wishes = maps.Clone(b.mirror.foreign), maps.Clone(b.mirror.wishes)
	return m
}

func (b *Backend) wanted() wanted {
	w := wanted{pools: map[string]ipam.Pool{}, addrs: map[place]holding{}}
	for _, p := range b.pools.Held(Name) {
		segment := optionsOf(p.Pool).segment
		w.pools[b.poolKey(segment, p.Prefix, b.cfg.Host)] = p.Pool
		for _, h := range p.Held {
			w.addrs[place{segment, h.Addr}] = holding{h, p.Pool}
		}
	}
	return w
}

// sayPools writes which networks this host has, and which it has not any more.
func (b *Backend) sayPools(ctx context.Context, client *clientv3.Client, have *mirror, want wanted) error {
	var ops []clientv3.Op
	for key, p := range want.pools {
		r, there := have.pools[key]
		rec := PoolRecord{Host: b.cfg.Host, HostName: b.cfg.HostName, Pool: p.ID, Subnet: p.Prefix, Range: p.Range, Share: optionsOf(p).share, Definition: r.Definition, Since: r.Since}
		if !there {
			rec.Since = time.Now().UTC()
		}
		if d := b.definition(p); d != nil {
			rec.Definition = d
		}
		if !there || r.Pool != p.ID || !maps.Equal(r.Definition, rec.Definition) {
			ops = append(ops, clientv3.OpPut(key, encode(rec)))
		}
	}
	for key, r := range have.pools {
		if _, there := want.pools[key]; !there && time.Since(r.Since) > startGrace && time.Since(b.began) > startGrace {
			ops = append(ops, clientv3.OpDelete(key))
		}
	}
	if err := b.inParts(ctx, client, ops); err != nil {
		return fmt.Errorf("say which networks there are: %w", err)
	}
	return nil
}

func (b *Backend) inParts(ctx context.Context, client *clientv3.Client, ops []clientv3.Op) error {
	for len(ops) > 0 {
		some := ops[:min(len(ops), maxOps)]
		if _, err := b.commit(ctx, client, nil, some, nil); err != nil {
			return err
		}
		ops = ops[len(some):]
	}
	return nil
}

// claimMissing claims what the Manager has and etcd has not as this host's.
func (b *Backend) claimMissing(ctx context.Context, client *clientv3.Client, have *mirror, want wanted) error {
	for at := range b.Conflicts() {
		if _, there := want.addrs[at]; !there {
			b.calm(at)
		}
	}
	for at, h := range want.addrs {
		if h.Busy {
			continue
		}
		_, aside := have.asides[at]
		e, there := have.addrs[at]
		if aside && h.Kind.Shared() || there && !h.Kind.Shared() && e.Host == b.cfg.Host && e.Kind == h.Kind && e.Key == h.Key && e.Pool == h.pool.ID {
			b.calm(at)
			continue
		}
		if err := b.alone(at, func() error { return b.claimOurs(ctx, client, at) }); err != nil {
			return err
		}
	}
	return nil
}

// claimOurs claims an address that the Manager has, if it still does.
func (b *Backend) claimOurs(ctx context.Context, client *clientv3.Client, at place) error {
	h, still := b.wanted().addrs[at]
	if !still || h.Busy {
		return nil
	}
	c := ipam.Claim{Owner: ipam.Owner{Kind: h.Kind, Key: h.Key}, Candidates: []netip.Addr{at.addr}}
	var err error
	if h.Kind.Shared() {
		err = b.setAside(ctx, client, h.pool, c)
	} else {
		_, err = b.claim(ctx, client, h.pool, c)
	}
	switch {
	case errors.Is(err, ipam.ErrAway):
		return err
	case err == nil:
		b.calm(at)
		return nil
	}
	if now, still := b.wanted().addrs[at]; still && !now.Busy {
		b.conflict(at, h, err)
	}
	return nil
}

// conflict raises the alarm, once.
func (b *Backend) conflict(at place, h holding, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, old := b.conflicts[at]
	if !old {
		c = Conflict{Segment: at.segment, Addr: at.addr, Pool: h.pool.ID, Key: h.Key, Since: time.Now()}
		b.Stats.Conflicts.Add(1)
		b.cfg.Log.Error("an address in use here is another host's in etcd: restart the container that has it, on one of the two hosts", "pool", h.pool.ID, "address", at.addr, "owner", h.Key, "err", err)
	}
	c.Other = err.Error()
	b.conflicts[at] = c
}

func (b *Backend) calm(at place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, old := b.conflicts[at]; old {
		delete(b.conflicts, at)
		b.cfg.Log.Info("an address is in dispute no more", "segment", at.segment, "address", at.addr)
	}
}

// dropLeaked gives back what a crash left over, after a grace.
func (b *Backend) dropLeaked(ctx context.Context, client *clientv3.Client, have *mirror, want wanted) error {
	leaked := map[place]bool{}
	for at, e := range have.addrs {
		if _, known := want.addrs[at]; known || e.Host != b.cfg.Host || e.Kind == held || e.Kind == reserved {
			continue
		}
		if b.owes(at) { // released while etcd was away
			p, _ := b.poolOf(want, at, e)
			if _, err := b.giveUpUnknown(ctx, client, at, e, optionsOf(p).hold); err != nil {
				return err
			}
			continue
		}
		leaked[at] = true
		if !b.ripe(at) {
			continue
		}
		done, err := b.giveUpUnknown(ctx, client, at, e, 0)
		if err != nil {
			return err
		}
		if done {
			b.cfg.Log.Info("gave back an address that nobody here knew", "segment", at.segment, "address", at.addr, "owner", e.Key)
			b.Stats.Leaked.Add(1)
		}
	}
	b.settleGone(have)
	var asides []place
	for at := range have.asides {
		if h, known := want.addrs[at]; known && h.Kind.Shared() {
			continue
		}
		leaked[at] = true
		if b.ripe(at) {
			asides = append(asides, at)
		}
	}
	for at := range b.leaks {
		if !leaked[at] {
			delete(b.leaks, at)
		}
	}
	return b.giveUpAsides(ctx, client, asides...)
}

// settleGone forgets what was to be given back and is gone.
func (b *Backend) settleGone(have *mirror) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := range b.owed {
		if _, there := have.addrs[at]; !there {
			delete(b.owed, at)
		}
	}
}

// ripe reports whether something counted as leaked for long enough. Only the
// goroutine that reconciles calls it.
func (b *Backend) ripe(at place) bool {
	first, there := b.leaks[at]
	if !there {
		b.leaks[at] = time.Now()
		return false
	}
	return time.Since(first) > b.cfg.LeakGrace && time.Since(b.began) > 2*b.cfg.LeakGrace
}

// dropExpired removes what has ended by itself, whoever wrote it.
func (b *Backend) dropExpired(ctx context.Context, client *clientv3.Client, have *mirror, _ wanted) error {
	remove := func(key string, e entry) error {
		if e.Until.IsZero() || time.Since(e.Until) < leakGrace {
			return nil
		}
		_, err := b.commit(ctx, client, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", e.rev)}, []clientv3.Op{clientv3.OpDelete(key)}, nil)
		if err != nil {
			return fmt.Errorf("remove what has expired: %w", err)
		}
		return nil
	}
	for at, e := range have.addrs {
		if e.Kind == held {
			if err := remove(b.addressKey(at), e); err != nil {
				return err
			}
		}
	}
	for at, e := range have.foreign {
		if err := remove(b.foreignKey(at), e); err != nil {
			return err
		}
	}
	return nil
}
