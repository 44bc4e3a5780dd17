package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

// recordEtcd writes down each change of a claim until ctx ends: with the hosts'
// logs, it says how an address came to have two owners. A watch that fell behind
// a compaction begins again, and says that something is missing.
func (w *world) recordEtcd(ctx context.Context) error {
	f, err := os.Create(filepath.Join(w.lab.Dir, "history.log"))
	if err != nil {
		return fmt.Errorf("write down what etcd has: %w", err)
	}
	defer f.Close()
	from := int64(1)
	for ctx.Err() == nil {
		watched, cancel := context.WithCancel(ctx)
		for change := range w.client.Watch(watched, etcd.DefaultPrefix+"/", clientv3.WithPrefix(), clientv3.WithRev(from)) {
			if change.CompactRevision > from {
				_, err = fmt.Fprintf(f, "nothing is known of revisions %d to %d\n", from, change.CompactRevision-1)
				from = change.CompactRevision
			}
			for _, ev := range change.Events {
				_, err1 := fmt.Fprintln(f, describeChange(w.ledger.now(), ev))
				err, from = errors.Join(err, err1), ev.Kv.ModRevision+1
			}
			if err != nil {
				break
			}
		}
		cancel()
		if err != nil {
			return fmt.Errorf("write down what etcd has: %w", err)
		}
	}
	return nil
}

func describeChange(at time.Duration, ev *clientv3.Event) string {
	key := string(ev.Kv.Key)[len(etcd.DefaultPrefix)+1:]
	if ev.Type == mvccpb.DELETE {
		return fmt.Sprintf("%.4f revision %d: %s is gone", at.Seconds(), ev.Kv.ModRevision, key)
	}
	var r etcd.Record
	if json.Unmarshal(ev.Kv.Value, &r) != nil {
		return fmt.Sprintf("%.4f revision %d: %s is %s", at.Seconds(), ev.Kv.ModRevision, key, ev.Kv.Value)
	}
	return fmt.Sprintf("%.4f revision %d: %s is %s's, %q for %q, asked for at %s", at.Seconds(), ev.Kv.ModRevision, key, r.HostName, r.Kind, r.Key, r.Since.Format(time.StampMilli))
}
