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

	"github.com/miekg/dns"

	"github.com/dockline/dockline/logdriver/route"
)

// How long an answer is taken for good, whatever its TTL says: the shortest
// spares the server, the longest bounds how long a change goes unseen.
const (
	ttlMin = time.Second
	ttlMax = time.Hour
)

const (
	dnsTimeout = 3 * time.Second
	dnsUDPSize = 1232 // what passes everywhere without fragments (dnsflagday.net/2020)
)

// name is a source that asks the DNS: for addresses, or for SRV records.
type name struct {
	url    *url.URL // of its members, but for the host
	name   string
	port   string // of addresses
	srv    bool
	server string // "" for those of resolv.conf
	conf   string // where resolv.conf is
}

func newDNS(u *url.URL) (Source, error) {
	n := &name{url: u, name: u.Hostname(), port: u.Port(), server: take(u, "dns-server"), conf: "/etc/resolv.conf"}
	if n.name == "" || n.port == "" || u.Scheme == "" {
		return nil, errors.New("not of the form dns+SCHEME://name:port")
	}
	return n, n.check()
}

func newSRV(u *url.URL) (Source, error) {
	n := &name{url: u, name: u.Hostname(), srv: true, server: take(u, "dns-server"), conf: "/etc/resolv.conf"}
	if n.name == "" || u.Port() != "" || u.Scheme == "" {
		return nil, errors.New("not of the form srv+SCHEME://_service._proto.name: the records tell the port")
	}
	return n, n.check()
}

func (n *name) check() error {
	if _, ok := dns.IsDomainName(n.name); !ok {
		return fmt.Errorf("%q is no domain name", n.name)
	}
	if n.server != "" {
		if _, err := netip.ParseAddrPort(n.server); err != nil {
			return fmt.Errorf("dns-server=%q is not of the form address:port", n.server)
		}
	}
	return nil
}

func (n *name) String() string {
	kind := "dns+"
	if n.srv {
		kind = "srv+"
	}
	return kind + n.url.Redacted()
}

func (n *name) ID() string { return fmt.Sprintf("dns %v %s %s", n.srv, n.server, n.url) }

// Follow asks again whenever an answer has lived its time.
func (n *name) Follow(ctx context.Context, set func([]Collector)) error {
	var said []Collector
	for {
		members, ttl, err := n.ask(ctx)
		if err != nil {
			return err
		}
		if !slices.EqualFunc(members, said, func(a, b Collector) bool { return a.ID() == b.ID() }) {
			said = members
			set(members)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(max(ttl, ttlMin), ttlMax)):
		}
	}
}

func (n *name) ask(ctx context.Context) ([]Collector, time.Duration, error) {
	if n.srv {
		return n.askSRV(ctx)
	}
	var members []Collector
	ttl := ttlMax
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, life, err := n.lookup(ctx, n.name, kind)
		if err != nil {
			return nil, 0, err
		}
		ttl = min(ttl, life)
		for _, rr := range answer {
			switch rr := rr.(type) {
			case *dns.A:
				members = append(members, member(n.url, net.JoinHostPort(rr.A.String(), n.port), 1))
			case *dns.AAAA:
				members = append(members, member(n.url, net.JoinHostPort(rr.AAAA.String(), n.port), 1))
			}
		}
	}
	return sorted(members), ttl, nil
}

// askSRV takes the records of the most preferred priority only, as RFC 2782
// has it for a client that reaches them. A weight of 0, which that RFC gives a
// very small chance, is 1 here: ours mean "no new streams".
func (n *name) askSRV(ctx context.Context) ([]Collector, time.Duration, error) {
	answer, ttl, err := n.lookup(ctx, n.name, dns.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	best := -1
	for _, rr := range answer {
		if srv, ok := rr.(*dns.SRV); ok && srv.Target != "." && (best < 0 || int(srv.Priority) < best) {
			best = int(srv.Priority)
		}
	}
	var members []Collector
	for _, rr := range answer {
		if srv, ok := rr.(*dns.SRV); ok && srv.Target != "." && int(srv.Priority) == best {
			host := net.JoinHostPort(strings.TrimSuffix(srv.Target, "."), strconv.Itoa(int(srv.Port)))
			members = append(members, member(n.url, host, min(max(uint32(srv.Weight), 1), route.MaxWeight)))
		}
	}
	return sorted(members), ttl, nil
}

func sorted(members []Collector) []Collector {
	slices.SortFunc(members, func(a, b Collector) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(members, func(a, b Collector) bool { return a.Name == b.Name })
}

// lookup asks the servers in turn and returns the records of that kind and how
// long they may be relied on. A name without such records is no error.
func (n *name) lookup(ctx context.Context, host string, kind uint16) ([]dns.RR, time.Duration, error) {
	servers, names, err := n.resolver(host)
	if err != nil {
		return nil, 0, err
	}
	var fault error
	for _, fqdn := range names {
		for _, server := range servers {
			reply, err := exchange(ctx, server, fqdn, kind)
			if err != nil {
				fault = fmt.Errorf("ask %s for %s %s: %w", server, dns.TypeToString[kind], fqdn, err)
				continue
			}
			if reply.Rcode == dns.RcodeNameError {
				break // the next name of the search list
			}
			ttl := ttlMax
			var found []dns.RR
			for _, rr := range reply.Answer { // CNAMEs before the records bound their life too
				ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
				if rr.Header().Rrtype == kind {
					found = append(found, rr)
				}
			}
			for _, rr := range reply.Ns { // RFC 2308: how long there being none holds
				if soa, ok := rr.(*dns.SOA); ok && len(found) == 0 {
					ttl = min(ttl, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
				}
			}
			return found, ttl, nil
		}
	}
	if fault == nil {
		fault = fmt.Errorf("%s: no such name", host)
	}
	return nil, 0, fault
}

// resolver returns the servers to ask and the names to ask them for. It reads
// resolv.conf each time, which changes when a host moves.
func (n *name) resolver(host string) (servers, names []string, err error) {
	if n.server != "" {
		return []string{n.server}, []string{dns.Fqdn(host)}, nil
	}
	conf, err := dns.ClientConfigFromFile(n.conf)
	if err != nil {
		return nil, nil, fmt.Errorf("read the host's resolv.conf: %w", err)
	}
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	if len(servers) == 0 {
		return nil, nil, errors.New("the host's resolv.conf names no server")
	}
	return servers, conf.NameList(host), nil
}

// exchange asks one server, over TCP where the answer does not fit a datagram.
func exchange(ctx context.Context, server, fqdn string, kind uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	q := new(dns.Msg)
	q.SetQuestion(fqdn, kind)
	q.SetEdns0(dnsUDPSize, false)
	c := dns.Client{Timeout: dnsTimeout, UDPSize: dnsUDPSize}
	reply, _, err := c.ExchangeContext(ctx, q, server)
	if err == nil && reply.Truncated {
		c.Net = "tcp"
		reply, _, err = c.ExchangeContext(ctx, q, server)
	}
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil, errors.New(dns.RcodeToString[reply.Rcode])
	}
	return reply, nil
}
