package etcd

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/netdriver/ipam"
)

const (
	// attemptTimeout bounds one request on behalf of the engine, and attempts how
	// many are made: the second one reaches another endpoint, if there is one.
	attemptTimeout = 700 * time.Millisecond
	attempts       = 2
	// requestTimeout bounds all of it.
	requestTimeout = 1700 * time.Millisecond
	listTimeout    = 2 * time.Second
	firstAnswer    = 1500 * time.Millisecond // after the start; then it counts as away
	several        = 4                       // candidates in a transaction
)

// Stats counts what happened since the start.
type Stats struct {
	Claims    atomic.Uint64 // that succeeded
	Taken     atomic.Uint64 // whose candidates were all gone
	Failed    atomic.Uint64 // that nobody could be asked for
	Offline   atomic.Uint64 // from what was this host's already
	Conflicts atomic.Uint64 // addresses in use here that are another host's
	Leaked    atomic.Uint64 // records of ours given back that nobody knew
	Foreign   atomic.Uint64 // addresses put in quarantine
	Reclaimed atomic.Uint64 // records of lost hosts removed by the operator
	Lost      atomic.Uint64 // connections
}

// Backend implements ipam.Backend. It is safe for concurrent use.
type Backend struct {
	cfg   Config
	id    string // of this process
	began time.Time
	pools Pools
	Stats Stats

	prove chan struct{}       // somebody doubts that etcd answers
	kick  chan struct{}       // something is to be compared
	heard chan foreignClaim   // by the wire
	other chan struct{}       // somebody else says that he is this host, or does so no more
	first chan struct{}       // closed with the end of the first attempt to connect
	leaks map[place]time.Time // since when; the reconciling goroutine's own

	reserve *reserve
	hands   hands

	mu        sync.RWMutex // guards all below; a leaf
	client    *clientv3.Client
	mirror    *mirror // its rev is 0 before etcd was seen
	fault     error   // why etcd cannot be asked
	since     time.Time
	quiet     time.Time // until then other hosts claim again what they have
	twin      error     // why this host must not claim anything
	unsure    bool      // whether what this host has in etcd is a twin's
	doubted   time.Time // since when
	aliveRev  int64     // of our saying that this host is alive; 0: we have not
	conflicts map[place]Conflict
	owed      map[place]bool // what the engine released, until etcd is known to know
	tried     bool
}

// New loads the reserve. Call SetPools before Run.
func New(cfg Config) (*Backend, error) {
	b := &Backend{
		cfg: cfg, id: rand.Text(), began: time.Now(), since: time.Now(), fault: errors.New("there was no connection yet"),
		prove: make(chan struct{}, 1), kick: make(chan struct{}, 1), other: make(chan struct{}, 1), heard: make(chan foreignClaim, 256), first: make(chan struct{}),
		mirror: newMirror(), conflicts: map[place]Conflict{}, leaks: map[place]time.Time{}, owed: map[place]bool{},
		hands: hands{in: map[place]chan struct{}{}},
	}
	b.cfg.LeakGrace, b.cfg.Every = cmp.Or(cfg.LeakGrace, leakGrace), cmp.Or(cfg.Every, compareEvery)
	var err error
	b.reserve, err = openReserve(cfg.Reserve)
	return b, err
}

// SetPools names the Manager, which comes late because it asks this backend.
func (b *Backend) SetPools(p Pools) { b.pools = p }

// Kick has Run compare soon what the Manager and etcd have.
func (b *Backend) Kick() { poke(b.kick) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is going to
	}
}

// Prepare implements ipam.Backend. Only a shared definition is looked up.
func (b *Backend) Prepare(ctx context.Context, r ipam.PoolRequest) (ipam.PoolRequest, error) {
	o, err := parseOptions(r.Options)
	switch {
	case err != nil:
		return r, err
	case o.share != "":
		return b.agree(ctx, r, o)
	case !r.Prefix.IsValid():
		return r, errors.New("backend etcd needs a subnet of each family (--subnet), the same on all hosts, or a share that another host has given one (--ipam-opt share=NAME)")
	}
	return r, nil
}

// View implements ipam.Backend.
func (b *Backend) View(p ipam.Pool, o ipam.Owner) ipam.View {
	po, now := optionsOf(p), time.Now()
	at := func(a netip.Addr) place { return place{po.segment, a} }
	b.mu.RLock()
	defer b.mu.RUnlock()
	v := ipam.View{Several: several, Start: ipam.At(p.Range, xxhash.Sum64String(b.cfg.Host)), Prefer: b.preferLocked(p, po, o, now)}
	if !b.tried && time.Since(b.began) < firstAnswer {
		return v // Claim waits for that
	}
	if err := b.faultLocked(); err != nil {
		v.Fault = away(err)
		v.Taken = func(a netip.Addr) bool { return !b.reserve.has(at(a)) }
		return v
	}
	v.Spare = func(a netip.Addr) bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		e, there := b.mirror.at(at(a))
		f, odd := b.mirror.foreign[at(a)]
		return spare(e, there) && len(b.mirror.asides[at(a)]) == 0 && (!odd || !now.Before(f.Until))
	}
	v.Taken = func(a netip.Addr) bool {
		b.mu.RLock()
		defer b.mu.RUnlock()
		e, there := b.mirror.at(at(a))
		f, odd := b.mirror.foreign[at(a)]
		return there && e.Kind == reserved || !b.usable(e, there, o, now) ||
			!o.Kind.Shared() && len(b.mirror.asides[at(a)]) > 0 || odd && now.Before(f.Until)
	}
	return v
}

// preferLocked returns the address that an owner had before, or that other hosts
// of a share have as the gateway.
func (b *Backend) preferLocked(p ipam.Pool, po poolOptions, o ipam.Owner, now time.Time) netip.Addr {
	if o.Kind == ipam.Gateway && po.share != "" {
		return b.gatewayLocked(p, po)
	}
	at, there := b.mirror.byKey[ofKey{po.segment, o.Key}]
	if o.Key == "" || !there || !p.Prefix.Contains(at.addr) {
		return netip.Addr{}
	}
	if e, there := b.mirror.at(at); !there || e.Key != o.Key || !b.usable(e, there, o, now) {
		return netip.Addr{}
	}
	return at.addr
}

// away says to users that etcd cannot be asked.
func away(err error) error {
	return fmt.Errorf("etcd cannot be asked (%w), and this host has no address in reserve (--ipam-opt reserve=N): %w", err, ipam.ErrAway)
}

// connected returns the client, or why there is none.
func (b *Backend) connected(ctx context.Context) (*clientv3.Client, error) {
	timer := time.NewTimer(time.Until(b.began.Add(firstAnswer)))
	defer timer.Stop()
	select {
	case <-b.first:
	case <-timer.C:
	case <-ctx.Done():
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.twin != nil {
		return nil, b.twin
	}
	return b.client, b.faultLocked()
}

// faultLocked says why no claim is made, or nil.
func (b *Backend) faultLocked() error {
	if b.fault == nil && b.restoredLocked() {
		return fmt.Errorf("it was restored, and hosts claim again what they have until %s", b.quiet.Format(time.TimeOnly))
	}
	return b.fault
}

// restored reports whether etcd went back a moment ago.
func (b *Backend) restored() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.restoredLocked()
}

func (b *Backend) restoredLocked() bool { return time.Now().Before(b.quiet) }

// lost notes that a request came to nothing, and has it proven.
func (b *Backend) lost(err error) {
	b.mu.Lock()
	if b.fault == nil {
		b.cfg.Log.Warn("etcd does not answer: containers run on, new addresses come from this host's reserve", "err", err)
		b.fault, b.since = err, time.Now()
		b.Stats.Lost.Add(1)
	}
	b.mu.Unlock()
	poke(b.prove)
}

// commit runs a transaction in time for the engine. Where nothing came back, it
// may have happened all the same.
func (b *Backend) commit(ctx context.Context, client *clientv3.Client, conditions []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	b.mu.RLock()
	before := b.mirror.rev
	b.mu.RUnlock()
	var err error
	for range attempts {
		asked, cancel := context.WithTimeout(ctx, attemptTimeout)
		var res *clientv3.TxnResponse
		res, err = client.Txn(asked).If(conditions...).Then(then...).Else(otherwise...).Commit()
		cancel()
		if err == nil {
			err = newer(before, res.Header.Revision)
		}
		if err == nil {
			return res, nil
		}
	}
	err = redact.Error(err, client.Password) // which is asked for anew at times
	b.lost(err)
	return nil, err
}

// newer refuses an answer from before what is known: etcd was restored from an
// older copy, or began anew, and has to be listed again.
func newer(known, revision int64) error {
	if revision < known {
		return fmt.Errorf("etcd went back from revision %d to %d: it has been restored", known, revision)
	}
	return nil
}
