// Package ipam gives out address pools and the addresses in them. It is pure
// logic over three tables that its caller owns; it knows no protocol and no
// kernel. The Manager keeps what the engine was told; who in the cluster has an
// address is decided by the pool's Backend.
//
// A pool's id follows from its address space, prefix and range alone, so that
// a replay after a restart of the engine yields the id that the engine has
// written into its endpoints. One address space has no overlapping pools.
//
// # Replays
//
// With RequiresRequestReplay the engine asks again, at its start and before
// anything else, for the pool of every network and the address of every
// endpoint that it knows (libnetwork/controller.go, reservePools). Such a
// request looks like that of a second network with the same subnet, or of a
// second container with the same --ip, but may succeed where those must not.
// What tells them apart is when they come: an engine that starts registers the
// driver first. A registration opens an epoch, in which each pool may be asked
// for again once, and each address in a pool so confirmed once. The epoch
// closes with the first request that no replay contains: one that leaves the
// choice of a pool or address to us, a new network, a new endpoint. That the
// engine asks for the address spaces says nothing: before 28.0 it did so only
// for new networks, since then it does for every pool, replayed or not.
//
// A replay can be cut off by the end of either process, and a second network
// of another driver on the same subnet is not told from one. So what was not
// replayed is let go only after that happened at lostAfter starts of the engine
// in a row. Nor is the first start of a container with --ip, right after that of
// the engine. A backend believes only replays of what the table lost, in a boot:
// of a pool of which it had nothing when the engine started (Claim.Replay).
//
// # Backends
//
// A pool's options say which Backend it has, for its whole life. The embedded
// one agrees to everything: this host is alone. What a backend may rely on:
//
//   - Claim, Release, Leave and Prepare are called without the Manager's mutex,
//     from many goroutines, and may wait for a network; the engine waits as well,
//     so they answer within two seconds where nobody else answers (a DHCP server
//     gets longer). View is called with the mutex and may not wait.
//   - What concerns one address of a pool comes in turn: from the call of Claim
//     until it returned, none of its candidates is in another claim or release,
//     and an address stays out of claims until its Release has returned.
//   - An address is written down after its claim, and forgotten before its
//     release. So a crash leaves claims of which the Manager knows nothing, never
//     an address in use that nobody claimed. Held says what the Manager knows; a
//     backend gives back what of this host's is not there, after a grace.
//   - Addresses that were given before this process began are not claimed again:
//     Held has them, and the backend sees to it that the cluster does. With
//     Replay a claim is of an address that the engine knows and we do not. Where
//     nobody can be asked, it has to succeed at once: an engine that starts waits
//     for each. What turns out to be another host's is for the backend to report,
//     clearly and lastingly; no container is re-addressed.
//
// And what the Manager may rely on:
//
//   - A claim that succeeded is of no other host until it is released, or taken
//     away by an operator. One for a Container or a Host excludes all others, one
//     set Aside all but the like.
//   - Claiming what this host has in the cluster and the Manager does not know
//     succeeds. Releasing what was never claimed succeeds.
//   - An error is of two kinds that have the Manager choose again, ErrTaken and
//     ErrAway, after which the View is different; any other goes to the user.
//
// # How long things live
//
// A pool with a network of our own on it lives as long as the network, whatever
// is released: the engine also releases a pool for a network that was refused.
// But if nothing was asked of it since the network was made, nor for removalTime
// after its release, the engine does not know the network (see Forsaken); that
// it was just released is what tells which network a removal meant that was cut
// off (see LetGo).
// A gateway lives as long as its pool, an address until it is released, and one
// that an endpoint has in a sandbox until the endpoint is out of there.
package ipam

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The address spaces of the driver. Nothing is given out in the global one:
// networks of swarm scope are not offered.
const (
	LocalSpace  = "dockline-local"
	GlobalSpace = "dockline-global"
)

// Errors that callers branch on.
var (
	ErrInUse     = errors.New("already in use")
	ErrExhausted = errors.New("no address left")
	ErrNoPool    = errors.New("no such address pool")
)

// orphanAge is how long an address of a network of our own must have been
// without an endpoint before it counts as left over: the engine creates the
// endpoint right after it got the address, and releases the address right after
// it deleted the endpoint.
const orphanAge = time.Minute

// removalTime is how long after a pool the engine's request to remove the
// network on it may come. There is none if the engine gave up making the
// network, because the answer was lost when this process was killed.
const removalTime = time.Minute

// auxWithin is how long after a pool the engine asks for the addresses that a
// user sets aside in it (--aux-address). It does so at once.
const auxWithin = 10 * time.Second

// lostAfter is how many starts of the engine in a row must not have replayed
// something before the engine counts as not knowing it any more.
const lostAfter = 2

// Pool is an address pool as it is stored.
type Pool struct {
	ID     string
	Space  string
	Prefix netip.Prefix
	Range  netip.Prefix // the part that addresses are chosen from; never invalid
	Missed int          `json:",omitempty"` // starts of the engine in a row that did not replay it
	// Backend is who gives its addresses; "" is the embedded one. It and the
	// options stay what they were when the pool was made.
	Backend string            `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
	// Used says that the engine has asked for something of it since a network
	// of our own is on it: it knows that network.
	Used bool `json:",omitempty"`
	// Released says that the engine released it while a network was on it that
	// it may not know.
	Released bool `json:",omitempty"`
	// LetGo is when the engine released it last, with a network on it; zero if
	// it has asked for something of it since.
	LetGo time.Time `json:",omitzero"`
}

// Given is an address that somebody has, as it is stored.
type Given struct {
	Pool    string
	Addr    netip.Addr
	Gateway bool
	Kind    Kind   `json:",omitempty"` // Container also of gateways from before there were kinds
	Key     string `json:",omitempty"` // see Owner
	Missed  int    `json:",omitempty"` // as in Pool
}

// Store is a table of the caller's. Put returns when the value is safe; Delete
// of the missing succeeds.
type Store[V any] interface {
	Put(key string, v V) error
	Delete(keys ...string) error
	All() (map[string]V, error)
}

// Config is what a Manager works on. All fields but Wire and those of backends
// and reservations are needed.
type Config struct {
	Pools     Store[Pool]
	Addresses Store[Given]
	Cursors   Store[netip.Addr] // by pool: the address given last

	// Routes returns the prefixes that the host already reaches; a pool that
	// we choose ourselves overlaps none of them.
	Routes func() ([]netip.Prefix, error)
	// HostAddrs returns the host's own addresses, which nobody else gets unless
	// as a gateway.
	HostAddrs func() ([]netip.Addr, error)
	// Bound reports whether a network of our own driver lives on the pool.
	Bound func(Pool) bool
	// Reserved returns the addresses that networks of our own driver have for
	// themselves: gateways and what users set aside.
	Reserved func() []netip.Addr
	// Endpoints returns the addresses of the endpoints of our own driver, and
	// of each whether its endpoint is in a sandbox.
	Endpoints func() map[netip.Addr]bool

	// Backends are those beside the embedded one, by name. Defaults are options of
	// new pools that name no other backend than they do; those of the request win.
	// Missing says of those that could be there why they are not. A backend that
	// has a method Options says by it which ones it has of its own.
	Backends map[string]Backend
	Missing  map[string]string
	Defaults map[string]string

	// Reservations are those that operators made, by pool and address. Kept are
	// addresses that are kept for who had them, for the time Keep after their
	// release; others get them last. Of Keepers' pools nothing is here.
	Reservations Store[Reservation]
	Kept         Store[Reservation]
	Keep         time.Duration

	// Wire says who has addresses that nobody got from us; nil: nobody is asked.
	Wire Wire

	Now func() time.Time // with a monotonic reading, as of time.Now
	Log *slog.Logger
}

// Manager gives out pools and addresses. It is safe for concurrent use. It
// calls the functions of its Config with its mutex held; they must not call back.
type Manager struct {
	cfg Config

	mu    sync.Mutex // guards all below and orders writes to the tables
	pools map[string]*pool
	epoch epoch

	due     []due           // what backends have to be told
	leaving map[string]bool // pools that backends are being told to be gone
	changed chan struct{}   // closed when something is busy no more

	reservations map[string]Reservation // that operators made on this host
}

type pool struct {
	Pool
	given    map[netip.Addr]*given
	busy     map[netip.Addr]Held // being claimed or given back
	kept     map[netip.Addr]Reservation
	cursor   netip.Addr // the address given last, and the one written down as that
	written  netip.Addr
	replayed uint64    // the epoch in which it was asked for or made
	used     uint64    // the epoch in which an address of it was last asked for
	again    bool      // asked for again since it was made, loaded or released
	released time.Time // when that, or the process, began to be so; see Pool
	asked    time.Time // when it was made or asked for again
	blank    bool      // the table had nothing of it when the engine started
}

type given struct {
	Given
	confirmed uint64    // the epoch in which it was asked for or given
	idle      time.Time // when it was given, loaded or left by an endpoint
}

// New loads the tables.
func New(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, pools: map[string]*pool{}, epoch: epoch{number: 1}, leaving: map[string]bool{}, changed: make(chan struct{})}
	pools, err := cfg.Pools.All()
	if err != nil {
		return nil, fmt.Errorf("load pools: %w", err)
	}
	addrs, err := cfg.Addresses.All()
	if err != nil {
		return nil, fmt.Errorf("load addresses: %w", err)
	}
	cursors, err := cfg.Cursors.All()
	if err != nil {
		return nil, fmt.Errorf("load cursors: %w", err)
	}
	for id, p := range pools {
		m.pools[id] = newPool(p)
		m.pools[id].cursor, m.pools[id].written, m.pools[id].released = cursors[id], cursors[id], cfg.Now()
	}
	for _, g := range addrs {
		if p := m.pools[g.Pool]; p != nil {
			p.given[g.Addr] = &given{Given: g, idle: cfg.Now()}
		}
	}
	if err := m.loadKept(); err != nil {
		return nil, err
	}
	return m, nil
}

func newPool(p Pool) *pool {
	return &pool{Pool: p, given: map[netip.Addr]*given{}, busy: map[netip.Addr]Held{}, kept: map[netip.Addr]Reservation{}}
}

// Pools returns the pools there are, for inspection.
func (m *Manager) Pools() []Pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Pool, 0, len(m.pools))
	for _, p := range m.pools {
		all = append(all, p.Pool)
	}
	return all
}

// Addresses returns the addresses given out of a pool, for inspection.
func (m *Manager) Addresses(poolID string) []Given {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[poolID]
	if p == nil {
		return nil
	}
	all := make([]Given, 0, len(p.given))
	for _, g := range p.given {
		all = append(all, g.Given)
	}
	return all
}

func poolID(space string, prefix, from netip.Prefix) string {
	parts := []string{space, prefix.String()}
	if from != prefix {
		parts = append(parts, from.String())
	}
	return strings.Join(parts, "/")
}

// PrefixOf returns the subnet of the pool with that id, as another host writes it
// down; invalid, if it is none.
func PrefixOf(id string) netip.Prefix {
	parts := strings.Split(id, "/")
	if len(parts) < 3 {
		return netip.Prefix{}
	}
	prefix, _ := netip.ParsePrefix(parts[1] + "/" + parts[2])
	return prefix
}

func addressKey(poolID string, a netip.Addr) string { return poolID + " " + a.String() }
