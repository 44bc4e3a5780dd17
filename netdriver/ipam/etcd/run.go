package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/internal/redact"
)

const (
	reconnectAfter = 500 * time.Millisecond
	compareEvery   = 10 * time.Second
	// settleFor is how long changes are collected before they are compared.
	settleFor = 100 * time.Millisecond
	maxOps    = 100 // in a transaction; etcd takes 128
)

// Run keeps the mirror and what is ours until ctx ends.
func (b *Backend) Run(ctx context.Context) error {
	for {
		err := b.session(ctx)
		if ctx.Err() != nil {
			b.end()
			return nil //nolint:nilerr // it ended because it was to
		}
		b.down(err)
		timer := time.NewTimer(reconnectAfter)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// end lets whoever asks know.
func (b *Backend) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client, b.fault = nil, errors.New("the plugin is ending")
	b.triedLocked()
}

// session is one connection, to its end.
func (b *Backend) session(ctx context.Context) error {
	conf, err := b.cfg.client()
	if err != nil {
		return err
	}
	conf.Context = ctx
	client, err := clientv3.New(conf)
	if err != nil {
		return redact.Error(fmt.Errorf("connect to etcd: %w", err), conf.Password)
	}
	defer func() { _ = client.Close() }()
	return redact.Error(b.serve(ctx, client), conf.Password)
}

func (b *Backend) serve(ctx context.Context, client *clientv3.Client) error {
	if b.cfg.Through != nil {
		client.KV = b.cfg.Through(client.KV)
	}
	rev, err := b.list(ctx, client)
	if err != nil {
		return err
	}
	b.up(client)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.follow(ctx, client, rev) })
	g.Go(func() error { return b.live(ctx, client) })
	g.Go(func() error { return b.work(ctx, client) })
	return g.Wait()
}

func (b *Backend) up(client *clientv3.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tried {
		b.cfg.Log.Info("etcd answers again", "after", time.Since(b.since).Round(time.Millisecond))
	}
	b.client, b.fault, b.since = client, nil, time.Now()
	if r, there := b.mirror.alive[b.cfg.Host]; there && !b.isThisLocked(r) {
		b.doubtLocked(r)
	}
	b.triedLocked()
	poke(b.kick)
}

func (b *Backend) down(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault == nil || !b.tried {
		b.cfg.Log.Warn("etcd cannot be asked: containers run on, new addresses come from this host's reserve", "err", err)
		b.since = time.Now()
		b.Stats.Lost.Add(1)
	}
	b.client, b.fault = nil, err
	b.triedLocked()
}

func (b *Backend) triedLocked() {
	if !b.tried {
		b.tried = true
		close(b.first)
	}
}

// list reads everything.
func (b *Backend) list(ctx context.Context, client *clientv3.Client) (rev int64, err error) {
	asked, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	res, err := client.Get(asked, b.cfg.Prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("list %s in etcd: %w", b.cfg.Prefix, err)
	}
	m := newMirror()
	for _, kv := range res.Kvs {
		b.apply(m, kv, false)
	}
	m.watched(res.Header.Revision)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := newer(b.mirror.rev, m.rev); err != nil {
		b.quiet = time.Now().Add(2 * b.cfg.Every)
		if err := b.reserve.clear(); err != nil { // other hosts may have it by now
			return 0, err
		}
		b.cfg.Log.Warn("what this host has is claimed again, and nothing new before the other hosts have had time for that", "err", err, "until", b.quiet)
	} else {
		m.keepNewer(b.mirror)
	}
	b.mirror = m
	return m.rev, nil
}

// follow watches everything from a revision on.
func (b *Backend) follow(ctx context.Context, client *clientv3.Client, rev int64) error {
	for {
		err := b.watch(ctx, client, rev+1)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		if rev, err = b.list(ctx, client); err != nil {
			return err
		}
		b.Kick()
	}
}

func (b *Backend) watch(ctx context.Context, client *clientv3.Client, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Without a leader a watch would be silent for ever.
	changes := client.Watch(clientv3.WithRequireLeader(ctx), b.cfg.Prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	for change := range changes {
		if err := change.Err(); err != nil {
			return fmt.Errorf("watch %s in etcd: %w", b.cfg.Prefix, err)
		}
		b.mu.Lock()
		ours := false
		for _, ev := range change.Events {
			if ev.Kv.ModRevision <= b.mirror.rev {
				continue // older than what was listed since
			}
			before := b.oursLocked(ev)
			b.apply(b.mirror, ev.Kv, ev.Type == mvccpb.DELETE)
			ours = ours || before && !b.oursLocked(ev) || b.disputedLocked(ev)
		}
		b.twinLocked()
		// The header's revision may be ahead of events that are still to come.
		if n := len(change.Events); n > 0 {
			b.mirror.watched(change.Events[n-1].Kv.ModRevision)
		} else if change.IsProgressNotify() {
			b.mirror.watched(change.Header.Revision)
		}
		b.mu.Unlock()
		if ours {
			b.Kick()
		}
	}
	return fmt.Errorf("watch %s in etcd: it ended", b.cfg.Prefix)
}

// oursLocked reports whether what an event is about is this host's.
func (b *Backend) oursLocked(ev *clientv3.Event) bool {
	t, at, host, _ := b.parseKey(string(ev.Kv.Key))
	switch t {
	case addresses:
		e, there := b.mirror.at(at)
		return there && e.Host == b.cfg.Host
	case asides:
		_, there := b.mirror.asides[at][b.cfg.Host]
		return there
	case pools:
		_, there := b.mirror.pools[string(ev.Kv.Key)]
		return there && host == b.cfg.Host
	}
	return false
}

// disputedLocked reports whether an operator reserves what is claimed ahead here.
func (b *Backend) disputedLocked(ev *clientv3.Event) bool {
	t, at, _, _ := b.parseKey(string(ev.Kv.Key))
	return t == wishes && b.reserve.has(at)
}

// work compares, proves and puts in quarantine, one after the other.
func (b *Backend) work(ctx context.Context, client *clientv3.Client) error {
	tick := time.NewTimer(b.cfg.Every)
	defer tick.Stop()
	for {
		var err error
		tick.Reset(b.cfg.Every)
		if len(b.leaks) > 0 {
			tick.Reset(min(b.cfg.LeakGrace, b.cfg.Every))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.prove:
			err = b.proven(ctx, client)
		case f := <-b.heard:
			err = b.quarantine(ctx, client, f)
		case <-tick.C:
			if err = b.proven(ctx, client); err == nil {
				err = b.reconcile(ctx, client)
			}
		case <-b.kick:
			timer := time.NewTimer(settleFor)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
			err = b.reconcile(ctx, client)
		}
		if err != nil {
			return err
		}
	}
}

// proven finds out whether etcd answers, after a request came to nothing.
func (b *Backend) proven(ctx context.Context, client *clientv3.Client) error {
	asked, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	b.mu.RLock()
	before := b.mirror.rev
	b.mu.RUnlock()
	res, err := client.Get(asked, b.key(alive, b.cfg.Host))
	if err == nil {
		err = newer(before, res.Header.Revision)
	}
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == client && b.fault != nil {
		b.cfg.Log.Info("etcd answers again", "after", time.Since(b.since).Round(time.Millisecond))
		b.fault, b.since = nil, time.Now()
		poke(b.kick)
	}
	return nil
}
