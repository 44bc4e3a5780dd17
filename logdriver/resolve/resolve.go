// Package resolve looks up the names of collectors as the host would: in its
// hosts file, then with the name servers of its resolv.conf, both as they are at
// that moment. It stands at the end of the data path: a sink asks it each time
// that it connects.
//
// The standard library cannot be used for that. An engine gives its plugins
// /etc/hosts and /etc/resolv.conf, but as mounts of these files: when the host
// replaces one, as nearly every program does that writes them, the plugin goes on
// seeing the old one until it is enabled again.
package resolve

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsPort = "53"
	// udpSize is what fits into a packet everywhere (DNS Flag Day 2020).
	udpSize = 1232
	// resolvedStub is systemd-resolved's: it always says 127.0.0.53, where the
	// host's own resolver follows changes.
	resolvedStub = "stub-resolv.conf"
)

// Resolver looks names up. It keeps nothing from one look-up to the next.
type Resolver struct {
	files Files
	log   *slog.Logger
	port  string

	once sync.Once // says once which file cannot be followed
}

// New returns a resolver that reads the host's files.
func New(files Files, log *slog.Logger) *Resolver {
	return &Resolver{files: files, log: log, port: dnsPort}
}

// LookupNetIP returns the addresses of a host, at least one where there is no
// error. Network is always "ip": the signature is net.Resolver's. Half of the time
// that ctx leaves is for asking, the other for what is done with the answer.
func (r *Resolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if addrs := inHosts(r.files.hosts(), host); len(addrs) > 0 {
		return addrs, nil
	}
	if _, ok := dns.IsDomainName(host); !ok {
		return nil, fmt.Errorf("look up %s: %w", host, errNoName)
	}
	addrs, _, err := r.query(ctx, host)
	return addrs, err
}

// How long what no server gave a time for may be relied on.
const (
	forever = time.Duration(1<<63 - 1)
	// HostsLife is for the hosts file: looking again costs one read.
	HostsLife = 10 * time.Second
	// negativeLife is for there being none, where the server does not say.
	negativeLife = 30 * time.Second
)

// Addresses is LookupNetIP, and says how long the answer may be relied on.
func (r *Resolver) Addresses(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, forever, nil
	}
	if addrs := inHosts(r.files.hosts(), host); len(addrs) > 0 {
		return addrs, HostsLife, nil
	}
	return r.query(ctx, host)
}

// Services returns a name's SRV records (RFC 2782), those of all priorities, and
// how long they may be relied on. None is no error.
func (r *Resolver) Services(ctx context.Context, name string) ([]*net.SRV, time.Duration, error) {
	var found []*net.SRV
	ttl, err := r.each(ctx, name, func(ctx context.Context, conf *dns.ClientConfig, name string, patience time.Duration) (time.Duration, bool, error) {
		answer, err := r.one(ctx, conf, name, dns.TypeSRV, patience)
		if err != nil {
			return 0, false, err
		}
		for _, rr := range answer.Answer {
			if srv, ok := rr.(*dns.SRV); ok && srv.Target != "." { // which means that there is no such service
				found = append(found, &net.SRV{Target: srv.Target, Port: srv.Port, Priority: srv.Priority, Weight: srv.Weight})
			}
		}
		return life(answer), true, nil
	})
	return found, ttl, err
}

// inHosts looks a name up in a hosts file (hosts(5)).
func inHosts(file []byte, host string) (addrs []netip.Addr) {
	host = strings.TrimSuffix(host, ".")
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			if strings.EqualFold(strings.TrimSuffix(name, "."), host) {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs
}

// config reads resolv.conf. Without a name server there, it is the host itself,
// as resolv.conf(5) says.
func (r *Resolver) config() (*dns.ClientConfig, error) {
	file, unseen := r.files.resolvConf()
	if unseen != "" && filepath.Base(unseen) != resolvedStub {
		r.once.Do(func() {
			r.log.Warn("the host's resolv.conf is a link to a file that the plugin cannot see: it uses the one that it was enabled with; "+
				"to have changes noticed, disable it, `docker plugin set` resolv.source to the folder of that file, and enable it", "file", unseen)
		})
	}
	conf, err := dns.ClientConfigFromReader(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("read resolv.conf: %w", err)
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []string{"127.0.0.1", "::1"}
	}
	return conf, nil
}

// query asks for the names that the host stands for, in order, until one has an
// address.
func (r *Resolver) query(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error) {
	ttl, err = r.each(ctx, host, func(ctx context.Context, conf *dns.ClientConfig, name string, patience time.Duration) (ttl time.Duration, ok bool, err error) {
		addrs, ttl, err = r.both(ctx, conf, name, patience)
		return ttl, len(addrs) > 0, err
	})
	return addrs, ttl, err
}

// each calls ask for the names that a host stands for, in order, until it knows
// one. The error is about the name that was most likely meant.
func (r *Resolver) each(ctx context.Context, host string, ask func(context.Context, *dns.ClientConfig, string, time.Duration) (time.Duration, bool, error)) (time.Duration, error) {
	conf, err := r.config()
	if err != nil {
		return 0, err
	}
	patience := time.Duration(conf.Timeout) * time.Second
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)/time.Duration(2*max(1, conf.Attempts)*len(conf.Servers)))
	}
	var first error
	for _, name := range conf.NameList(host) {
		ttl, ok, err := ask(ctx, conf, name, patience)
		if ok {
			return ttl, nil
		}
		first = cmp.Or(first, err)
		if ctx.Err() != nil {
			break
		}
	}
	return 0, fmt.Errorf("look up %s: %w", host, first)
}

// life is how long an answer may be relied on: as long as the shortest-lived of
// its records.
func life(answer *dns.Msg) time.Duration {
	ttl := forever
	for _, rr := range answer.Answer {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
	}
	for _, rr := range answer.Ns { // RFC 2308 section 5: how long there being none holds
		if soa, ok := rr.(*dns.SOA); ok && len(answer.Answer) == 0 {
			ttl = min(ttl, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	if ttl == forever {
		return negativeLife // RFC 2308 section 5: not to be kept
	}
	return ttl
}

var (
	errNoAddress = errors.New("the name exists and has no address")
	errNoName    = errors.New("not a domain name")
)

// both asks for addresses of both kinds at once; those of IPv6 come first. The
// error says why there are none.
func (r *Resolver) both(ctx context.Context, conf *dns.ClientConfig, name string, patience time.Duration) ([]netip.Addr, time.Duration, error) {
	var answer6 *dns.Msg
	var err6 error
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer6, err6 = r.one(ctx, conf, name, dns.TypeAAAA, patience)
	}()
	answer, err := r.one(ctx, conf, name, dns.TypeA, patience)
	<-done
	ttl := forever
	var addrs []netip.Addr
	for _, m := range []*dns.Msg{answer6, answer} {
		if m != nil {
			addrs, ttl = append(addrs, addresses(m)...), min(ttl, life(m))
		}
	}
	if len(addrs) > 0 {
		return addrs, ttl, nil
	}
	return nil, 0, cmp.Or(err, err6, errNoAddress)
}

// addresses returns those that an answer holds: servers follow aliases themselves
// and give all of the way.
func addresses(answer *dns.Msg) (addrs []netip.Addr) {
	for _, rr := range answer.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// one asks the servers in turn until one knows the name, or that there is none.
func (r *Resolver) one(ctx context.Context, conf *dns.ClientConfig, name string, kind uint16, patience time.Duration) (answer *dns.Msg, err error) {
	for range max(1, conf.Attempts) {
		for _, server := range conf.Servers {
			tctx, cancel := context.WithTimeout(ctx, patience)
			answer, err = ask(tctx, net.JoinHostPort(server, r.port), name, kind)
			cancel()
			var refused *refusal
			if err == nil || ctx.Err() != nil || errors.As(err, &refused) && refused.code == dns.RcodeNameError {
				return answer, err
			}
		}
	}
	return nil, err
}

// refusal is an answer of a server that is none.
type refusal struct {
	server, name string
	code         int // RFC 1035 section 4.1.1
}

func (e *refusal) Error() string {
	return fmt.Sprintf("%s: name server %s answers %s", e.name, e.server, cmp.Or(dns.RcodeToString[e.code], "an unknown code"))
}

func ask(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(name, kind).SetEdns0(udpSize, false)
	answer, err := exchange(ctx, "udp", server, question)
	if err == nil && answer.Truncated {
		answer, err = exchange(ctx, "tcp", server, question)
	}
	if err != nil {
		return nil, fmt.Errorf("ask name server %s: %w", server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return nil, &refusal{server, name, answer.Rcode}
	}
	return answer, nil
}

// exchange ends at ctx's end.
func exchange(ctx context.Context, network, server string, question *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{Net: network, UDPSize: udpSize}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	answer, _, err := client.ExchangeWithConnContext(ctx, question, conn)
	return answer, err
}
