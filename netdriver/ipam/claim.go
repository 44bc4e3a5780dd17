package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// claimMost bounds how long a request waits for its backend, whatever that
	// bounds itself: the engine gives up after 30 s.
	claimMost = 20 * time.Second
	// claimTries is how often other candidates are looked for after those of a
	// claim turned out to be taken.
	claimTries = 16
	// afterAway is how long a request goes on that found out that nobody can be
	// asked: what can be given all the same is given at once.
	afterAway = 200 * time.Millisecond
)

// step is what comes next in answering a request; one of its fields is set, or
// else given is the answer.
type step struct {
	given netip.Prefix
	ask   question        // on the wire
	claim *claim          // of the backend
	wait  <-chan struct{} // for another request or release
}

// claim is a Claim under way; its candidates are busy.
type claim struct {
	Claim
	pool    *pool
	gateway bool
	named   bool // by the engine
}

// RequestAddress gives out an address, with the pool's prefix length. Where
// nothing is known yet of who has the address on the wire, it waits for that,
// and for the pool's backend.
func (m *Manager) RequestAddress(id string, r AddressRequest) (netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(context.Background(), claimMost)
	defer cancel()
	var limit *time.Timer
	for probes, refusals := 0, 0; ; {
		s, err := m.next(id, r, probes)
		m.settle(ctx)
		switch {
		case err != nil:
			return netip.Prefix{}, err
		case len(s.ask.addrs) > 0:
			m.cfg.Wire.Probe(s.ask.pool, s.ask.addrs...)
			probes++
		case s.wait != nil:
			if err := await(ctx, s.wait); err != nil {
				return netip.Prefix{}, err
			}
		case s.claim != nil:
			got, err := m.claim(ctx, s.claim)
			away := errors.Is(err, ErrAway)
			if away && limit == nil {
				limit = time.AfterFunc(afterAway, cancel)
				defer limit.Stop()
			}
			again := errors.Is(err, ErrTaken) && !r.Addr.IsValid() || away && ctx.Err() == nil
			if refusals++; !again || refusals > claimTries {
				return got, err
			}
		default:
			return s.given, nil
		}
	}
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another request: %w", ctx.Err())
	}
}

// claimLocked makes the candidates busy.
func (m *Manager) claimLocked(p *pool, r AddressRequest, o Owner, replay bool, candidates ...netip.Addr) step {
	for _, a := range candidates {
		p.busy[a] = Held{Addr: a, Kind: o.Kind, Key: o.Key, Busy: true}
	}
	return step{claim: &claim{Claim: Claim{Owner: o, Candidates: candidates, Replay: replay}, pool: p, gateway: r.Gateway}}
}

// claim asks the backend and writes down what it gave.
func (m *Manager) claim(ctx context.Context, c *claim) (netip.Prefix, error) {
	b := m.backend(c.pool.Backend)
	addr, err := b.Claim(ctx, c.pool.Pool, c.Claim)
	m.mu.Lock()
	for _, a := range c.Candidates {
		delete(c.pool.busy, a)
	}
	m.changedLocked()
	if err != nil {
		m.mu.Unlock()
		return netip.Prefix{}, err
	}
	got, err := m.giveLocked(c, addr)
	if err != nil {
		m.dueLocked(c.pool, Held{Addr: addr, Kind: c.Kind, Key: c.Key})
	}
	m.mu.Unlock()
	m.settle(ctx)
	return got, err
}

func (m *Manager) giveLocked(c *claim, addr netip.Addr) (netip.Prefix, error) {
	p := c.pool
	if m.pools[p.ID] != p {
		return netip.Prefix{}, fmt.Errorf("pool %q was released meanwhile: %w", p.ID, ErrNoPool)
	}
	if len(c.Candidates) == 0 { // the backend chose
		if err := m.checkChosen(p, addr); err != nil {
			return netip.Prefix{}, fmt.Errorf("backend %s gave an address that cannot be used: %w", p.Backend, err)
		}
	}
	g := &given{
		Given:     Given{Pool: p.ID, Addr: addr, Gateway: c.gateway, Kind: c.Kind, Key: c.Key},
		confirmed: m.epoch.number, idle: m.cfg.Now(),
	}
	if err := m.putAddressLocked(g); err != nil {
		return netip.Prefix{}, err
	}
	p.given[addr] = g
	m.usedLocked(p, addr, c.Key)
	if c.Key == "" && !c.gateway && len(c.Candidates) > 0 && !c.named {
		p.cursor = addr
	}
	if m.cfg.Wire != nil {
		m.cfg.Wire.Taken(p.Prefix, addr)
	}
	return netip.PrefixFrom(addr, p.Prefix.Bits()), nil
}

// checkChosen refuses an address of a backend's choice that somebody has of whom
// the backend does not know. One that was given and that no endpoint has is the
// claim's own: the answer to an earlier try was lost.
func (m *Manager) checkChosen(p *pool, a netip.Addr) error {
	if err := p.check(a); err != nil {
		return err
	}
	_, busy := p.busy[a]
	_, held := m.cfg.Endpoints()[a]
	if g := p.given[a]; busy || g != nil && (g.Gateway || held) {
		return fmt.Errorf("address %s: %w", a, ErrInUse)
	}
	return errors.Join(m.checkOurs(a), m.checkHost(a))
}

// due is what a backend has to be told, once the mutex is free.
type due struct {
	pool *pool
	Held
	leave bool
}

// dueLocked has an address given back to its backend. Nobody gets it before.
func (m *Manager) dueLocked(p *pool, h Held) {
	h.Busy = true
	p.busy[h.Addr] = h
	m.due = append(m.due, due{pool: p, Held: h})
}

// settle tells backends what is due. It is called without the mutex by everybody
// who may have made something due.
func (m *Manager) settle(ctx context.Context) {
	m.mu.Lock()
	all := m.due
	m.due = nil
	m.mu.Unlock()
	for _, d := range all {
		b := m.backend(d.pool.Backend)
		var err error
		if d.leave {
			err = b.Leave(ctx, d.pool.Pool)
		} else {
			err = b.Release(ctx, d.pool.Pool, d.Held)
		}
		if err != nil {
			m.cfg.Log.Warn("an address or pool is free here, and in the cluster later", "pool", d.pool.ID, "address", d.Addr, "err", err)
		}
		m.mu.Lock()
		if d.leave {
			delete(m.leaving, d.pool.ID)
		} else {
			delete(d.pool.busy, d.Addr)
		}
		m.changedLocked()
		m.mu.Unlock()
	}
}

// settleSoon is settle with a time-out, for callers that have none of their own.
func (m *Manager) settleSoon() {
	ctx, cancel := context.WithTimeout(context.Background(), claimMost)
	defer cancel()
	m.settle(ctx)
}

// changedLocked wakes whoever waits for something that was busy.
func (m *Manager) changedLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// HeldPool is a pool with what this host has of it.
type HeldPool struct {
	Pool
	Held []Held
}

// Held returns what this host has of the pools of a backend, for the backend to
// compare with what the cluster knows. It must not be called while a mutex is
// held that the backend's View takes.
func (m *Manager) Held(backend string) []HeldPool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []HeldPool
	for _, p := range m.pools {
		if p.Backend != backend {
			continue
		}
		h := HeldPool{Pool: p.Pool}
		for _, g := range p.given {
			if _, busy := p.busy[g.Addr]; !busy {
				h.Held = append(h.Held, Held{Addr: g.Addr, Kind: g.kind(), Key: g.Key})
			}
		}
		for _, b := range p.busy {
			h.Held = append(h.Held, b)
		}
		all = append(all, h)
	}
	return all
}

// kind is that of addresses also that were stored before it was.
func (g *given) kind() Kind {
	if g.Kind == Container && g.Gateway {
		return Gateway
	}
	return g.Kind
}
