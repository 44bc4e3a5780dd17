package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Config is what Run needs.
type Config struct {
	Known  Known
	HostNS string // a file that stands for the host's network namespace
	// Progress is told what is being done; nil: nobody is.
	Progress func(string)
}

// Within bounds a whole trace, whatever its context says.
const Within = 60 * time.Second

// elsewhereError says that A sends to B by another endpoint of A's.
type elsewhereError struct{ alias string }

func (e *elsewhereError) Error() string { return "A sends to B by its link " + e.alias }

// run is a trace under way.
type run struct {
	Config
	to     netip.Addr // B's
	from   netip.Addr // A's, of the same family
	host   *space
	a, b   *space // nil: not to be looked into; b is host where B is the host itself
	report *Report
}

// Run looks at everything between two ends and judges it. An error says that
// the trace itself could not be made.
func Run(ctx context.Context, c Config) (*Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Within, fmt.Errorf("it took longer than %v", Within))
	defer cancel()
	begun := time.Now()
	r := &run{Config: c, report: &Report{From: c.Known.From, To: c.Known.To, Nodes: map[string]*Node{}, Hops: []Hop{}, FDB: []Learned{}, ARP: []Asked{}, Drops: []Drop{}, Unseen: []string{}}}
	defer r.close()
	if err := r.ends(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.open, r.question, r.echo, r.size, r.look} {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("trace: %w", context.Cause(ctx))
		}
		if err != nil {
			return nil, err
		}
	}
	r.report.Took = time.Since(begun)
	r.report.Verdict = Judge(r.report)
	return r.report, nil
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(fmt.Sprintf(format, args...))
	}
}

func (r *run) unseen(format string, args ...any) {
	r.report.Unseen = append(r.report.Unseen, fmt.Sprintf(format, args...))
}

// ends chooses the addresses: one family for both.
func (r *run) ends() error {
	from, to := r.Known.From, r.Known.To
	if from.Endpoint == nil || from.Network == nil {
		return fmt.Errorf("%q is no endpoint of a dockline-net network on this host: a trace begins in a container of this host; name it by its address or its endpoint's id (docker inspect shows both)", from.Asked)
	}
	r.to = to.Addr
	if e := to.Endpoint; e != nil && to.Addr.Is4() && !from.Endpoint.IPv4.IsValid() && e.IPv6.IsValid() {
		r.to = e.IPv6.Addr()
	}
	own := from.Endpoint.IPv6
	if r.to.Is4() {
		own = from.Endpoint.IPv4
	}
	switch {
	case !r.to.IsValid():
		return fmt.Errorf("%q has no address", to.Asked)
	case r.to.IsMulticast() || r.to.IsUnspecified() || r.to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is no address of one machine", r.to)
	case r.to.IsLoopback() || r.to.IsLinkLocalUnicast():
		return fmt.Errorf("%s is another machine's wherever it is asked for (loopback, or link-local): name an address that routes lead to", r.to)
	case !own.IsValid():
		return fmt.Errorf("%s has no address of the family of %s", from.Asked, r.to)
	case own.Addr() == r.to:
		return fmt.Errorf("%s is A itself", r.to)
	}
	r.from, r.report.From.Addr, r.report.To.Addr = own.Addr(), own.Addr(), r.to
	return nil
}

func (r *run) open(context.Context) error {
	r.say("looking for the sandboxes")
	k, err := kernel.OpenAt(r.HostNS, "")
	if err != nil {
		return err
	}
	r.host = &space{node: Host, k: k}
	if r.a, err = r.sandbox(From, r.Known.From.Endpoint); err != nil {
		return err
	}
	if e := r.Known.To.Endpoint; e != nil {
		if r.b, err = r.sandbox(To, e); err != nil {
			return err
		}
	}
	if err := r.host.describe(r.to); err != nil {
		return err
	}
	if r.host.way != nil && r.host.way.Local && r.b == nil {
		r.b, r.report.ToHost, r.host.way = r.host, true, nil
		if err := r.host.describe(r.from); err != nil {
			return err
		}
	}
	if r.a != nil {
		if err := r.a.describe(r.to); err != nil {
			return err
		}
		if err := r.apart(); err != nil {
			return err
		}
	}
	if r.b != nil && r.b != r.host {
		return r.b.describe(r.from)
	}
	return nil
}

// apart refuses ends that are one, and A's endpoint if another of A's leads to B.
func (r *run) apart() error {
	if r.b != nil {
		a, err1 := r.a.k.ID()
		b, err2 := r.b.k.ID()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if a == b {
			return fmt.Errorf("%s and %s are one container: a trace needs two ends", r.Known.From.Asked, r.Known.To.Asked)
		}
	}
	way := r.a.way
	switch {
	case way == nil:
		return nil
	case way.Local && r.b == nil:
		return fmt.Errorf("%s is an address of A itself, by its link %s: a trace needs two ends", r.to, way.Link)
	case way.Local || r.Known.To.Network != nil && r.Known.To.Network.ID == r.Known.From.Network.ID:
		return nil // that it leads elsewhere is a fault
	}
	links, err := r.a.k.LinkStates()
	if err != nil {
		return err
	}
	if alias := links[way.Link].Alias; alias != r.Known.From.Endpoint.Alias && kernel.EndpointOf(alias) != "" {
		return &elsewhereError{alias}
	}
	return nil
}

// sandboxTries is how often a sandbox is looked for: the process that stood for
// it may end meanwhile.
const sandboxTries = 3

func (r *run) sandbox(node string, e *Endpoint) (*space, error) {
	for range sandboxTries {
		path, err := r.host.k.Sandbox(e.Alias)
		if err != nil {
			return nil, err
		}
		if path == "" {
			break
		}
		k, err := kernel.OpenAt(path, "")
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		return &space{node: node, path: path, k: k}, nil
	}
	r.unseen("%s: no namespace has its link", node)
	return nil, nil
}

func (r *run) close() {
	for _, s := range r.spaces() {
		s.k.Close()
	}
}

// spaces are all namespaces that are looked into, each once.
func (r *run) spaces() []*space {
	var all []*space
	for _, s := range []*space{r.a, r.host, r.b} {
		if s != nil && (s != r.host || len(all) == 0 || all[len(all)-1] != s) {
			all = append(all, s)
		}
	}
	return all
}

// question asks for B or the gateway to it, and for A's own address.
func (r *run) question(ctx context.Context) error {
	if r.a == nil {
		return nil
	}
	links, err := r.a.k.LinkStates()
	if err != nil {
		return err
	}
	own := byAlias(links, r.Known.From.Endpoint.Alias)
	link, ask := r.toAsk(links, own)
	if link.Name == "" || !link.Up {
		return nil
	}
	if err := r.a.turn(ctx); err != nil {
		return err
	}
	defer r.a.k.Unlock()
	var all sync.WaitGroup
	answers := make([]*Asked, 3) // each by its own goroutine
	for i, what := range []string{"B", "gateway", "A"} {
		addr, wanted := ask[what]
		if !wanted {
			continue
		}
		by := link
		if what == "A" {
			by = own
		}
		r.say("asking on %s of A who has %s", by.Name, addr)
		all.Go(func() {
			a := r.a.askFor(ctx, by, what, addr)
			answers[i] = &a
		})
	}
	all.Wait()
	for _, a := range answers {
		if a != nil {
			r.report.ARP = append(r.report.ARP, *a)
		}
	}
	return nil
}

// toAsk are the addresses to be asked for, by what they are, and the link to ask by.
func (r *run) toAsk(links map[string]kernel.LinkState, own kernel.LinkState) (link kernel.LinkState, ask map[string]netip.Addr) {
	link, ask = own, map[string]netip.Addr{From: r.from}
	w := r.a.way
	switch {
	case w != nil && w.Local:
	case w != nil && w.Via.IsValid():
		ask["gateway"] = w.Via
		link = links[w.Link]
	case w != nil:
		ask["B"] = r.to
		link = links[w.Link]
	case r.onLink(own):
		ask["B"] = r.to
	}
	if via := r.gateway(); via.IsValid() && via != r.to && ask["gateway"] == (netip.Addr{}) {
		ask["gateway"] = via
	}
	return link, ask
}

func byAlias(links map[string]kernel.LinkState, alias string) kernel.LinkState {
	for _, l := range links {
		if l.Alias == alias {
			return l
		}
	}
	return kernel.LinkState{}
}

// onLink reports whether B is in a subnet of A's link.
func (r *run) onLink(l kernel.LinkState) bool {
	for _, p := range l.Addrs {
		if p.Contains(r.to) {
			return true
		}
	}
	return false
}

// gateway is A's default one. The address is one of documentation's (RFC 5737,
// RFC 3849), for the table to be looked up with; nothing is sent there.
func (r *run) gateway() netip.Addr {
	beyond := netip.MustParseAddr("198.51.100.1")
	if r.to.Is6() {
		beyond = netip.MustParseAddr("2001:db8::1")
	}
	w, err := r.a.k.WayTo(beyond)
	if err != nil {
		return netip.Addr{}
	}
	return w.Via
}

func (r *run) sample(into func(*space) *sample) error {
	for _, s := range r.spaces() {
		got, err := s.sample()
		if err != nil {
			return fmt.Errorf("look at %s: %w", s.node, err)
		}
		*into(s) = got
	}
	return nil
}

func (r *run) echo(ctx context.Context) error {
	if err := r.sample(func(s *space) *sample { return &s.before }); err != nil {
		return err
	}
	var err error
	if r.a != nil {
		r.say("sending %d echoes from A to %s", echoes, r.to)
		r.report.Ping, err = r.a.ping(ctx, r.to)
	}
	return errors.Join(err, r.sample(func(s *space) *sample { return &s.after }))
}

func (r *run) size(ctx context.Context) error {
	p := r.report.Ping
	if r.a == nil || r.a.way == nil || r.a.way.Local || p.Sent == 0 {
		return nil
	}
	link := r.a.after.links[r.a.way.Link].MTU
	r.report.MTU.Link = link
	if p.Received < p.Sent || link == 0 {
		return nil
	}
	r.say("probing the MTU of the path")
	m, err := r.a.pathMTU(ctx, r.to, link, p.Max)
	r.report.MTU = m
	return err
}

// look writes down what there is, after the echoes.
func (r *run) look(context.Context) error {
	r.say("looking at links, routes, neighbours and firewalls")
	for _, s := range r.spaces() {
		to := r.to
		if s == r.b {
			to = r.from
		}
		n, err := s.report(to, r.from, r.to)
		if err != nil {
			return fmt.Errorf("look at %s: %w", s.node, err)
		}
		r.report.Nodes[s.node] = n
		r.drops(s)
		if err := cmp.Or(s.before.blind, s.after.blind); err != nil {
			r.unseen("the firewall of %s: %v", name(s.node), err)
		}
	}
	r.hops()
	r.whose()
	return r.learned()
}

// whose says which of those that answered are links that are looked into: a
// container or host with several links on one wire answers by all of them.
func (r *run) whose() {
	of := map[string]string{}
	for _, s := range r.spaces() {
		for _, l := range s.after.links {
			of[l.MAC.String()] = s.node
		}
	}
	for _, a := range r.report.ARP {
		for i := range a.Answers {
			a.Answers[i].Node = of[a.Answers[i].MAC]
		}
	}
}

// drops are the rules that ended packets, and those that cannot say whether
// they did.
func (r *run) drops(s *space) {
	hit := kernel.DropsSince(s.before.drops, s.after.drops, s.before.blind == nil)
	for _, d := range s.after.drops {
		if !d.Counted {
			hit = append(hit, d)
		}
	}
	for _, d := range hit {
		r.report.Drops = append(r.report.Drops, Drop{
			Node: s.node, Family: d.Family, Table: d.Table, Chain: d.Chain, Hook: d.Hook, Handle: d.Handle,
			Verdict: d.Verdict, Comment: d.Comment, Counted: d.Counted, Packets: d.Packets, Legacy: d.Legacy,
		})
	}
}

// learned is where the bridges have both ends.
func (r *run) learned() error {
	macs := map[string]string{From: r.Known.From.Endpoint.MAC}
	if e := r.Known.To.Endpoint; e != nil {
		macs[To] = e.MAC
	} else if a := r.report.asked("B"); a != nil && len(a.Answers) > 0 {
		macs[To] = a.Answers[0].MAC
	}
	names := map[int]string{}
	for name, l := range r.host.after.links {
		names[l.Index] = name
	}
	for _, of := range []string{From, To} {
		mac, err := net.ParseMAC(macs[of])
		if err != nil {
			continue // it is not known
		}
		found, err := r.host.k.Forwardings(mac)
		if err != nil {
			return err
		}
		for _, f := range found {
			r.report.FDB = append(r.report.FDB, Learned{Of: of, MAC: f.MAC.String(), Bridge: names[f.Bridge], Port: names[f.Port], Told: f.Own})
		}
	}
	return nil
}
