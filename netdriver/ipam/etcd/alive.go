package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	// aliveFor is how long a host counts as alive that is not heard of, in seconds.
	aliveFor = 30
	// twinAfter is when who is still alive is no earlier process of this host.
	twinAfter = (aliveFor + 10) * time.Second
	askTwin   = time.Second
)

// live says that this host is alive, until it cannot. It waits while somebody
// else says that he is this host.
func (b *Backend) live(ctx context.Context, client *clientv3.Client) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(aliveFor), concurrency.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("say that this host is alive: %w", err)
	}
	defer s.Orphan() // the next process has half a minute
	for {
		said, err := b.sayAlive(ctx, client, s.Lease())
		if err != nil {
			return fmt.Errorf("say that this host is alive: %w", err)
		}
		var again <-chan time.Time
		if !said {
			again = time.After(askTwin)
		}
		select {
		case <-again:
		case <-b.other:
		case <-s.Done():
			return errors.New("the lease that says that this host is alive has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sayAlive says so unless somebody else does.
func (b *Backend) sayAlive(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID) (said bool, err error) {
	asked, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	key := b.key(alive, b.cfg.Host)
	res, err := client.Get(asked, key)
	if err != nil {
		return false, err
	}
	before := int64(0)
	for _, kv := range res.Kvs {
		before = kv.ModRevision
		var r HostRecord
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			r = HostRecord{HostName: "its record cannot be read"}
		}
		if !b.isThis(r) {
			return false, nil
		}
	}
	value := encode(HostRecord{Host: b.cfg.Host, HostName: b.cfg.HostName, Since: b.began.UTC(), ID: b.id, Boot: b.cfg.Boot})
	put, err := client.Txn(asked).If(clientv3.Compare(clientv3.ModRevision(key), "=", before)).Then(
		clientv3.OpPut(b.key(hosts, b.cfg.Host), value),
		clientv3.OpPut(key, value, clientv3.WithLease(lease)),
	).Commit()
	if err != nil || !put.Succeeded {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.twin != nil {
		b.cfg.Log.Info("nobody else says any more that he is this host", "host", b.cfg.Host)
	}
	b.aliveRev, b.twin, b.unsure, b.doubted = put.Header.Revision, nil, false, time.Time{}
	poke(b.kick)
	return true, nil
}

func (b *Backend) isThis(r HostRecord) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isThisLocked(r) {
		return true
	}
	b.doubtLocked(r)
	return false
}

// isThisLocked reports whether a record is of this process, or of an earlier one
// of this host: one on this machine as it has booted last. No clock says which of
// two was first.
func (b *Backend) isThisLocked(r HostRecord) bool {
	return r.ID == b.id || b.aliveRev == 0 && r.Boot == b.cfg.Boot
}

// doubtLocked notes that another process says that it is this host. After ours
// said so, that is another machine. Before, it may be one from before this
// machine has booted, of which nothing is heard any more: then its lease ends.
// What etcd has as this host's may be in use there, until that is certain.
func (b *Backend) doubtLocked(r HostRecord) {
	if b.doubted.IsZero() {
		b.doubted = time.Now()
	}
	b.unsure = true
	if b.twin != nil || b.aliveRev == 0 && time.Since(b.doubted) < twinAfter {
		return
	}
	b.twin = fmt.Errorf("another host (%s) has the id of this one, %s, as after copying a machine with the plugin's state: remove the plugin's networks and the plugin there, or here, and install it again", r.HostName, b.cfg.Host)
	b.cfg.Log.Error("no address is claimed any more", "err", b.twin)
}

// twinLocked looks at what was watched.
func (b *Backend) twinLocked() {
	r, there := b.mirror.alive[b.cfg.Host]
	switch {
	case !there && b.unsure:
		poke(b.other)
	case there && b.aliveRev != 0 && r.rev > b.aliveRev && r.ID != b.id:
		b.doubtLocked(r)
		poke(b.other)
	}
}

// mayHaveTwin reports whether what etcd has as this host's may be another's.
func (b *Backend) mayHaveTwin() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.unsure
}
