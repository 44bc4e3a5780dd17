package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/internal/failpoint"
	"github.com/dockline/dockline/netdriver/ipam"
)

// rounds is how often a claim is tried where what we knew of its candidates was
// old news.
const rounds = 4

// Claim implements ipam.Backend.
func (b *Backend) Claim(ctx context.Context, p ipam.Pool, c ipam.Claim) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	mine, err := b.hands.takeAny(ctx, placesOf(p, c.Candidates))
	if err != nil && c.Replay {
		return c.Candidates[0], nil
	} else if err != nil {
		return netip.Addr{}, fmt.Errorf("claim an address: %w (%w)", ipam.ErrAway, err)
	}
	defer b.hands.drop(mine...)
	c.Candidates = addrsOf(mine)
	client, err := b.connected(ctx)
	switch {
	case err != nil && c.Replay:
		b.Kick()
		return c.Candidates[0], nil // compared when etcd answers
	case err != nil:
		return b.claimOffline(p, c, err)
	case c.Replay && b.mayHaveTwin():
		return c.Candidates[0], nil // compared when that is certain
	case c.Kind.Shared():
		err = b.setAside(ctx, client, p, c)
		if err == nil || c.Replay && errors.Is(err, ipam.ErrAway) {
			return c.Candidates[0], nil
		}
		return netip.Addr{}, err
	}
	got, err := b.claim(ctx, client, p, c)
	switch {
	case err == nil:
		failpoint.Hit("etcd", "claim")
		b.Stats.Claims.Add(1)
	case c.Replay && errors.Is(err, ipam.ErrAway):
		return c.Candidates[0], nil
	case c.Replay:
		b.Stats.Conflicts.Add(1)
		b.cfg.Log.Error("a container that the engine knows from before has an address that is another host's by now: restart it", "pool", p.ID, "address", c.Candidates[0], "err", err)
	case errors.Is(err, ipam.ErrTaken):
		b.Stats.Taken.Add(1)
	}
	return got, err
}

func placesOf(p ipam.Pool, addrs []netip.Addr) []place {
	segment := optionsOf(p).segment
	all := make([]place, len(addrs))
	for i, a := range addrs {
		all[i] = place{segment, a}
	}
	return all
}

func addrsOf(places []place) []netip.Addr {
	all := make([]netip.Addr, len(places))
	for i, at := range places {
		all[i] = at.addr
	}
	return all
}

// claim tries until the answer is certain.
func (b *Backend) claim(ctx context.Context, client *clientv3.Client, p ipam.Pool, c ipam.Claim) (netip.Addr, error) {
	for round := range rounds {
		all, err := b.worth(p, c, round > 0)
		if err != nil {
			return netip.Addr{}, err
		}
		if got, err := b.try(ctx, client, p, c.Owner, all); err != nil || got.IsValid() {
			return got, err
		}
	}
	return netip.Addr{}, fmt.Errorf("address %s: others were faster %d times: %w", c.Candidates[0], rounds, ipam.ErrTaken)
}

// record is what we write of an address.
func (b *Backend) record(p ipam.Pool, o ipam.Owner) Record {
	r := Record{Kind: o.Kind, Host: b.cfg.Host, HostName: b.cfg.HostName, Pool: p.ID, Key: o.Key, Since: time.Now().UTC(), ID: rand.Text()}
	if b.cfg.Network != nil {
		r.Network = b.cfg.Network(p.Prefix)
	}
	return r
}

// attempt is one candidate with what has to be true for it to be had.
type attempt struct {
	place
	rev int64 // of the record that is taken over; 0: there is none
}

func (b *Backend) conditions(a attempt) []clientv3.Cmp {
	key, others := b.addressKey(a.place), b.asidesOf(a.place)
	if a.rev != 0 {
		return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", a.rev)}
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(others).WithPrefix(), "=", 0),
	}
}

// look are the operations that say why conditions do not hold.
func (b *Backend) look(a attempt) []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(b.addressKey(a.place)), clientv3.OpGet(b.asidesOf(a.place), clientv3.WithPrefix())}
}

// try makes one transaction. Neither an address nor an error: what was found out
// is worth another.
func (b *Backend) try(ctx context.Context, client *clientv3.Client, p ipam.Pool, o ipam.Owner, all []attempt) (netip.Addr, error) {
	rec := b.record(p, o)
	value := encode(rec)
	last := len(all) - 1
	otherwise := b.look(all[last])
	for i := last - 1; i >= 0; i-- {
		next := all[i+1]
		otherwise = append(b.look(all[i]), clientv3.OpTxn(b.conditions(next), []clientv3.Op{clientv3.OpPut(b.addressKey(next.place), value)}, otherwise))
	}
	res, err := b.commit(ctx, client, b.conditions(all[0]), []clientv3.Op{clientv3.OpPut(b.addressKey(all[0].place), value)}, otherwise)
	if err != nil {
		b.Stats.Failed.Add(1)
		return netip.Addr{}, fmt.Errorf("claim an address: %w (%w)", ipam.ErrAway, err)
	}
	return b.outcome((*pb.TxnResponse)(res), all, rec, res.Header.Revision)
}

// worth returns the candidates that may be had by what the mirror knows. Before
// it is sure, it returns the first one anyway: the mirror may be behind.
func (b *Backend) worth(p ipam.Pool, c ipam.Claim, sure bool) ([]attempt, error) {
	po, now := optionsOf(p), time.Now()
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []attempt
	for _, a := range c.Candidates {
		at := place{po.segment, a}
		e, there := b.mirror.at(at)
		if len(b.mirror.asides[at]) == 0 && (b.usable(e, there, c.Owner, now) || c.Kind != reserved && spare(e, there)) {
			all = append(all, attempt{at, e.rev * bit(there)})
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case !sure:
		return []attempt{{place: place{po.segment, c.Candidates[0]}}}, nil
	}
	return nil, fmt.Errorf("%s: %w", b.whoLocked(place{po.segment, c.Candidates[0]}), ipam.ErrTaken)
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// whoLocked says who has an address.
func (b *Backend) whoLocked(at place) string {
	for _, e := range b.mirror.asides[at] {
		return fmt.Sprintf("address %s is set aside by host %s", at.addr, e.HostName)
	}
	e, there := b.mirror.at(at)
	switch {
	case !there:
		return fmt.Sprintf("address %s was in use a moment ago", at.addr)
	case e.Kind == held:
		return fmt.Sprintf("address %s is kept until %s for %s, which had it on host %s", at.addr, e.Until.Format(time.RFC3339), e.Key, e.HostName)
	case e.Kind == reserved:
		return fmt.Sprintf("address %s is in reserve on host %s (--ipam-opt reserve=N), which gives it up where it is reserved for a container", at.addr, e.HostName)
	}
	return fmt.Sprintf("address %s: already in use on host %s (%s) since %s", at.addr, e.HostName, e.Host, e.Since.Format(time.RFC3339))
}

// outcome reads the answer to try and notes what it says.
func (b *Backend) outcome(res *pb.TxnResponse, all []attempt, rec Record, rev int64) (netip.Addr, error) {
	for i, a := range all {
		if res.Succeeded {
			return a.addr, b.ours(a.place, rec, rev)
		}
		b.mu.Lock()
		e, there := b.noteLocked(a.place, res.Responses, rev)
		b.mu.Unlock()
		if there && e.ID == rec.ID { // by an attempt that was not answered
			return a.addr, b.ours(a.place, rec, e.rev)
		}
		if i+1 < len(all) {
			res = res.Responses[2].GetResponseTxn()
		}
	}
	return netip.Addr{}, nil
}

// noteLocked takes over what the look at an address said.
func (b *Backend) noteLocked(at place, responses []*pb.ResponseOp, rev int64) (entry, bool) {
	kvs := responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		b.mirror.deleted(at, rev, true)
	}
	for _, kv := range kvs {
		b.mirror.set(at, readRecord(kv))
	}
	for _, kv := range responses[1].GetResponseRange().GetKvs() {
		b.apply(b.mirror, kv, false)
	}
	return b.mirror.at(at)
}

// ours notes that we have an address. What was in reserve is so no more; where
// that cannot be written down it still is, and nobody got it.
func (b *Backend) ours(at place, rec Record, rev int64) error {
	if _, err := b.reserve.take(at); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owed, at)
	b.mirror.set(at, entry{Record: rec, rev: rev})
	return nil
}

// claimOffline gives what is in reserve.
func (b *Backend) claimOffline(p ipam.Pool, c ipam.Claim, why error) (netip.Addr, error) {
	if !c.Kind.Shared() && !b.mayHaveTwin() {
		for _, at := range placesOf(p, c.Candidates) {
			there, err := b.reserve.take(at)
			if err != nil {
				return netip.Addr{}, err
			}
			if there {
				b.Stats.Offline.Add(1)
				return at.addr, nil
			}
		}
	}
	b.Stats.Failed.Add(1)
	return netip.Addr{}, away(why)
}

// setAside claims an address that others may set aside as well.
func (b *Backend) setAside(ctx context.Context, client *clientv3.Client, p ipam.Pool, c ipam.Claim) error {
	po := optionsOf(p)
	at := place{po.segment, c.Candidates[0]}
	if c.Kind == ipam.Gateway {
		if err := b.sameGateway(p, po, at.addr); err != nil {
			return err
		}
	}
	rec := b.record(p, c.Owner)
	for range rounds {
		b.mu.RLock()
		e, there := b.mirror.at(at)
		b.mu.RUnlock()
		// Nobody works with an address that is only kept. What another host has
		// claimed ahead it may give out without asking anybody.
		over := there && (e.Kind == held || e.Host == b.cfg.Host)
		if there && !over {
			b.mu.RLock()
			defer b.mu.RUnlock()
			return fmt.Errorf("%s: %w", b.whoLocked(at), ipam.ErrTaken)
		}
		rev := e.rev * bit(over)
		key := b.asidesOf(at) + b.cfg.Host
		then := []clientv3.Op{clientv3.OpPut(key, encode(rec))}
		if over {
			if _, err := b.reserve.take(at); err != nil {
				return err
			}
			then = append(then, clientv3.OpDelete(b.addressKey(at)))
		}
		res, err := b.commit(ctx, client, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(b.addressKey(at)), "=", rev)}, then, b.look(attempt{place: at}))
		if err != nil {
			return fmt.Errorf("set %s aside: %w (%w)", at.addr, ipam.ErrAway, err)
		}
		b.mu.Lock()
		if res.Succeeded {
			applyAside(b.mirror, at, b.cfg.Host, entry{Record: rec, rev: res.Header.Revision}, false)
			if over {
				b.mirror.deleted(at, res.Header.Revision, true)
			}
			b.mu.Unlock()
			return nil
		}
		b.noteLocked(at, res.Responses, res.Header.Revision)
		b.mu.Unlock()
	}
	return fmt.Errorf("set %s aside: others were faster %d times: %w", at.addr, rounds, ipam.ErrTaken)
}

// Release implements ipam.Backend. While etcd is away the address stays this
// host's there, and nobody gets it.
func (b *Backend) Release(ctx context.Context, p ipam.Pool, h ipam.Held) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	po := optionsOf(p)
	at := place{po.segment, h.Addr}
	if !h.Kind.Shared() {
		b.owe(at)
	}
	if err := b.hands.take(ctx, at); err != nil {
		return err
	}
	defer b.hands.drop(at)
	client, err := b.connected(ctx)
	if err != nil {
		b.Kick() // it is given back when etcd answers
		return nil
	}
	failpoint.Hit("etcd", "release")
	if h.Kind.Shared() {
		return b.giveUpAsides(ctx, client, at)
	}
	b.mu.RLock()
	e, there := b.mirror.at(at)
	b.mu.RUnlock()
	if !there || e.Host != b.cfg.Host || e.Kind == held {
		b.settled(at)
		return nil
	}
	return b.giveUp(ctx, client, at, e, po.hold)
}

// owe notes that an address is to be given back as soon as that can be, without
// the grace that what a crash left over gets.
func (b *Backend) owe(at place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed[at] = true
}

func (b *Backend) owes(at place) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.owed[at]
}

func (b *Backend) settled(at place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owed, at)
}

// giveUp removes a record of ours, or keeps it for its owner for a while. Its
// caller has the address in hand. Whatever comes back, or nothing: the address is
// not in reserve, and the request can only remove the record that it names by its
// revision, never a later one.
func (b *Backend) giveUp(ctx context.Context, client *clientv3.Client, at place, e entry, hold time.Duration) error {
	if _, err := b.reserve.take(at); err != nil {
		return err
	}
	keep := hold > 0 && e.Key != "" && e.Kind == ipam.Container
	rec := e.Record
	then := clientv3.OpDelete(b.addressKey(at))
	if keep {
		rec.Kind, rec.ID, rec.Until = held, rand.Text(), time.Now().Add(hold).UTC()
		then = clientv3.OpPut(b.addressKey(at), encode(rec))
	}
	res, err := b.commit(ctx, client, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(b.addressKey(at)), "=", e.rev)}, []clientv3.Op{then}, b.look(attempt{place: at}))
	if err != nil {
		return fmt.Errorf("give %s back: %w", at.addr, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !res.Succeeded: // it was not what we knew, or an attempt was not answered
		b.noteLocked(at, res.Responses, res.Header.Revision)
		poke(b.kick)
	case keep:
		delete(b.owed, at)
		b.mirror.set(at, entry{Record: rec, rev: res.Header.Revision})
	default:
		delete(b.owed, at)
		b.mirror.deleted(at, res.Header.Revision, true)
	}
	return nil
}

func (b *Backend) giveUpAsides(ctx context.Context, client *clientv3.Client, all ...place) error {
	ops := make([]clientv3.Op, len(all))
	for i, at := range all {
		ops[i] = clientv3.OpDelete(b.asidesOf(at) + b.cfg.Host)
	}
	if err := b.inParts(ctx, client, ops); err != nil {
		return fmt.Errorf("give back what was set aside: %w", err)
	}
	return nil
}

// Leave implements ipam.Backend.
func (b *Backend) Leave(ctx context.Context, p ipam.Pool) error {
	client, err := b.connected(ctx)
	if err != nil {
		b.Kick()
		return nil //nolint:nilerr // it is given back when etcd answers
	}
	if b.mayHaveTwin() {
		return nil // what is left over is given back when it is certainly ours
	}
	po := optionsOf(p)
	b.mu.RLock()
	mine, aside := map[place]entry{}, []place{}
	for at, e := range b.mirror.addrs {
		if !e.dead && e.Host == b.cfg.Host && e.Pool == p.ID && e.Kind != held {
			mine[at] = e
		}
	}
	for at, by := range b.mirror.asides {
		if e, there := by[b.cfg.Host]; there && e.Pool == p.ID {
			aside = append(aside, at)
		}
	}
	b.mu.RUnlock()
	for at, e := range mine {
		if _, err := b.giveUpUnknown(ctx, client, at, e, 0); err != nil {
			return err
		}
	}
	if err := b.giveUpAsides(ctx, client, aside...); err != nil {
		return err
	}
	if _, err := b.commit(ctx, client, nil, []clientv3.Op{clientv3.OpDelete(b.poolKey(po.segment, p.Prefix, b.cfg.Host))}, nil); err != nil {
		return fmt.Errorf("say that the network is gone: %w", err)
	}
	return nil
}
