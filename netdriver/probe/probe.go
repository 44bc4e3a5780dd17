// Package probe asks the gateways of the networks, and peers that an operator
// names, time and again whether they are there, and keeps how long they took to
// answer: by ARP or neighbour discovery on the network's wire, and by ICMP echo
// where the host has an address there.
//
// It stands above watch, by whose ports on the wires it asks: as a container of
// the network would, and without an address of anybody's. Echoes are the host's
// own, as its ping would send them, where its route to the target leads straight
// to the network's wire. What it knows it forgets with the process; the networks
// say what is to be asked.
package probe

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/watch"
)

const (
	// MinEvery is how often a target is asked at most.
	MinEvery = time.Second
	// MaxEvery is how often at least.
	MaxEvery = time.Hour

	// Most is how many targets there are at most; of 17 series each.
	Most = 1000

	timeout   = time.Second // after which a question is lost
	syncEvery = 5 * time.Second
)

// gaps are between two questions of a protocol, whatever wires they are on. With
// the ARP packets that watch sends, ten a second as a rule, and those of the kernel
// (see silent) they are no more than what switches with ARP inspection let through
// (15). Where there are more targets
// each round takes longer.
var gaps = map[Protocol]time.Duration{ARP: 250 * time.Millisecond, ND: 100 * time.Millisecond, ICMP: 100 * time.Millisecond, silent: 3 * time.Second}

// Protocol is how a target is asked.
type Protocol string

// The protocols.
const (
	ARP  Protocol = "arp"
	ND   Protocol = "nd"
	ICMP Protocol = "icmp" // echo, of either version
)

// silent is the pace of echoes to who does not answer on the wire. For each of them
// the kernel asks there, up to three times.
const silent Protocol = "silent"

// Wires asks on the wires of networks. It is a watch.Manager, which calls Heard.
type Wires interface {
	Ask(network string, a netip.Addr, to net.HardwareAddr) error
}

// Host is what this package asks of the kernel.
type Host interface {
	// LinkAddrs returns the addresses of all links, by their names.
	LinkAddrs() (map[string][]netip.Prefix, error)
	WayTo(to netip.Addr) (kernel.Way, error)
	Within(fn func() error) error
}

// Config is what a Manager works on. All fields are needed.
type Config struct {
	Every    time.Duration // how often each target is asked
	Networks interface{ List() []network.Definition }
	Wires    Wires
	Host     Host
	Log      *slog.Logger
}

// key is what a target is, whatever becomes of it.
type key struct {
	network  string
	addr     netip.Addr
	protocol Protocol
}

// target is what is asked.
type target struct {
	key
	links []string         // of echoes: those by which the wire is reached
	mac   net.HardwareAddr // whose answer came last; nil: everybody is asked

	next time.Time // when it is to be asked
	sent time.Time // when it was, and has not answered; zero: there is no such question
	seq  uint16    // of the echo
	last time.Duration

	stats Stats
}

// Manager asks. It is safe for concurrent use.
type Manager struct {
	cfg Config

	mu      sync.Mutex // guards all below; a leaf
	targets map[key]*target
	order   []*target // the same, in the order of their keys
	leftOut int
	slots   map[Protocol]time.Time // when the next question may be sent, at that pace
	seq     uint16                 // of the last echo
	echoes  [2]*echoes
	failed  string // what went wrong last, said once
}

// New returns a Manager that asks nothing before Run.
func New(c Config) *Manager {
	return &Manager{cfg: c, targets: map[key]*target{}, slots: map[Protocol]time.Time{}}
}

// Run asks until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	look := time.NewTicker(syncEvery)
	defer look.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	m.follow()
	for {
		due, wait := m.step(time.Now())
		if due != nil {
			m.ask(due)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return m.close()
		case <-look.C:
			m.follow()
		case <-timer.C:
		}
	}
}

// follow takes over which targets there are.
func (m *Manager) follow() {
	addrs, err := m.cfg.Host.LinkAddrs()
	if err != nil {
		m.say("look at the host's addresses", err)
		return
	}
	want := wanted(m.cfg.Networks.List(), addrs)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leftOut = max(0, len(want)-Most)
	want = want[:len(want)-m.leftOut]
	keep := map[key]bool{}
	changed, now := len(want) != len(m.targets), time.Now()
	for i, w := range want {
		keep[w.key] = true
		if t := m.targets[w.key]; t != nil {
			t.links = w.links
			continue
		}
		w.next = now.Add(m.cfg.Every * time.Duration(i) / time.Duration(len(want))) // evenly spread
		m.targets[w.key], changed = w, true
	}
	if !changed {
		return
	}
	maps.DeleteFunc(m.targets, func(k key, _ *target) bool { return !keep[k] })
	m.order = slices.SortedFunc(maps.Values(m.targets), func(a, b *target) int { return a.compare(b.key) })
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.network, o.network), k.addr.Compare(o.addr), cmp.Compare(k.protocol, o.protocol))
}

// wanted are the targets of all networks that are looked at, gateways first.
func wanted(networks []network.Definition, addrs map[string][]netip.Prefix) (all []*target) {
	own, seen := map[netip.Addr]bool{}, map[key]bool{}
	for _, l := range addrs {
		for _, p := range l {
			own[p.Addr()] = true
		}
	}
	var watched []*network.Definition
	for i := range networks {
		if watch.Watched(networks[i]) {
			watched = append(watched, &networks[i])
		}
	}
	slices.SortFunc(watched, func(a, b *network.Definition) int { return cmp.Compare(a.ID, b.ID) })
	for i, of := range []func(*network.Definition) []netip.Addr{gateways, peers} {
		for _, d := range watched {
			links := ways(d, i == 0)
			for _, a := range of(d) {
				k := key{d.ID, a, onWire(a)}
				if own[a] || seen[k] {
					continue // this host does not ask itself
				}
				seen[k] = true
				all = append(all, &target{key: k})
				if slices.ContainsFunc(links, func(l string) bool { return speaks(addrs[l], a) }) {
					all = append(all, &target{key: key{d.ID, a, ICMP}, links: links})
				}
			}
		}
	}
	return all
}

// onWire is how it is asked there who has an address.
func onWire(a netip.Addr) Protocol {
	if a.Is6() {
		return ND
	}
	return ARP
}

func gateways(d *network.Definition) (all []netip.Addr) {
	if d.Internal {
		return nil // it has an address that nobody has
	}
	for _, p := range d.Pools {
		if p.Gateway.IsValid() {
			all = append(all, p.Gateway)
		}
	}
	return all
}

func peers(d *network.Definition) []netip.Addr { return d.ProbePeers }

// ways are the links by which the host may reach a network's wire: the bridge; or
// its own port on a macvlan network, and the parent, by which it reaches gateways
// and not its own containers.
func ways(d *network.Definition, gateway bool) []string {
	switch {
	case d.Mode == network.Bridge:
		return []string{d.BridgeName}
	case gateway:
		return []string{kernel.HostPortName(d.ID), d.Parent}
	}
	return []string{kernel.HostPortName(d.ID)}
}

// speaks reports whether a link has an address of the family.
func speaks(addrs []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() && !p.Addr().IsLinkLocalUnicast() })
}

// step returns whom it is time to ask, counts who did not answer, and says how
// soon there is more to do.
func (m *Manager) step(now time.Time) (due *target, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait = syncEvery
	for _, t := range m.order {
		if !t.sent.IsZero() {
			if late := now.Sub(t.sent); late < timeout {
				wait = min(wait, timeout-late)
				continue
			}
			t.lost()
		}
		if early := max(t.next.Sub(now), m.slots[m.paceLocked(t)].Sub(now)); early > 0 {
			wait = min(wait, early)
		} else if due == nil || t.next.Before(due.next) {
			due = t
		}
	}
	if due == nil {
		return nil, wait
	}
	pace := m.paceLocked(due)
	m.slots[pace] = now.Add(gaps[pace])
	if due.next = due.next.Add(m.cfg.Every); due.next.Before(now) { // there are too many for that
		due.next = now
	}
	due.sent = now
	m.seq++
	due.seq = m.seq
	return due, 0
}

// paceLocked is what a target's questions are sent at the pace of.
func (m *Manager) paceLocked(t *target) Protocol {
	if t.protocol != ICMP {
		return t.protocol
	}
	if same := m.targets[key{t.network, t.addr, onWire(t.addr)}]; same == nil || same.mac == nil {
		return silent
	}
	return ICMP
}

// ask asks one target: its MAC, where that answered last, and everybody else. Who
// looks at the counts does not wait for it.
func (m *Manager) ask(t *target) {
	m.mu.Lock()
	t.sent = time.Now()
	to, seq, links := t.mac, t.seq, t.links
	m.mu.Unlock()
	var err error
	if t.protocol == ICMP {
		err = m.echo(t.addr, links, seq)
	} else {
		err = m.cfg.Wires.Ask(t.network, t.addr, to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, errElsewhere) { // it cannot be asked so
		t.sent = time.Time{}
		return
	}
	t.stats.Sent++
	if err != nil && !t.sent.IsZero() {
		t.lost()
	}
}

func (t *target) lost() {
	t.sent, t.mac, t.last = time.Time{}, nil, 0
	t.stats.Lost++
}

// Heard takes note of a claim that came by a network's wire.
func (m *Manager) Heard(network string, c neighbour.Claim) {
	if !c.Answer {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.targets[key{network, c.Addr, onWire(c.Addr)}]; t != nil && !t.sent.IsZero() {
		t.mac = c.MAC
		t.answered(now)
	}
}

func (t *target) answered(now time.Time) {
	rtt := now.Sub(t.sent)
	t.sent = time.Time{}
	if t.last > 0 {
		t.stats.Jitter += (rtt - t.last).Abs()
		t.stats.Jitters++
	}
	t.last = rtt
	t.stats.note(rtt, now)
}

// say says once what cannot be done.
func (m *Manager) say(what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sayLocked(what, err)
}

func (m *Manager) sayLocked(what string, err error) {
	if text := what + err.Error(); m.failed != text {
		m.failed = text
		m.cfg.Log.Warn("probes of gateways and peers: cannot "+what, "err", err)
	}
}

func (m *Manager) close() error {
	m.mu.Lock()
	all := m.echoes
	m.echoes = [2]*echoes{}
	m.mu.Unlock()
	var errs []error
	for _, e := range all {
		if e != nil {
			errs = append(errs, e.close())
		}
	}
	return errors.Join(errs...)
}
