// Package network holds what a network is: its definition, read from the
// options that a user gave, checked against the host and the other networks,
// stored, and made true in the kernel again after a restart.
//
// It stands between engine (the protocol) and kernel. The engine never repeats
// a CreateNetwork, so the stored definition is the only record of what should
// be; for networks our state is the truth.
package network

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such network")
	ErrConflict = errors.New("conflicts with another network")
	ErrInUse    = errors.New("a container is on it")
	ErrUplink   = errors.New("left alone, the network is without its wire")
)

// Mode is how a network's endpoints reach the wire.
type Mode string

// The modes.
const (
	Macvlan Mode = "macvlan"
	Bridge  Mode = "bridge"
)

// Definition is a network as it is stored.
type Definition struct {
	ID          string
	Mode        Mode
	Parent      string             `json:",omitempty"` // macvlan: the lower link; bridge: the uplink, "" if isolated
	Rule        *ParentRule        `json:",omitempty"` // what the parent is found by; nil: there is none
	VLAN        *VLAN              `json:",omitempty"` // set where the parent is a sub-interface of ours
	MacvlanMode kernel.MacvlanMode `json:",omitempty"` // "": bridge
	BridgeName  string             `json:",omitempty"`
	MTU         int                `json:",omitempty"` // 0: that of the parent or bridge
	Internal    bool               `json:",omitempty"`
	HostAccess  bool               `json:",omitempty"`
	HostAddrs   []netip.Addr       `json:",omitempty"` // asked for, for the host's port on a macvlan network
	HostPort    []netip.Addr       `json:",omitempty"` // what the port has; by the order of Pools
	Overlap     bool               `json:",omitempty"` // a route of the host may overlap
	NoProbe     bool               `json:",omitempty"` // nobody is asked who has an address
	ProbePeers  []netip.Addr       `json:",omitempty"` // whose round trips are measured, beside the gateways'
	// Foreign is set where the bridge is its owner's, and nothing on it is ours
	// but the containers' ports.
	Foreign bool        `json:",omitempty"`
	Port    kernel.Port `json:",omitzero"` // the containers', on a bridge
	// MoveHost has the uplink's addresses and routes moved to the bridge, and
	// back unless that is confirmed within ConfirmWithin.
	MoveHost      bool          `json:",omitempty"`
	ConfirmWithin time.Duration `json:",omitempty"`

	IfPrefix   string // of the interface's name in the sandbox
	IPv4, IPv6 bool
	Pools      []Pool

	ParentWasDown bool   `json:",omitempty"` // how the uplink is to be left behind
	UplinkMAC     string `json:",omitempty"` // the hardware's own; "" for a virtual interface
	Move          *Move  `json:",omitempty"` // what became of the host's addresses
	// Complete is set when everything is made. A definition without it after a
	// start is that of a CreateNetwork that the engine saw fail.
	Complete bool
	// Unanswered is set until the engine is known to have been told that.
	Unanswered bool `json:",omitempty"`
	// Going is set before anything of the network is removed, for the engine
	// does not say twice that it is to be.
	Going bool `json:",omitempty"`
}

// Pool is one subnet of a network.
type Pool struct {
	Space   string
	Prefix  netip.Prefix
	Gateway netip.Addr // invalid: none
	Aux     []netip.Addr
}

// Host is what this package asks of the kernel.
type Host interface {
	Links() ([]kernel.Link, error)
	Link(name string) (kernel.Link, error)
	Addrs(name string) ([]netip.Prefix, error)
	Routes() ([]kernel.Route, error)
	EnsureBridge(kernel.Bridge) error
	ReleasePort(port, bridge, alias string) (released bool, err error)
	NetworkAlias(networkID string) string
	DeleteOwned(name, alias string) error
	DeleteBridge(name, alias string) error
	SetUp(name string) error
	SetDown(name string) error
	SyncPass(want map[string]kernel.Pass, guard []string) error
	WaysOut() ([]kernel.WayOut, error)
	EnsureVLAN(kernel.VLAN) error
	VLANAlias(base string, id int) string
	OwnsVLAN(alias string) bool
	Disown(name, alias string) error
	EnsureHostPort(kernel.HostPort) error
	SetHostRoutes(port string, from, to []netip.Addr) error
	AddHostRoutes(port string, from, to []netip.Addr) error
	RemoveHostRoutes(port string, to []netip.Addr) error
	MoveHost
}

// Store is the durable table of definitions, by network id.
type Store interface {
	Put(key string, d Definition) error
	Delete(keys ...string) error
	All() (map[string]Definition, error)
}

// Pools is what this package asks of the address pools of our own IPAM half.
type Pools interface {
	// Forsaken reports whether the engine does not know the pool of that prefix
	// any more.
	Forsaken(prefix netip.Prefix) bool
	// LetGo reports whether the engine has released the pool of that prefix just
	// now, and asked for nothing of it since.
	LetGo(prefix netip.Prefix) bool
	// ReserveForHost takes an address of the pool for the host, the one given or
	// one that it chooses. It goes with the pool.
	ReserveForHost(prefix netip.Prefix, addr netip.Addr) (netip.Addr, error)
	// Agree says that a network with this definition is to be on the pool. It may
	// wait, for other hosts that share the definition.
	Agree(prefix netip.Prefix, definition map[string]string) error
	// NetworkRemoved says that no network is on these pools any more.
	NetworkRemoved(prefixes []netip.Prefix) error
	// ReplayOver says that the engine has done something that is no replay.
	ReplayOver()
}

// Endpoints is what this package asks about endpoints.
type Endpoints interface {
	// Joined reports whether an endpoint of the network is in a sandbox.
	Joined(networkID string) bool
	// JoinedAddrs returns the addresses of the network's endpoints in sandboxes.
	JoinedAddrs(networkID string) []netip.Addr
	// Forget removes the endpoints of a network that is gone.
	Forget(networkID string) error
}

// Manager holds the networks. It is safe for concurrent use.
type Manager struct {
	host  Host
	store Store
	pools Pools
	ends  Endpoints
	space string // the address space of our own IPAM half
	log   *slog.Logger

	making sync.Mutex // held over a whole Create, which may wait for other hosts and servers; before change
	change sync.Mutex // held over what a Create, Delete or Discard does here, which waits for nobody; before mu
	mu     sync.RWMutex
	all    map[string]Definition // guarded by mu

	routes sync.Mutex // held while routes by the host's ports are looked at and changed; a leaf but for ends

	passing  sync.Mutex // held from looking what rules are wanted until they are there; before mu
	passSaid string     // guarded by passing: what Pass logged last

	doubt doubt // guarded by change

	boot  string        // see SetBoot
	moved chan struct{} // tells WatchMoves of a new one
}

// NewManager loads the stored networks. Call SetPools and SetEndpoints
// before anything else, and Discard before the first call of the engine.
func NewManager(host Host, store Store, space string, log *slog.Logger) (*Manager, error) {
	all, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("load networks: %w", err)
	}
	return &Manager{host: host, store: store, space: space, log: log, all: all, doubt: newDoubt(all), moved: make(chan struct{}, 1)}, nil
}

// SetPools names the pools. They come late because they ask this Manager which
// networks there are.
func (m *Manager) SetPools(p Pools) { m.pools = p }

// SetEndpoints names the endpoints, which come late for the same reason.
func (m *Manager) SetEndpoints(e Endpoints) { m.ends = e }

// Get returns a network, or an error that is ErrNotFound, as for one that is
// being removed.
func (m *Manager) Get(id string) (Definition, error) {
	d, ok := m.lookup(id)
	if !ok || d.Going {
		return Definition{}, fmt.Errorf("network %s: %w (made by another driver, or its state was lost; remove it and make it again)", Short(id), ErrNotFound)
	}
	return d, nil
}

func (m *Manager) lookup(id string) (Definition, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d, ok := m.all[id]
	return d, ok
}

// Find returns the one network whose id begins so.
func (m *Manager) Find(id string) (Definition, error) {
	var found []Definition
	for _, d := range m.List() {
		if id != "" && strings.HasPrefix(d.ID, id) && !d.Going {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return Definition{}, fmt.Errorf("network %q: %w (%d have such an id)", id, ErrNotFound, len(found))
	}
	return found[0], nil
}

// Has reports whether there is anything of a network yet: also while it is made
// or removed.
func (m *Manager) Has(id string) bool {
	_, ok := m.lookup(id)
	return ok
}

// List returns all networks, in the order of their ids.
func (m *Manager) List() []Definition {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]Definition, 0, len(m.all))
	for _, id := range slices.Sorted(maps.Keys(m.all)) {
		list = append(list, m.all[id])
	}
	return list
}

func (m *Manager) put(d Definition) error {
	if err := m.store.Put(d.ID, d); err != nil {
		return fmt.Errorf("store network %s: %w", Short(d.ID), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[d.ID] = d
	return nil
}

// Reserved returns the addresses that networks have for themselves: as a
// gateway, or set aside by the user.
func (m *Manager) Reserved() []netip.Addr {
	var all []netip.Addr
	for _, d := range m.List() {
		for _, p := range d.Pools {
			if p.Gateway.IsValid() {
				all = append(all, p.Gateway)
			}
			all = append(all, p.Aux...)
		}
		all = append(all, d.HostPort...)
	}
	return all
}

// Prefixes returns the subnets of all networks, of whatever IPAM driver.
func (m *Manager) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, d := range m.List() {
		for _, p := range d.Pools {
			if p.Prefix.Bits() > 0 { // 0: the engine's null IPAM driver, no pool
				all = append(all, p.Prefix)
			}
		}
	}
	return all
}

// OnPool reports whether a network has a pool of that prefix in our own space.
func (m *Manager) OnPool(prefix netip.Prefix) bool {
	return slices.ContainsFunc(m.List(), func(d Definition) bool {
		return slices.Contains(d.prefixesIn(m.space), prefix)
	})
}

// prefixesIn returns the network's subnets in an address space.
func (d *Definition) prefixesIn(space string) []netip.Prefix {
	var in []netip.Prefix
	for _, p := range d.Pools {
		if p.Space == space {
			in = append(in, p.Prefix)
		}
	}
	return in
}

// Gateway returns the gateway that an endpoint gets for an address of its own;
// invalid where it gets none.
func (d *Definition) Gateway(of netip.Prefix) netip.Addr {
	if d.Internal || d.Mode == Bridge && d.Parent == "" && !d.HostAccess && !d.Foreign {
		return netip.Addr{}
	}
	for _, p := range d.Pools {
		if of.IsValid() && p.Prefix.Contains(of.Addr()) {
			return p.Gateway
		}
	}
	return netip.Addr{}
}

// Owns reports whether a link of that name is the network's own.
func (d *Definition) Owns(link string) bool {
	return d.Mode == Bridge && link == d.BridgeName || d.hasHostPort() && link == kernel.HostPortName(d.ID)
}

// hostAddrs are the host's own addresses on an isolated bridge.
func (d *Definition) hostAddrs() []netip.Prefix {
	if !d.HostAccess {
		return nil
	}
	var addrs []netip.Prefix
	for _, p := range d.Pools {
		if p.Gateway.IsValid() {
			addrs = append(addrs, netip.PrefixFrom(p.Gateway, p.Prefix.Bits()))
		}
	}
	return addrs
}

// Short is the form of an id that the engine's command line shows.
func Short(id string) string { return id[:min(len(id), 12)] }
