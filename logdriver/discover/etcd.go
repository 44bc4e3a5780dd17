package discover

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/redact"
)

const etcdTimeout = 5 * time.Second

// etcdClient is how to reach an etcd.
type etcdClient struct {
	hosts    []string
	user     string
	password string // the file that holds it
	ca       string // "" for no TLS
	files    hostfile.Places
}

// newEtcdClient takes its parameters from u's query.
func newEtcdClient(u *url.URL, host Host) (etcdClient, error) {
	e := etcdClient{hosts: strings.Split(u.Host, ";"), user: take(u, "etcd-user"), password: take(u, "etcd-password-file"), ca: take(u, "etcd-ca"), files: host.files()}
	if more := take(u, "etcd-endpoints"); more != "" {
		e.hosts = append(e.hosts, strings.FieldsFunc(more, func(r rune) bool { return r == '+' || r == ' ' })...)
	}
	if (e.user == "") != (e.password == "") {
		return e, errors.New("etcd-user and etcd-password-file go together")
	}
	_, err := e.config()
	return e, err
}

// with connects to it and does what needs that. Its errors do not repeat the
// password, though etcd may.
func (e *etcdClient) with(ctx context.Context, do func(*clientv3.Client) error) error {
	conf, err := e.config()
	if err != nil {
		return err
	}
	conf.Context = ctx
	client, err := clientv3.New(conf)
	if err != nil {
		return redact.Error(fmt.Errorf("connect to etcd: %w", err), conf.Password)
	}
	defer client.Close()
	return redact.Error(do(client), conf.Password)
}

// etcd is a source that follows the keys below a prefix: what is behind the
// prefix names the member, the value is host:port, with parameters of its own
// if need be (10.0.0.7:5170?weight=2).
type etcd struct {
	etcdClient
	url    *url.URL // of its members, but for the host
	prefix string
}

func newEtcd(u *url.URL, host Host) (Source, error) {
	e := &etcd{url: u, prefix: u.Path}
	if u.Host == "" || len(u.Path) < 2 || u.Scheme == "" {
		return nil, errors.New("not of the form etcd+SCHEME://host:port/prefix/")
	}
	if !strings.HasSuffix(e.prefix, "/") {
		e.prefix += "/"
	}
	var err error
	e.etcdClient, err = newEtcdClient(u, host)
	return e, err
}

func (e *etcd) String() string {
	u := *e.url
	u.Host, u.Path = strings.Join(e.hosts, ";"), e.prefix
	return "etcd+" + redact.URL(&u)
}

func (e *etcd) ID() string {
	return fmt.Sprintf("etcd %v %s %s %s %s %s", e.hosts, e.prefix, e.user, e.password, e.ca, e.url)
}

// Example implements Described.
func (e *etcd) Example() Collector { return member(e.url, exampleHost, 1) }

// config reads the files that the source's parameters name.
func (e *etcdClient) config() (clientv3.Config, error) {
	c := clientv3.Config{
		DialTimeout: etcdTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: etcdTimeout, Logger: zap.NewNop(),
		MaxCallRecvMsgSize: maxAnswer, DialOptions: []grpc.DialOption{grpc.WithMaxHeaderListSize(maxHeaders)},
	}
	scheme := "http://"
	if e.ca != "" {
		pem, err := e.files.Read(e.ca, maxFile)
		if err != nil {
			return c, fmt.Errorf("etcd-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("etcd-ca: %s %w", e.ca, errNoCertificate)
		}
		scheme, c.TLS = "https://", &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	for _, h := range e.hosts {
		c.Endpoints = append(c.Endpoints, scheme+h)
	}
	if e.user != "" {
		secret, err := e.files.Read(e.password, maxFile)
		if err != nil {
			return c, fmt.Errorf("etcd-password-file: %w", err)
		}
		c.Username, c.Password = e.user, strings.TrimSpace(string(secret))
	}
	return c, nil
}

// Follow lists the prefix, then watches it from there on.
func (e *etcd) Follow(ctx context.Context, set func([]Collector)) error {
	return e.with(ctx, func(client *clientv3.Client) error { return e.follow(ctx, client, set) })
}

func (e *etcd) follow(ctx context.Context, client *clientv3.Client, set func([]Collector)) error {
	for {
		asked, cancel := context.WithTimeout(ctx, etcdTimeout)
		list, err := client.Get(asked, e.prefix, clientv3.WithPrefix())
		cancel()
		if err != nil {
			return fmt.Errorf("list %s in etcd: %w", e.prefix, err)
		}
		known := map[string]Collector{}
		for _, kv := range list.Kvs {
			if err := e.put(known, kv); err != nil {
				return err
			}
		}
		set(members(known))
		err = e.watch(ctx, client, list.Header.Revision+1, known, set)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
	}
}

func (e *etcd) watch(ctx context.Context, client *clientv3.Client, from int64, known map[string]Collector, set func([]Collector)) error {
	ctx, stop := whileReached(ctx, client)
	defer stop()
	// Without a leader a watch would be silent for ever.
	changes := client.Watch(clientv3.WithRequireLeader(ctx), e.prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	for change := range changes {
		if err := cmp.Or(context.Cause(ctx), change.Err()); err != nil {
			return fmt.Errorf("watch %s in etcd: %w", e.prefix, err)
		}
		for _, ev := range change.Events {
			if ev.Type == mvccpb.DELETE {
				delete(known, string(ev.Kv.Key))
			} else if err := e.put(known, ev.Kv); err != nil {
				return err
			}
		}
		set(members(known))
	}
	return fmt.Errorf("watch %s in etcd: %w", e.prefix, cmp.Or(context.Cause(ctx), errWatchEnded))
}

var (
	errWatchEnded = errors.New("it ended")
	errUnreached  = fmt.Errorf("none of its members has been reached for %s", etcdTimeout)
)

// whileReached returns a context that ends, with errUnreached, when no member of etcd
// has been reached for some time: a watch would try again for ever, and say nothing
// of it. stop ends it, too, and has to be called.
func whileReached(ctx context.Context, client *clientv3.Client) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for conn := client.ActiveConnection(); reached(ctx, conn); {
			conn.WaitForStateChange(ctx, connectivity.Ready)
		}
		cancel(errUnreached)
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// reached returns true when a connection works, false when it has not for etcdTimeout.
func reached(ctx context.Context, conn *grpc.ClientConn) bool {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return ctx.Err() == nil
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

func (e *etcd) put(known map[string]Collector, kv *mvccpb.KeyValue) error {
	value := strings.TrimSpace(string(kv.Value))
	if !strings.Contains(value, "://") {
		value = e.url.Scheme + "://" + value
		if e.url.RawQuery != "" {
			sep := "?"
			if strings.Contains(value, "?") {
				sep = "&"
			}
			value += sep + e.url.RawQuery
		}
	}
	c, err := parse(value)
	if err != nil {
		return fmt.Errorf("etcd's key %s, collector %q: %w", kv.Key, redact.Entry(value, value), err)
	}
	known[string(kv.Key)] = c
	if len(known) > maxMembers {
		return tooMany(len(known))
	}
	return nil
}

func members(known map[string]Collector) []Collector {
	return sorted(slices.Collect(maps.Values(known)))
}
