package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/dockline/dockline/netdriver/ipam"
)

const (
	// claimWithin bounds a start: the engine itself waits for 30 s.
	claimWithin = 18 * time.Second
	// rounds is how often it is begun anew, after a NAK or because another
	// machine had the address.
	rounds = 3
)

// errShort is errSilence of a start that did not wait as long as it may.
var errShort = fmt.Errorf("%w soon enough", errSilence)

// owner is for whom an address is leased.
type owner struct {
	key  string
	mac  net.HardwareAddr
	host string // its host name
}

// lease gets an address for an owner, a certain one where that is valid.
func (m *Manager) lease(ctx context.Context, p Pool, o owner, addr netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, claimWithin, errSilence)
	defer cancel()
	begin := time.Now()
	got, err := m.resumeOrAsk(ctx, p, o, addr)
	if errors.Is(err, errSilence) {
		m.Stats.Silent.Add(1)
		short := ""
		if errors.Is(err, errShort) {
			short = " (nor when the container before this one started, so that it was not waited for long)"
		}
		return netip.Addr{}, fmt.Errorf("no DHCP server answered on %s within %s%s: see that one serves the LAN there, that it leases to unknown clients or knows the MAC %s, and that it has addresses left",
			m.place(p), time.Since(begin).Round(100*time.Millisecond), short, o.mac)
	}
	return got, err
}

// place is what an error calls the wire.
func (m *Manager) place(p Pool) string {
	if p.Parent != "" {
		return p.Parent
	}
	links, err := m.cfg.Host.Links(p)
	switch {
	case err != nil:
		return "the network's wire"
	case len(links.In) > 0:
		return links.In[0].Name
	}
	return links.Out.Name
}

func (m *Manager) resumeOrAsk(ctx context.Context, p Pool, o owner, addr netip.Addr) (netip.Addr, error) {
	l, own, err := m.choose(p, o, addr)
	if err != nil {
		return netip.Addr{}, err
	}
	hint := addr
	if l != nil {
		defer m.unchoose(l)
		end, err := m.take(ctx, l)
		if err != nil {
			return netip.Addr{}, err
		}
		defer end()
		if own {
			if got, done := m.resume(ctx, l, o, addr); done {
				return got, nil
			}
		}
		if !hint.IsValid() {
			hint = l.Addr
		}
		m.giveBack(l, "another container starts, or the same with another address")
	}
	return m.fresh(ctx, p, o, addr, hint)
}

// choose finds the lease that an owner may go on with: his own, or where none is,
// of those of owners that nothing is known of, the one that was left last, whose
// address he asks for: that is what a restarted container looks like, to whom the
// engine has given another MAC. An idle lease of the very address that is wanted
// goes back to its server as well.
func (m *Manager) choose(p Pool, o owner, addr netip.Addr) (l *lease, own bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var mine, left *lease
	for _, l := range m.leases {
		if l.Pool.ID != p.ID || l.busy || l.gone {
			continue
		}
		switch {
		case bytes.Equal(l.MAC, o.mac) || o.key != "" && l.Key == o.key:
			mine = l
		case l.State == Idle && addr.IsValid() && l.Addr == addr:
			left = l
		case l.State == Idle && !addr.IsValid() && o.key == "" && l.Key == "" && (left == nil || l.Since.After(left.Since)):
			left = l
		}
	}
	if mine != nil {
		if _, held := m.cfg.Endpoints()[mine.Addr]; held && mine.State != Idle {
			return nil, false, fmt.Errorf("address %s is leased to MAC %s, which a container on this host has: give this one another --mac-address or name", mine.Addr, mine.MAC)
		}
		left = mine
	}
	if left != nil {
		left.busy = true
	}
	return left, mine != nil, nil
}

func (m *Manager) unchoose(l *lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.busy = false
}

// resume goes on with a lease, as a client that starts again does (RFC 2131,
// 4.3.2, INIT-REBOOT). Where no server answers it is good for as long as it
// lasts (RFC 2131, 3.2). It fails where there is no such lease any more.
func (m *Manager) resume(ctx context.Context, l *lease, o owner, addr netip.Addr) (netip.Addr, bool) {
	m.mu.Lock()
	now := l.Lease
	m.mu.Unlock()
	if addr.IsValid() && addr != now.Addr || o.key != "" && o.key != now.Key && o.key != o.mac.String() {
		return netip.Addr{}, false
	}
	if now.State == Bound && bytes.Equal(now.MAC, o.mac) {
		return now.Addr, true // the answer to an earlier call was lost
	}
	if bytes.Equal(now.MAC, o.mac) && now.Key == "" {
		now.Key = o.mac.String() // it is the user's: the engine makes up another one each time
	}
	now.MAC = o.mac
	if o.host != "" {
		now.HostName = o.host
	}
	waits, _ := l.wire.patience(pauses(knownPause, knownTries))
	got, terms, err := l.wire.request(ctx, now.client(), now.Addr, kind{}, waits)
	l.wire.waited(err)
	switch {
	case err == nil && got == now.Addr && m.fits(now.Pool, now.Addr)(got, terms) == nil:
		now.Terms = terms
	case err == nil:
		_ = l.wire.release(now.client(), got, terms)
		m.drop(l)
		return netip.Addr{}, false
	case !isRefused(err) && time.Now().Before(now.Expires()):
		m.cfg.Log.Warn("no DHCP server could be asked; a container goes on with the lease that it had", "address", now.Addr, "mac", now.MAC.String(), "ends", now.Expires(), "err", err)
	default:
		m.drop(l)
		return netip.Addr{}, false
	}
	if m.foreign(l.wire, now) {
		m.drop(l)
		return netip.Addr{}, false
	}
	m.Stats.Resumed.Add(1)
	m.bind(l, now)
	return now.Addr, true
}

// bind makes a lease that of a container. The lease's turn is the caller's.
func (m *Manager) bind(l *lease, now Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now.State, now.Since, now.Why, now.Boot = Bound, time.Now(), "", m.cfg.Boot
	l.Lease, l.next, l.tries, l.met = now, fuzzed(now.Terms), 0, time.Now()
	m.storeLocked(l)
}

// fresh gets a lease from whichever server offers one.
// A certain address is asked for where hint is valid, and no other one taken
// where addr is.
func (m *Manager) fresh(ctx context.Context, p Pool, o owner, addr, hint netip.Addr) (netip.Addr, error) {
	m.mu.Lock()
	w := m.wireLocked(p)
	m.mu.Unlock()
	n := Lease{Pool: p, Key: o.key, MAC: o.mac, ClientID: clientID(m.cfg.Instance, o), HostName: o.host}
	var err error
	for range rounds {
		waits, patient := w.patience(pauses(firstPause, askTries))
		n.Addr, n.Terms, err = w.discover(ctx, n.client(), hint, waits, m.fits(p, addr))
		w.waited(err)
		if errors.Is(err, errSilence) && !patient {
			err = errShort
		}
		if err != nil {
			return netip.Addr{}, err
		}
		offered := n.Server
		n.Addr, n.Terms, err = w.request(ctx, n.client(), n.Addr, kind{selecting: true, server: offered}, pauses(firstPause, askTries-1))
		if isRefused(err) {
			m.Stats.Refused.Add(1)
			continue
		} else if err != nil {
			return netip.Addr{}, err
		}
		if err = m.fits(p, addr)(n.Addr, n.Terms); err != nil {
			_ = w.release(n.client(), n.Addr, n.Terms)
			continue
		}
		if m.foreign(w, n) {
			err = fmt.Errorf("address %s of DHCP server %s is another machine's on the wire: see who has it, and take it out of the server's range", n.Addr, offered)
			continue
		}
		return n.Addr, m.add(n, w)
	}
	return netip.Addr{}, err
}

// add keeps a new lease. One of the same address that was idle has ended: the
// server has given the address to another client of ours.
func (m *Manager) add(n Lease, w *wire) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.leases[n.key()]; old != nil {
		old.gone = true
		old.poke()
	}
	l := newLease(n, w)
	l.State, l.Since, l.Boot, l.next = Bound, time.Now(), m.cfg.Boot, fuzzed(n.Terms)
	if err := m.cfg.Leases.Put(l.key(), l.Lease); err != nil {
		_ = w.release(n.client(), n.Addr, n.Terms)
		return fmt.Errorf("write down the lease of %s: %w", n.Addr, err)
	}
	m.Stats.Leased.Add(1)
	m.addLocked(l)
	return nil
}

// fits says why a server's offer is of no use for a pool.
func (m *Manager) fits(p Pool, addr netip.Addr) fits {
	return func(a netip.Addr, t Terms) error {
		switch {
		case t.Prefix.IsValid() && t.Prefix != p.Prefix:
			return fmt.Errorf("it leases out of %s, and the network's subnet is %s: make the network with --subnet %s, or without --subnet", t.Prefix, p.Prefix, t.Prefix)
		case !p.Prefix.Contains(a):
			return fmt.Errorf("it leases %s, which is not in the network's subnet %s", a, p.Prefix)
		case addr.IsValid() && a != addr:
			return fmt.Errorf("it offers %s instead of %s: that one is leased to somebody else or outside of what it gives away; reserve it there for this MAC, or leave out --ip", a, addr)
		}
		return nil
	}
}

// foreign reports whether another machine has an address that was leased just
// now, and tells the server (RFC 2131, 4.4.1). A container of ours that keeps an
// address which it lost is such a machine.
func (m *Manager) foreign(w *wire, n Lease) bool {
	who := m.holder(n.Addr).MAC
	if len(who) == 0 || bytes.Equal(who, n.MAC) {
		who = m.onWire(n)
	}
	if len(who) == 0 {
		return false
	}
	m.Stats.Declined.Add(1)
	m.cfg.Log.Warn("a leased address is another machine's on the wire; the server is told (DECLINE)", "address", n.Addr, "server", n.Server, "held_by", who.String())
	if err := w.decline(n.client(), n.Addr, n.Terms); err != nil {
		m.cfg.Log.Warn("the server could not be told", "server", n.Server, "err", err)
	}
	return true
}

// onWire returns the MAC of another machine that has a lease's address.
func (m *Manager) onWire(n Lease) net.HardwareAddr {
	if f := m.ask(n); f.Known == ipam.Used && !bytes.Equal(f.MAC, n.MAC) {
		return f.MAC
	}
	return nil
}

// answers reports whether anybody has an idle lease's address.
func (m *Manager) answers(n Lease) bool { return m.ask(n).Known == ipam.Used }

func (m *Manager) ask(n Lease) ipam.Finding {
	if m.cfg.Neighbours == nil {
		return ipam.Finding{}
	}
	f := m.cfg.Neighbours.Look(n.Pool.Prefix, n.Addr)
	if f.Known == ipam.Unknown || f.Known == ipam.Used {
		m.cfg.Neighbours.Probe(n.Pool.Prefix, n.Addr)
		f = m.cfg.Neighbours.Look(n.Pool.Prefix, n.Addr)
	}
	return f
}

// confirm takes the engine's word for an address that a container has since
// before. Its lease is looked after in the background.
func (m *Manager) confirm(p Pool, o owner, addr netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		if l.Pool.ID != p.ID || l.Addr != addr {
			continue
		}
		l.met = time.Now()
		if l.State == Idle {
			l.State, l.Since, l.Boot, l.next = Bound, time.Now(), m.cfg.Boot, time.Now()
			m.storeLocked(l)
			l.poke()
		}
		return
	}
	l := newLease(Lease{Pool: p, Addr: addr, Key: o.key, MAC: o.mac, ClientID: clientID(m.cfg.Instance, o), HostName: o.host,
		State: Lost, Since: time.Now(), Why: "the engine knows the address, and no lease of it is written down", Boot: m.cfg.Boot}, m.wireLocked(p))
	m.storeLocked(l)
	m.addLocked(l)
}
