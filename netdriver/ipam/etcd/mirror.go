package etcd

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/dockline/dockline/netdriver/ipam"
)

// entry is a record at a revision.
type entry struct {
	Record
	rev int64
	// dead is a record that we deleted, until the watch says so too.
	dead bool
}

// mirror is what etcd had at a revision, and what our own requests did since. It
// says what is worth a try, and proves nothing. Whoever has it guards it.
type mirror struct {
	rev     int64 // of the last change that was watched or listed; 0: none was
	addrs   map[place]entry
	asides  map[place]map[string]entry // by host
	foreign map[place]entry
	wishes  map[place]entry       // reservations that operators made
	pools   map[string]PoolRecord // by key
	hosts   map[string]HostRecord
	alive   map[string]HostRecord
	byKey   map[ofKey]place // where an owner's key was seen last
}

type ofKey struct{ segment, key string }

func newMirror() *mirror {
	return &mirror{
		addrs: map[place]entry{}, asides: map[place]map[string]entry{}, foreign: map[place]entry{}, wishes: map[place]entry{}, pools: map[string]PoolRecord{},
		hosts: map[string]HostRecord{}, alive: map[string]HostRecord{}, byKey: map[ofKey]place{},
	}
}

// at returns the record of an address that somebody has.
func (m *mirror) at(p place) (entry, bool) {
	e, there := m.addrs[p]
	return e, there && !e.dead
}

// set notes a record at a revision, unless a later one is known, or that it is
// gone: of what was watched already, an answer that comes late says nothing new.
func (m *mirror) set(p place, e entry) {
	if old, there := m.addrs[p]; e.rev <= m.rev || there && old.rev >= e.rev {
		return
	}
	m.addrs[p] = e
	if e.Key != "" && !e.dead {
		m.byKey[ofKey{p.segment, e.Key}] = p
	}
}

// deleted notes that an address has no record since a revision; ours says that
// the watch has yet to come there.
func (m *mirror) deleted(p place, rev int64, ours bool) {
	old, there := m.addrs[p]
	if there && old.rev > rev || ours && rev <= m.rev {
		return
	}
	if old.Key != "" && m.byKey[ofKey{p.segment, old.Key}] == p {
		delete(m.byKey, ofKey{p.segment, old.Key})
	}
	if ours {
		m.addrs[p] = entry{rev: rev, dead: true}
	} else {
		delete(m.addrs, p)
	}
}

// watched notes that all changes up to a revision are known.
func (m *mirror) watched(rev int64) {
	m.rev = max(m.rev, rev)
}

// bury drops what is known to be gone.
func (m *mirror) bury() {
	maps.DeleteFunc(m.addrs, func(_ place, e entry) bool { return e.dead && e.rev <= m.rev })
}

// keepNewer takes over what our requests did after an older mirror's revision.
func (m *mirror) keepNewer(old *mirror) {
	for p, e := range old.addrs {
		if e.rev > m.rev {
			m.set(p, e)
		}
	}
}

func readRecord(kv *mvccpb.KeyValue) entry {
	e := entry{rev: kv.ModRevision}
	if err := json.Unmarshal(kv.Value, &e.Record); err != nil || e.Host == "" {
		e.Record = Record{Kind: unknown, HostName: "somebody (the record cannot be read)"}
	}
	return e
}

// apply takes over a key as etcd has it, or its deletion.
func (b *Backend) apply(m *mirror, kv *mvccpb.KeyValue, gone bool) {
	t, p, host, ok := b.parseKey(string(kv.Key))
	if !ok {
		return // of a later version
	}
	switch t {
	case addresses:
		if gone {
			m.deleted(p, kv.ModRevision, false)
		} else {
			m.set(p, readRecord(kv))
		}
	case asides:
		applyAside(m, p, host, readRecord(kv), gone)
	case foreign:
		if delete(m.foreign, p); !gone {
			m.foreign[p] = readRecord(kv)
		}
	case wishes:
		if delete(m.wishes, p); !gone {
			m.wishes[p] = readRecord(kv)
		}
	case pools:
		applyTo(m.pools, string(kv.Key), kv, gone)
	case hosts:
		applyTo(m.hosts, host, kv, gone)
	case alive:
		applyTo(m.alive, host, kv, gone)
		if r, there := m.alive[host]; there {
			r.rev = kv.ModRevision
			m.alive[host] = r
		}
	}
}

func applyAside(m *mirror, p place, host string, e entry, gone bool) {
	all := m.asides[p]
	if old, there := all[host]; there && old.rev > e.rev {
		return
	}
	if gone {
		if delete(all, host); len(all) == 0 {
			delete(m.asides, p)
		}
		return
	}
	if all == nil {
		all = map[string]entry{}
		m.asides[p] = all
	}
	all[host] = e
}

func applyTo[V any](to map[string]V, key string, kv *mvccpb.KeyValue, gone bool) {
	var v V
	if gone || json.Unmarshal(kv.Value, &v) != nil {
		delete(to, key)
		return
	}
	to[key] = v
}

// usable reports whether an owner of this host may take over what is at an
// address: nothing, what this host has without the Manager's knowing, or what is
// kept for that owner or for nobody any more.
func (b *Backend) usable(e entry, there bool, o ipam.Owner, now time.Time) bool {
	switch {
	case !there:
		return true
	case o.Kind == reserved: // nobody keeps the Manager from claiming it meanwhile
		return false
	case e.Kind == held:
		return o.Key != "" && e.Key == o.Key || now.After(e.Until)
	}
	return e.Host == b.cfg.Host && !b.unsure
}

// spare reports whether an address is kept for somebody who may never come again:
// one that the engine drew a MAC for. A container that is restarted time and again
// has another one each time, and would use up the pool.
func spare(e entry, there bool) bool { return there && e.Kind == held && ipam.MayBeDrawn(e.Key) }

// poolsOf returns the records of a segment's pools, those of a host first.
func (b *Backend) poolsOf(m *mirror, segment string) []PoolRecord {
	var all []PoolRecord
	for _, key := range slices.Sorted(maps.Keys(m.pools)) {
		if strings.HasPrefix(key, b.key(pools, segment)+"/") {
			all = append(all, m.pools[key])
		}
	}
	slices.SortStableFunc(all, func(x, y PoolRecord) int { return x.Since.Compare(y.Since) })
	return all
}
