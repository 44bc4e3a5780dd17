package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/route"
)

// Names looks names up in the DNS as the host does, and says how long the answer
// may be relied on.
type Names interface {
	Addresses(ctx context.Context, host string) ([]netip.Addr, time.Duration, error)
	Services(ctx context.Context, name string) ([]*net.SRV, time.Duration, error)
}

// How long an answer is taken for good, whatever its TTL says: the shortest
// spares the servers, the longest bounds how long a change goes unseen.
const (
	ttlMin = time.Second
	ttlMax = time.Hour
)

// dnsTimeout bounds one look-up.
const dnsTimeout = 10 * time.Second

// name is a source that asks the DNS: for addresses, or for SRV records.
type name struct {
	names Names
	url   *url.URL // of its members, but for the host
	name  string
	port  string // of addresses; "" for SRV records
}

func newDNS(u *url.URL, host Host) (Source, error) {
	if u.Hostname() == "" || u.Port() == "" || u.Scheme == "" {
		return nil, errors.New("not of the form dns+SCHEME://name:port")
	}
	return &name{names: host.Names, url: u, name: u.Hostname(), port: u.Port()}, nil
}

func newSRV(u *url.URL, host Host) (Source, error) {
	if u.Hostname() == "" || u.Port() != "" || u.Scheme == "" {
		return nil, errors.New("not of the form srv+SCHEME://_service._proto.name: the records tell the port")
	}
	return &name{names: host.Names, url: u, name: u.Hostname()}, nil
}

func (n *name) kind() string {
	if n.port == "" {
		return "srv+"
	}
	return "dns+"
}

func (n *name) String() string { return n.kind() + redact.URL(n.url) }

func (n *name) ID() string { return n.kind() + n.url.String() }

// Example implements Described.
func (n *name) Example() Collector { return member(n.url, exampleHost, 1) }

// Follow asks again whenever an answer has lived its time, and passes each on: it
// shows that the name server is there.
func (n *name) Follow(ctx context.Context, set func([]Collector)) error {
	for {
		members, ttl, err := n.ask(ctx)
		if err != nil {
			return err
		}
		set(members)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(max(ttl, ttlMin), ttlMax)):
		}
	}
}

func (n *name) ask(ctx context.Context) ([]Collector, time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dnsTimeout, fmt.Errorf("look up %s: no answer in time", n.name))
	defer cancel()
	if n.port == "" {
		records, ttl, err := n.names.Services(ctx, n.name)
		return n.preferred(records), ttl, err
	}
	addrs, ttl, err := n.names.Addresses(ctx, n.name)
	var members []Collector
	for _, a := range addrs {
		members = append(members, member(n.url, net.JoinHostPort(a.Unmap().String(), n.port), 1))
	}
	return sorted(members), ttl, err
}

// preferred takes the records of the most preferred priority only, as RFC 2782
// has it for a client that reaches them. A weight of 0, which that RFC gives a
// very small chance, is 1 here: ours means "no new streams".
func (n *name) preferred(records []*net.SRV) []Collector {
	if len(records) == 0 {
		return nil
	}
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return int(a.Priority) - int(b.Priority) }).Priority
	var members []Collector
	for _, r := range records {
		if r.Priority == best {
			host := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
			members = append(members, member(n.url, host, min(max(uint32(r.Weight), 1), route.MaxWeight)))
		}
	}
	return sorted(members)
}
