package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockline/dockline/internal/hostfile"
)

// Document is a text that is kept somewhere, and followed there.
type Document interface {
	// Follow calls set with the text as soon as it is known and when it may have
	// changed. It returns as a Source's does.
	Follow(ctx context.Context, set func([]byte)) error
	// String names it for people, without credentials.
	String() string
}

// ParseDocument reads where a text is kept:
//
//	consul://127.0.0.1:8500/dockline/log.yaml   a key of Consul's KV store
//	etcd://127.0.0.1:2379/dockline/log.yaml     a key of etcd's
//
// with the parameters for reaching it that sources have.
func ParseDocument(text string, host Host) (Document, error) {
	u, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	if u.Host == "" || strings.Trim(u.Path, "/") == "" || u.Scheme != "consul" && u.Scheme != "etcd" {
		return nil, errors.New("neither consul://host:port/KEY nor etcd://host:port/KEY")
	}
	var d Document
	if u.Scheme == "consul" {
		k := &consulKey{key: strings.TrimPrefix(u.Path, "/")}
		k.consulClient, err = newConsulClient(u, host)
		d = k
	} else {
		k := &etcdKey{key: u.Path}
		k.etcdClient, err = newEtcdClient(u, host)
		d = k
	}
	if err != nil {
		return nil, err
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("there is more in it than is known of %s, or a user: %s", u.Scheme, strings.Join(keysOf(u), ", "))
	}
	return d, nil
}

func keysOf(u *url.URL) (keys []string) {
	for key := range u.Query() {
		keys = append(keys, key)
	}
	return keys
}

// FollowDocument follows a document until ctx ends. set gets the text, or why it
// is not known now.
func FollowDocument(ctx context.Context, d Document, set func(text []byte, err error)) {
	retry(ctx, isNear(d), func(good func()) error {
		return d.Follow(ctx, func(text []byte) {
			good()
			set(text, nil)
		})
	}, func(err error) { set(nil, err) })
}

// consulKey is a key of Consul's KV store.
type consulKey struct {
	consulClient
	key string
}

func (k *consulKey) String() string { return "consul://" + k.address + "/" + k.key }

// Follow implements Document.
func (k *consulKey) Follow(ctx context.Context, set func([]byte)) error {
	var pair *api.KVPair
	ask := func(client *api.Client, opts *api.QueryOptions) (meta *api.QueryMeta, err error) {
		if pair, meta, err = client.KV().Get(k.key, opts); err != nil {
			err = fmt.Errorf("ask Consul for key %s: %w", k.key, err)
		}
		return meta, err
	}
	return k.follow(ctx, ask, func() error {
		if pair == nil {
			return fmt.Errorf("there is no key %s in Consul", k.key)
		}
		set(pair.Value)
		return nil
	})
}

// etcdKey is a key of etcd's.
type etcdKey struct {
	etcdClient
	key string
}

func (k *etcdKey) String() string { return "etcd://" + strings.Join(k.hosts, ";") + k.key }

// Follow reads the key, then watches it from there on.
func (k *etcdKey) Follow(ctx context.Context, set func([]byte)) error {
	return k.with(ctx, func(client *clientv3.Client) error { return k.follow(ctx, client, set) })
}

func (k *etcdKey) follow(ctx context.Context, client *clientv3.Client, set func([]byte)) error {
	asked, cancel := context.WithTimeout(ctx, etcdTimeout)
	got, err := client.Get(asked, k.key)
	cancel()
	if err != nil {
		return fmt.Errorf("read %s in etcd: %w", k.key, err)
	}
	if len(got.Kvs) == 0 {
		return fmt.Errorf("etcd has no key %s", k.key)
	}
	set(got.Kvs[0].Value)
	ctx, stop := whileReached(ctx, client)
	defer stop()
	changes := client.Watch(clientv3.WithRequireLeader(ctx), k.key, clientv3.WithRev(got.Header.Revision+1))
	for change := range changes {
		if err := cmp.Or(context.Cause(ctx), change.Err()); err != nil {
			return fmt.Errorf("watch %s in etcd: %w", k.key, err)
		}
		if n := len(change.Events); n > 0 {
			last := change.Events[n-1]
			if last.Type == clientv3.EventTypeDelete {
				return fmt.Errorf("etcd has no key %s any more", k.key)
			}
			set(last.Kv.Value)
		}
	}
	return fmt.Errorf("watch %s in etcd: %w", k.key, cmp.Or(context.Cause(ctx), errWatchEnded))
}

// folder is a file in a folder in which there are others that belong to it.
type folder struct{ dir, file, called string }

// Folder returns the document that is a file of a folder. It is told anew
// whenever anything in the folder changes. called is what people know it by.
func Folder(dir, file, called string) Document { return folder{dir, file, called} }

func (f folder) String() string { return f.called }

// settleTime is how long nothing may change before the file is read: who writes
// into it, or replaces several, is given the time to finish.
const settleTime = 100 * time.Millisecond

// Follow implements Document.
func (f folder) Follow(ctx context.Context, set func([]byte)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.called, err)
	}
	defer w.Close()
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	settled := time.NewTimer(settleTime)
	settled.Stop()
	for look := true; ; {
		if look {
			if err := w.Add(f.dir); err != nil { // every time: the folder of that name may be another one by now
				return fmt.Errorf("watch %s: %w", f.called, errNamed(err, f.called))
			}
			text, err := f.read()
			if err != nil {
				return err
			}
			set(text)
		}
		look = false
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch %s: %w", f.called, err)
		case <-w.Events:
			settled.Reset(settleTime)
		case <-settled.C:
			look = true
		case <-tick.C:
			look = true
		}
	}
}

func (f folder) read() ([]byte, error) {
	text, err := hostfile.Places{Config: f.dir}.Read(f.file, maxList)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.called, err)
	}
	return text, nil
}
