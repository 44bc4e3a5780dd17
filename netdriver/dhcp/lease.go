package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// State is where a lease is in its life; see the package's comment.
type State string

// The states that are stored.
const (
	Bound State = "bound"
	Idle  State = "idle"
	Lost  State = "lost"
)

// Pool is where a lease's wire is.
type Pool struct {
	ID     string
	Prefix netip.Prefix
	Parent string // what the user named as the wire; "": that of the network on the pool
}

// Lease is one as it is stored.
type Lease struct {
	Pool     Pool
	Addr     netip.Addr
	Key      string `json:",omitempty"` // its owner's; "": made up, it goes from one to the next
	MAC      net.HardwareAddr
	ClientID []byte
	HostName string `json:",omitempty"`
	State    State
	Since    time.Time // of the state
	Why      string    `json:",omitempty"` // it is lost
	Boot     string    // the host's, in which an endpoint had it last
	Terms
}

func (l *Lease) client() client { return client{MAC: l.MAC, ID: l.ClientID, HostName: l.HostName} }

func (l *Lease) key() string { return l.Pool.ID + " " + l.Addr.String() }

// lease is one at work. Its keeper is the only one to change it while there is
// nobody else who has its turn.
type lease struct {
	Lease // guarded by Manager.mu

	wire *wire
	turn chan struct{} // holds a token while nobody speaks for the lease
	wake chan struct{} // has the keeper look again
	gone bool          // guarded by Manager.mu
	busy bool          // somebody is about to go on with it; guarded by Manager.mu

	abort context.CancelFunc // ends what the keeper is at; guarded by Manager.mu
	next  time.Time          // when the keeper tries again; zero: as the terms say; guarded by Manager.mu
	tries int                // since the server last answered; guarded by Manager.mu
	met   time.Time          // when it was claimed, or last seen with an endpoint; guarded by Manager.mu
}

func newLease(l Lease, w *wire) *lease {
	n := &lease{Lease: l, wire: w, turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), met: time.Now()}
	n.turn <- struct{}{}
	return n
}

func (l *lease) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // it is going to look
	}
}

// take takes a lease's turn, from its keeper if need be.
func (m *Manager) take(ctx context.Context, l *lease) (end func(), err error) {
	for {
		m.mu.Lock()
		if l.abort != nil {
			l.abort()
		}
		m.mu.Unlock()
		select {
		case <-l.turn:
			return func() { l.turn <- struct{}{}; l.poke() }, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another call about the lease of %s: %w", l.Addr, context.Cause(ctx))
		}
	}
}

// keep does what a lease needs, when it needs it, until it is gone.
func (m *Manager) keep(ctx context.Context, l *lease) {
	if _, err := l.wire.open(); err != nil { // what others say is to be heard
		m.cfg.Log.Debug("the wire of a lease is not there yet", "address", l.Addr, "err", err)
	}
	for {
		m.mu.Lock()
		gone, at := l.gone, m.dueLocked(l)
		m.mu.Unlock()
		if gone {
			return
		}
		timer := time.NewTimer(time.Until(at))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.wake:
			timer.Stop()
			continue
		case <-timer.C:
		}
		m.act(ctx, l)
	}
}

// dueLocked is when the keeper has to act next.
func (m *Manager) dueLocked(l *lease) time.Time {
	switch {
	case l.State == Idle:
		keep := keepKnown
		if l.Key == "" {
			keep = keepUnknown
		}
		return earlier(l.Since.Add(keep), l.Expires())
	case !l.next.IsZero():
		return l.next
	case l.State == Bound:
		return l.Obtained.Add(l.Renew)
	}
	return l.Since
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// act is one step of the keeper's. What has the turn meanwhile has it look again.
func (m *Manager) act(ctx context.Context, l *lease) {
	select {
	case <-l.turn:
	default:
		select { // whoever has it pokes
		case <-l.wake:
		case <-ctx.Done():
		}
		return
	}
	defer func() { l.turn <- struct{}{} }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if l.gone || time.Now().Before(m.dueLocked(l)) {
		m.mu.Unlock()
		return
	}
	l.abort = cancel
	now := l.Lease
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		l.abort = nil
		m.mu.Unlock()
	}()
	switch {
	case now.State == Idle && m.answers(now):
		m.cfg.Log.Info("an idle lease's address is in use: it is left to whom has it", "address", now.Addr)
		m.drop(l)
	case now.State == Idle:
		m.giveBack(l, "nobody came back for it")
	case now.State == Bound && !time.Now().Before(now.Expires()):
		m.lose(l, fmt.Sprintf("it ended at %s, and no server had renewed it", now.Expires().Format(time.RFC3339)))
	case now.State == Bound:
		m.renew(ctx, l, now)
	default:
		m.regain(ctx, l, now)
	}
}

const (
	// answerWithin is how long a server has to answer a renewal.
	answerWithin = 5 * time.Second
	// Of what is left until the next state half is waited after a renewal that
	// nobody answered, and not less than a minute (RFC 2131, 4.4.5) or, of short
	// leases, a sixteenth.
	retryLeast = time.Minute
	retryPart  = 16
	// regainFirst and regainMost are how often a server is asked for what was
	// lost.
	regainFirst = 5 * time.Second
	regainMost  = time.Minute
)

// renew asks for more time: the server that leased, from T1 on, and everybody,
// from T2 on. A server behind another container of this host answers where
// nobody else hears it; so where nobody answered who is asked for more, it is
// asked as by a client that starts: that answer comes as a broadcast.
func (m *Manager) renew(ctx context.Context, l *lease, now Lease) {
	until := now.Obtained.Add(now.Rebind)
	rebind := !time.Now().Before(until) || len(now.ServerMAC) == 0
	k := kind{owned: true, server: now.Server, via: now.ServerMAC}
	if rebind {
		k.server, k.via = netip.Addr{}, nil
		until = now.Expires()
	}
	pause := max(time.Until(until)/2, min(retryLeast, now.Lasts/retryPart))
	next := time.Now().Add(pause)
	within := min(answerWithin, pause/2)
	addr, terms, err := l.wire.request(ctx, now.client(), now.Addr, k, []time.Duration{within})
	if rebind && errors.Is(err, errSilence) {
		addr, terms, err = l.wire.request(ctx, now.client(), now.Addr, kind{}, []time.Duration{within})
	}
	m.answered(ctx, l, addr, terms, err, next, until)
}

// answered takes note of what came of a renewal.
func (m *Manager) answered(ctx context.Context, l *lease, addr netip.Addr, t Terms, err error, next, until time.Time) {
	no, isNo := asRefused(err)
	switch {
	case err == nil && addr == l.Addr && l.Pool.Prefix.Contains(addr):
		m.renewed(l, t)
	case ctx.Err() != nil: // somebody else takes over
	case err == nil:
		m.lose(l, fmt.Sprintf("DHCP server %s leases %s to its client instead", t.Server, addr))
	case isNo:
		m.Stats.Refused.Add(1)
		m.lose(l, no.Error())
	default:
		m.mu.Lock()
		defer m.mu.Unlock()
		l.tries++
		l.next = earlier(next, until)
		m.cfg.Log.Debug("a lease is not renewed yet", "address", l.Addr, "server", l.Server, "ends", l.Expires(), "err", err)
	}
}

// regain asks for what was lost, as a client that starts does, and of a server
// that refuses as one that knows nothing; what it offers instead is left alone.
func (m *Manager) regain(ctx context.Context, l *lease, now Lease) {
	if len(now.MAC) == 0 {
		now.MAC = m.holder(now.Addr).MAC
	}
	addr, terms, err := l.wire.request(ctx, now.client(), now.Addr, kind{}, []time.Duration{answerWithin})
	if isRefused(err) {
		addr, terms, err = l.wire.discover(ctx, now.client(), now.Addr, []time.Duration{answerWithin}, func(a netip.Addr, _ Terms) error {
			if a != now.Addr {
				return fmt.Errorf("it offers %s", a)
			}
			return nil
		})
		if err == nil {
			addr, terms, err = l.wire.request(ctx, now.client(), addr, kind{selecting: true, server: terms.Server}, []time.Duration{answerWithin})
		}
	}
	switch {
	case err == nil && addr == now.Addr:
		m.renewed(l, terms)
		return
	case ctx.Err() != nil:
		return
	case err == nil:
		_ = l.wire.release(now.client(), addr, terms) // of no use to a container that runs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	wait := min(regainFirst<<min(l.tries, 8), regainMost)
	l.tries++
	l.next = time.Now().Add(wait + jitter(wait/4))
}

// renewed takes the new terms of a lease.
func (m *Manager) renewed(l *lease, t Terms) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := l.Lease
	l.Terms, l.next, l.tries = t, fuzzed(t), 0
	if l.State == Lost {
		l.State, l.Since, l.Why = Bound, time.Now(), ""
		if len(l.MAC) == 0 {
			l.MAC = m.holder(l.Addr).MAC
		}
	}
	m.Stats.Renewed.Add(1)
	m.storeLocked(l)
	log := m.cfg.Log.With("address", l.Addr, "server", t.Server, "lasts", t.Lasts)
	switch {
	case was.State == Lost:
		log.Info("a lease that was lost is back", "since", was.Since, "why", was.Why)
	case was.Server != t.Server:
		m.Stats.Moved.Add(1)
		log.Info("another DHCP server has taken over a lease", "was", was.Server)
	default:
		log.Debug("a lease is renewed")
	}
}

// fuzzed is when a lease is renewed: a little before T1, so that leases of one
// moment are not renewed in one moment (RFC 2131, 4.4.5).
func fuzzed(t Terms) time.Time {
	return t.Obtained.Add(t.Renew - t.Renew/40 + jitter(t.Renew/20))
}

// lose raises the alarm.
func (m *Manager) lose(l *lease, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.gone || l.State != Bound {
		return
	}
	l.State, l.Since, l.Why, l.next, l.tries = Lost, time.Now(), why, time.Time{}, 0
	m.Stats.Lost.Add(1)
	m.storeLocked(l)
	m.cfg.Log.Warn("the DHCP lease of a running container is lost, and its address cannot be changed: it keeps it, and the server is asked for it again and again; "+
		"see that the server leases the address to this MAC (or reserves it for it), or restart the container to get another one",
		"address", l.Addr, "mac", l.MAC.String(), "host_name", l.HostName, "pool", l.Pool.Prefix, "why", why)
}

// giveBack ends a lease. One that ended by itself is the server's anyway.
func (m *Manager) giveBack(l *lease, why string) {
	m.mu.Lock()
	now, gone := l.Lease, l.gone
	m.mu.Unlock()
	if gone {
		return
	}
	if time.Now().Before(now.Expires()) && now.Server.IsValid() && len(now.MAC) > 0 && now.State != Lost {
		if err := l.wire.release(now.client(), now.Addr, now.Terms); err != nil {
			m.cfg.Log.Warn("an address could not be given back; its server has it free when the lease ends", "address", now.Addr, "ends", now.Expires(), "err", err)
		}
		m.Stats.Released.Add(1)
	}
	m.cfg.Log.Debug("a lease is given back", "address", now.Addr, "why", why)
	m.drop(l)
}
