package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam"
)

// quarantineFor is how long an address stays out of use in the cluster after a
// machine was heard by it that got it from nobody here.
const quarantineFor = 5 * time.Minute

// Status is what an operator sees of the backend.
type Status struct {
	Endpoints []string   `json:"endpoints"`
	Prefix    string     `json:"prefix"`
	Host      string     `json:"host"` // the id of this one
	Fault     string     `json:"fault,omitempty"`
	Warning   string     `json:"warning,omitempty"` // of a password that is sent without encryption
	Since     time.Time  `json:"since"`             // when it came up, or went away
	Revision  int64      `json:"revision"`
	Reserve   int        `json:"reserve"`
	Hosts     []Host     `json:"hosts"`
	Conflicts []Conflict `json:"conflicts"`
	Foreign   []Claimed  `json:"quarantine"`
}

// Host is a host of the cluster.
type Host struct {
	HostRecord
	Alive     bool `json:"alive"`
	Addresses int  `json:"addresses"` // that it has, those in reserve among them
}

// Claimed is an address that somebody has.
type Claimed struct {
	Segment string     `json:"segment"`
	Addr    netip.Addr `json:"address"`
	Record
}

// Status says what is known, by the mirror.
func (b *Backend) Status() Status {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := Status{
		Endpoints: b.cfg.Endpoints, Prefix: b.cfg.Prefix, Host: b.cfg.Host, Since: b.since, Revision: b.mirror.rev, Reserve: len(b.reserve.list()), Warning: b.cfg.Exposed(),
		Hosts: []Host{}, Conflicts: slices.Collect(maps.Values(b.conflicts)), Foreign: []Claimed{},
	}
	if err := cmp.Or(b.twin, b.faultLocked()); err != nil {
		s.Fault = err.Error()
	}
	counts := map[string]int{}
	names := maps.Clone(b.mirror.hosts)
	for _, e := range b.mirror.addrs {
		if e.dead || e.Kind == held {
			continue
		}
		counts[e.Host]++
		if _, there := names[e.Host]; !there {
			names[e.Host] = HostRecord{Host: e.Host, HostName: e.HostName}
		}
	}
	for id, r := range names {
		_, living := b.mirror.alive[id]
		s.Hosts = append(s.Hosts, Host{HostRecord: r, Alive: living, Addresses: counts[id]})
	}
	for at, e := range b.mirror.foreign {
		if time.Now().Before(e.Until) {
			s.Foreign = append(s.Foreign, Claimed{at.segment, at.addr, e.Record})
		}
	}
	slices.SortFunc(s.Hosts, func(x, y Host) int { return cmp.Compare(x.Host, y.Host) })
	slices.SortFunc(s.Foreign, func(x, y Claimed) int { return x.Addr.Compare(y.Addr) })
	slices.SortFunc(s.Conflicts, func(x, y Conflict) int { return x.Addr.Compare(y.Addr) })
	return s
}

// Conflicts returns the addresses in use here that are another host's.
func (b *Backend) Conflicts() map[place]Conflict {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return maps.Clone(b.conflicts)
}

// List returns who has which address, of one host or, with "", of all.
func (b *Backend) List(host string) []Claimed {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := []Claimed{}
	for at, e := range b.mirror.addrs {
		if !e.dead && (host == "" || e.Host == host) {
			all = append(all, Claimed{at.segment, at.addr, e.Record})
		}
	}
	for at, by := range b.mirror.asides {
		for id, e := range by {
			if host == "" || id == host {
				all = append(all, Claimed{at.segment, at.addr, e.Record})
			}
		}
	}
	slices.SortFunc(all, func(x, y Claimed) int {
		return cmp.Or(cmp.Compare(x.Segment, y.Segment), x.Addr.Compare(y.Addr), cmp.Compare(x.Host, y.Host))
	})
	return all
}

// Errors of Reclaim that callers branch on.
var (
	ErrAlive  = errors.New("the host is alive")
	ErrNoHost = errors.New("no such host")
)

// Reclaim removes all that a host has, which is lost for good. It refuses a host
// that is alive, at each step.
func (b *Backend) Reclaim(ctx context.Context, host string) ([]Claimed, error) {
	client, err := b.connected(ctx)
	if err != nil {
		return nil, fmt.Errorf("reclaim the addresses of host %q: etcd cannot be asked: %w", host, err)
	}
	if host == "" || host == b.cfg.Host {
		return nil, fmt.Errorf("reclaim the addresses of host %q: name another host by its id: %w", host, ErrNoHost)
	}
	rev, err := b.list(ctx, client) // by now, not by the watch
	if err != nil {
		return nil, err
	}
	b.mu.RLock()
	_, known := b.mirror.hosts[host]
	keys, dead := []string{}, clientv3.Compare(clientv3.CreateRevision(b.key(alive, host)), "=", 0)
	all := []Claimed{}
	for at, e := range b.mirror.addrs {
		if !e.dead && e.Host == host {
			keys = append(keys, b.addressKey(at))
			all = append(all, Claimed{at.segment, at.addr, e.Record})
		}
	}
	for at, by := range b.mirror.asides {
		if _, there := by[host]; there {
			keys = append(keys, b.asidesOf(at)+host)
		}
	}
	for key, r := range b.mirror.pools {
		if r.Host == host {
			keys = append(keys, key)
		}
	}
	b.mu.RUnlock()
	if !known && len(keys) == 0 {
		return nil, fmt.Errorf("host %q: %w", host, ErrNoHost)
	}
	for part := range slices.Chunk(append(keys, b.key(hosts, host)), maxOps/2) {
		conditions, ops := []clientv3.Cmp{dead}, []clientv3.Op{}
		for _, key := range part {
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "<", rev+1))
			ops = append(ops, clientv3.OpDelete(key))
		}
		res, err := b.commit(ctx, client, conditions, ops, nil)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reclaim the addresses of host %q: %w", host, err)
		case !res.Succeeded:
			return nil, fmt.Errorf("host %q, or something of it, says that it is there: nothing more was reclaimed: %w", host, ErrAlive)
		}
	}
	b.Stats.Reclaimed.Add(uint64(len(all)))
	b.cfg.Log.Warn("the addresses of a host were reclaimed", "host", host, "addresses", len(all))
	return all, nil
}

// foreignClaim is a machine that has an address that nobody here gave it.
type foreignClaim struct {
	pool ipam.Pool
	addr netip.Addr
	mac  net.HardwareAddr
}

// Foreign takes note of a machine that was heard by an address which this host
// has given to nobody. If nobody else has either, the address is not given out
// by any host for a while. It does not wait.
func (b *Backend) Foreign(p ipam.Pool, a netip.Addr, mac net.HardwareAddr) {
	at, now := place{optionsOf(p).segment, a}, time.Now()
	b.mu.RLock()
	_, ours := b.mirror.at(at)
	e, known := b.mirror.foreign[at]
	aside := len(b.mirror.asides[at]) > 0
	b.mu.RUnlock()
	if ours || aside || known && e.MAC == mac.String() && e.Until.Sub(now) > quarantineFor/2 {
		return
	}
	select {
	case b.heard <- foreignClaim{p, a, mac}:
	default: // it will be heard again
	}
}

func (b *Backend) quarantine(ctx context.Context, client *clientv3.Client, f foreignClaim) error {
	at := place{optionsOf(f.pool).segment, f.addr}
	rec := b.record(f.pool, ipam.Owner{})
	rec.MAC, rec.Until = f.mac.String(), rec.Since.Add(quarantineFor)
	b.mu.RLock()
	old, known := b.mirror.foreign[at]
	b.mu.RUnlock()
	if known && old.MAC == rec.MAC {
		rec.Since = old.Since
	}
	res, err := b.commit(ctx, client, b.conditions(attempt{place: at}), []clientv3.Op{clientv3.OpPut(b.foreignKey(at), encode(rec))}, nil)
	if err != nil {
		select {
		case b.heard <- f: // for the next connection
		default: // it will be heard again
		}
		return fmt.Errorf("put %s in quarantine: %w", at.addr, err)
	}
	if res.Succeeded {
		b.mu.Lock()
		b.mirror.foreign[at] = entry{Record: rec, rev: res.Header.Revision} // as the watch is going to say
		b.mu.Unlock()
	}
	if res.Succeeded && !known {
		b.Stats.Foreign.Add(1)
		b.cfg.Log.Info("an address is in use by a machine that got it from nobody: no host gives it out", "segment", at.segment, "address", at.addr, "mac", rec.MAC)
	}
	return nil
}
