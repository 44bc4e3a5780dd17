package ipam

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Reservation keeps an address of a pool for a container: one that an operator
// made, until he takes it back, or one that an address is kept by for a while
// after its release.
type Reservation struct {
	Pool netip.Prefix `json:"pool"` // the pool's prefix
	Addr netip.Addr   `json:"address"`
	// Key is the container's: its name, or its MAC where it is started with one;
	// see AddressRequest.Key.
	Key string `json:"key"`
	// Until is when it ends by itself, where nobody made it; zero: never.
	Until time.Time `json:"until,omitzero"`
}

// Keeper is a Backend that has the reservations of its pools for the whole
// cluster. Those of other backends' pools are kept by the Manager, for this host.
type Keeper interface {
	// Reservations returns what is known at once. It is called with the Manager's
	// mutex held, which the caller's copy may outlive.
	Reservations(p Pool) []Reservation
	// Reserve and Unreserve return when the cluster knows. They may wait.
	Reserve(ctx context.Context, p Pool, r Reservation) error
	Unreserve(ctx context.Context, p Pool, a netip.Addr) error
}

// Errors of reservations that callers branch on.
var (
	ErrReserved      = errors.New("reserved")
	ErrNoReservation = errors.New("no such reservation")
)

// maxKept bounds the addresses of a pool that are kept after their release; each
// is looked at in each request.
const maxKept = 1024

// made reports whether an operator made it.
func (r *Reservation) made() bool { return r.Until.IsZero() }

// Key returns the key of a container by its name or, where that is not known, the
// MAC that it is started with. An engine has no name for it before 29.0. The MAC
// may be one that the engine drew (02:42:… and random): it never comes again, and
// what is remembered of it ends by itself.
func Key(name string, mac net.HardwareAddr) string {
	if name != "" || len(mac) == 0 {
		return name
	}
	return mac.String()
}

// MayBeDrawn reports whether a key is a MAC that the engine may have drawn at
// random for one start: of those that belong to no hardware, some are users'.
func MayBeDrawn(key string) bool {
	const local = 2
	mac, err := net.ParseMAC(key)
	return err == nil && mac[0]&local != 0
}

// sticky is what a request is to know of reservations.
type sticky struct {
	own  netip.Addr            // kept for who asks; invalid: none
	hard map[netip.Addr]string // reserved for others, by key
	soft map[netip.Addr]bool   // kept for others for a while
}

func (s sticky) text() string {
	if len(s.hard) == 0 {
		return ""
	}
	return fmt.Sprintf(", %d reserved", len(s.hard))
}

func (m *Manager) stickyLocked(p *pool, key string) sticky {
	s := sticky{hard: map[netip.Addr]string{}, soft: map[netip.Addr]bool{}}
	made := false
	for _, r := range m.keptLocked(p) {
		switch {
		case !r.made() && !m.cfg.Now().Before(r.Until):
		case key != "" && r.Key == key && (r.made() || !made):
			s.own, made = r.Addr, r.made()
		case r.Key == key && key != "":
		case r.made():
			s.hard[r.Addr] = r.Key
		default:
			s.soft[r.Addr] = true
		}
	}
	return s
}

// keptLocked returns the pool's reservations of either kind, those that are over
// too.
func (m *Manager) keptLocked(p *pool) []Reservation {
	if k, ok := m.backend(p.Backend).(Keeper); ok {
		return k.Reservations(p.Pool)
	}
	all := make([]Reservation, 0, len(p.kept))
	for _, r := range m.reservations {
		if r.Pool == p.Prefix {
			all = append(all, r)
		}
	}
	for _, r := range p.kept {
		all = append(all, r)
	}
	return all
}

// wanted is the address that a container with a key is to get if it is free: the
// one that is kept for it, what the backend knows, or one that follows from the
// key alone.
func (t taken) wanted(key string) netip.Addr {
	switch {
	case t.sticky.own.IsValid():
		return t.sticky.own
	case t.view.Prefer.IsValid() && t.span.contains(t.view.Prefer):
		return t.view.Prefer
	case key != "":
		return t.span.at(xxhash.Sum64String(key))
	}
	return netip.Addr{}
}

// checkReserved refuses an address that is asked for by name and reserved for
// somebody else. One of whom nothing is known may be whom it is reserved for.
func (m *Manager) checkReserved(p *pool, a netip.Addr, key string) error {
	if key == "" {
		return nil
	}
	if other := m.stickyLocked(p, key).hard[a]; other != "" {
		return fmt.Errorf("address %s: %w for %q (docs/addresses.md says how to take a reservation back)", a, ErrReserved, other)
	}
	return nil
}

// keepLocked keeps an address that is being released for who had it. A failure to
// write that down costs him no more than the address.
func (m *Manager) keepLocked(p *pool, a netip.Addr, key string) {
	if m.cfg.Keep <= 0 || key == "" {
		return
	}
	if _, ok := m.backend(p.Backend).(Keeper); ok {
		return // it knows of the release
	}
	if len(p.kept) >= maxKept {
		m.dropKeptLocked(p, func(r Reservation) bool { return !m.cfg.Now().Before(r.Until) })
	}
	if len(p.kept) >= maxKept {
		return
	}
	r := Reservation{Pool: p.Prefix, Addr: a, Key: key, Until: m.cfg.Now().Add(m.cfg.Keep).Round(0)}
	if m.cfg.Kept != nil {
		if err := m.cfg.Kept.Put(addressKey(p.ID, a), r); err != nil {
			m.cfg.Log.Warn("an address is not kept for who had it", "pool", p.ID, "address", a, "err", err)
			return
		}
	}
	p.kept[a] = r
}

// usedLocked ends what was kept of an address that is given, and what was kept for
// who has got it.
func (m *Manager) usedLocked(p *pool, a netip.Addr, key string) {
	m.dropKeptLocked(p, func(r Reservation) bool { return r.Addr == a || key != "" && r.Key == key })
}

func (m *Manager) dropKeptLocked(p *pool, which func(Reservation) bool) {
	var keys []string
	for a, r := range p.kept {
		if which(r) {
			keys = append(keys, addressKey(p.ID, a))
			delete(p.kept, a)
		}
	}
	if len(keys) == 0 || m.cfg.Kept == nil {
		return
	}
	if err := m.cfg.Kept.Delete(keys...); err != nil {
		m.cfg.Log.Warn("what an address was kept for is not forgotten", "pool", p.ID, "err", err)
	}
}

// loadKept loads the addresses that are kept and the reservations.
func (m *Manager) loadKept() error {
	m.reservations = map[string]Reservation{}
	var err error
	if m.cfg.Reservations != nil {
		if m.reservations, err = m.cfg.Reservations.All(); err != nil {
			return fmt.Errorf("load reservations: %w", err)
		}
	}
	if m.cfg.Kept == nil {
		return nil
	}
	kept, err := m.cfg.Kept.All()
	if err != nil {
		return fmt.Errorf("load kept addresses: %w", err)
	}
	for key, r := range kept {
		id, _, _ := strings.Cut(key, " ")
		if p := m.pools[id]; p != nil {
			p.kept[r.Addr] = r
		}
	}
	return nil
}

// Reserve keeps an address of a pool for a container, from now on and whoever has
// it now. Saying so again succeeds. An error that wraps ErrReserved, ErrNoPool or
// ErrUnsuitable says why it cannot be.
func (m *Manager) Reserve(ctx context.Context, r Reservation) error {
	p, k, err := m.reservable(r)
	if err != nil {
		return err
	}
	if k != nil {
		return k.Reserve(ctx, p, r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.Reservations == nil {
		return errors.New("there is nowhere to write a reservation down")
	}
	key := reservationKey(r.Pool, r.Addr)
	if err := m.cfg.Reservations.Put(key, r); err != nil {
		return fmt.Errorf("store the reservation of %s: %w", r.Addr, err)
	}
	m.reservations[key] = r
	return nil
}

// ErrUnsuitable says that no container can have that address.
var ErrUnsuitable = errors.New("not an address that a container can have")

func (m *Manager) reservable(r Reservation) (Pool, Keeper, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.poolLocked(r.Pool)
	if err != nil {
		return Pool{}, nil, err
	}
	if err := p.check(r.Addr); err != nil {
		return Pool{}, nil, fmt.Errorf("%w: %w", ErrUnsuitable, err)
	}
	if g := p.given[r.Addr]; g != nil && g.kind() != Container || slices.Contains(m.cfg.Reserved(), r.Addr) {
		return Pool{}, nil, fmt.Errorf("%w: %s is set aside, as a gateway or otherwise", ErrUnsuitable, r.Addr)
	}
	switch v := m.backend(p.Backend).View(p.Pool, Owner{Key: r.Key}); {
	case v.Chooses:
		return Pool{}, nil, fmt.Errorf("%w: backend %s chooses the addresses of pool %s; reserve it there", ErrUnsuitable, p.Backend, p.Prefix)
	case v.First.IsValid() && p.Range.Contains(r.Addr) && !(span{v.First, v.Last}).contains(r.Addr):
		return Pool{}, nil, fmt.Errorf("%w here: of the range, this host gives %s", ErrUnsuitable, span{v.First, v.Last})
	}
	for _, other := range m.keptLocked(p) {
		switch {
		case !other.made():
		case other.Addr == r.Addr && other.Key != r.Key:
			return Pool{}, nil, fmt.Errorf("address %s: %w for %q", r.Addr, ErrReserved, other.Key)
		case other.Key == r.Key && other.Addr != r.Addr:
			return Pool{}, nil, fmt.Errorf("%q has a reservation of %s in pool %s: %w", r.Key, other.Addr, r.Pool, ErrReserved)
		}
	}
	k, _ := m.backend(p.Backend).(Keeper)
	return p.Pool, k, nil
}

func (m *Manager) poolLocked(prefix netip.Prefix) (*pool, error) {
	for _, p := range m.pools {
		if p.Prefix == prefix {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pool %s: %w", prefix, ErrNoPool)
}

// Unreserve takes a reservation back. The error wraps ErrNoReservation where there
// is none.
func (m *Manager) Unreserve(ctx context.Context, prefix netip.Prefix, a netip.Addr) error {
	m.mu.Lock()
	key := reservationKey(prefix, a)
	if _, here := m.reservations[key]; here { // also of a pool that is gone
		defer m.mu.Unlock()
		if err := m.cfg.Reservations.Delete(key); err != nil {
			return fmt.Errorf("forget the reservation of %s: %w", a, err)
		}
		delete(m.reservations, key)
		return nil
	}
	p, err := m.poolLocked(prefix)
	if err != nil {
		m.mu.Unlock()
		return fmt.Errorf("address %s: %w: %w", a, ErrNoReservation, err)
	}
	k, _ := m.backend(p.Backend).(Keeper)
	there := slices.ContainsFunc(m.keptLocked(p), func(r Reservation) bool { return r.Addr == a && r.made() })
	pool := p.Pool
	m.mu.Unlock()
	if k == nil || !there {
		return fmt.Errorf("address %s of pool %s: %w", a, prefix, ErrNoReservation)
	}
	return k.Unreserve(ctx, pool, a)
}

// Reservations returns all there are, those that operators made and those that
// end by themselves, also of pools that are gone.
func (m *Manager) Reservations() []Reservation {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []Reservation{}
	for _, r := range m.reservations {
		all = append(all, r)
	}
	for _, p := range m.pools {
		for _, r := range m.keptLocked(p) {
			_, listed := m.reservations[reservationKey(r.Pool, r.Addr)]
			if over := !r.made() && !m.cfg.Now().Before(r.Until); !over && (!listed || !r.made()) {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b Reservation) int { return a.Addr.Compare(b.Addr) })
	return all
}

func reservationKey(prefix netip.Prefix, a netip.Addr) string {
	return prefix.String() + " " + a.String()
}
