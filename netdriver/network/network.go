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
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such network")
	ErrConflict = errors.New("conflicts with another network")
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
	ID         string
	Mode       Mode
	Parent     string `json:",omitempty"` // macvlan: the lower link; bridge: the uplink, "" if isolated
	BridgeName string `json:",omitempty"`
	MTU        int    `json:",omitempty"` // 0: that of the parent or bridge
	Internal   bool   `json:",omitempty"`
	HostAccess bool   `json:",omitempty"`
	Overlap    bool   `json:",omitempty"` // a route of the host may overlap
	IfPrefix   string // of the interface's name in the sandbox
	IPv4, IPv6 bool
	Pools      []Pool

	ParentWasDown bool   `json:",omitempty"` // how the uplink is to be left behind
	UplinkMAC     string `json:",omitempty"` // the hardware's own; "" for a virtual interface
	// Complete is set when everything is made. A definition without it after a
	// start is that of a CreateNetwork that the engine saw fail.
	Complete bool
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
	SetUp(name string) error
	SetDown(name string) error
	SyncPass(want map[string]string) error
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
	// NetworkRemoved says that no network is on these pools any more.
	NetworkRemoved(prefixes []netip.Prefix) error
	// ReplayOver says that the engine has done something that is no replay.
	ReplayOver()
}

// Endpoints is what this package asks about endpoints.
type Endpoints interface {
	// Joined reports whether an endpoint of the network is in a sandbox.
	Joined(networkID string) bool
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

	change sync.Mutex // held over a whole Create, Delete or Discard; before mu
	mu     sync.RWMutex
	all    map[string]Definition // guarded by mu

	passSaid atomic.Pointer[string] // what Pass logged last
}

// NewManager loads the stored networks. Call SetPools and SetEndpoints
// before anything else, and Discard before the first call of the engine.
func NewManager(host Host, store Store, space string, log *slog.Logger) (*Manager, error) {
	all, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("load networks: %w", err)
	}
	return &Manager{host: host, store: store, space: space, log: log, all: all}, nil
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

// Create makes a network. Repeating it with the same definition succeeds.
func (m *Manager) Create(d Definition) error {
	m.change.Lock()
	defer m.change.Unlock()
	if err := m.repeated(d); err != nil || m.known(d.ID) {
		return err
	}
	if err := m.checkOthers(d); err != nil {
		return err
	}
	parent, err := m.checkHost(d)
	if err != nil {
		return err
	}
	d.ParentWasDown = d.Parent != "" && !parent.Up
	if d.Mode == Bridge {
		d.UplinkMAC = parent.PermMAC.String()
	}
	if err := m.put(d); err != nil {
		return err
	}
	if err := m.ensure(d); err != nil {
		return errors.Join(err, m.remove(d))
	}
	d.Complete = true
	if err := m.put(d); err != nil {
		return errors.Join(err, m.remove(d))
	}
	m.pools.ReplayOver()
	return nil
}

func (m *Manager) known(id string) bool {
	_, err := m.Get(id)
	return err == nil
}

func (m *Manager) repeated(d Definition) error {
	old, err := m.Get(d.ID)
	if err != nil {
		return nil //nolint:nilerr // not there: nothing is repeated
	}
	d.Complete, d.ParentWasDown, d.UplinkMAC = old.Complete, old.ParentWasDown, old.UplinkMAC
	if !reflect.DeepEqual(old, d) {
		return fmt.Errorf("network %s exists with other options or subnets: %w", Short(d.ID), ErrConflict)
	}
	return nil
}

// remove undoes ensure, then forgets: a crash in between is made good by
// Discard, because the definition is incomplete.
func (m *Manager) remove(d Definition) error {
	if err := m.dismantle(d); err != nil {
		return err
	}
	return m.forget(d)
}

func (m *Manager) forget(d Definition) error {
	if err := m.store.Delete(d.ID); err != nil {
		return fmt.Errorf("forget network %s: %w", Short(d.ID), err)
	}
	m.mu.Lock()
	delete(m.all, d.ID)
	m.mu.Unlock()
	m.Pass()
	return nil
}

func (m *Manager) dismantle(d Definition) error {
	if d.Mode != Bridge {
		return nil
	}
	if err := m.releaseUplink(d); err != nil {
		return err
	}
	err := m.host.DeleteOwned(d.BridgeName, m.host.NetworkAlias(d.ID))
	if errors.Is(err, kernel.ErrNotOurs) {
		m.log.Warn("left a bridge alone that is not ours any more", "network", Short(d.ID), "bridge", d.BridgeName)
		return nil
	}
	return err
}

// releaseUplink gives the uplink back as it was found. One that somebody took
// out of the bridge, or gave an address, is at work for its owner again.
func (m *Manager) releaseUplink(d Definition) error {
	if d.Parent == "" {
		return nil
	}
	released, err := m.host.ReleasePort(d.Parent, d.BridgeName, m.host.NetworkAlias(d.ID))
	if err != nil {
		return fmt.Errorf("give the uplink back: %w", err)
	}
	if !released || !d.ParentWasDown {
		return nil
	}
	addrs, err := m.host.Addrs(d.Parent)
	if err == nil && len(addrs) == 0 {
		err = m.host.SetDown(d.Parent)
	}
	if err != nil && !errors.Is(err, kernel.ErrNoLink) {
		return fmt.Errorf("leave the uplink as it was: %w", err)
	}
	return nil
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

// Keep does what Ensure does, except that a macvlan parent stays down that
// somebody took down: it is the operator's.
func (m *Manager) Keep(id string) error {
	d, err := m.Get(id)
	if err != nil {
		return err
	}
	if d.Mode == Macvlan {
		_, err := m.host.Link(d.Parent)
		return err
	}
	return m.Ensure(id)
}

// Ensure makes one network in the kernel what it should be.
func (m *Manager) Ensure(id string) error {
	m.change.Lock()
	defer m.change.Unlock()
	if d, ok := m.lookup(id); ok && d.Going {
		return nil
	}
	d, err := m.Get(id)
	if err != nil {
		return err
	}
	return m.ensure(d)
}

func (m *Manager) ensure(d Definition) error {
	if d.Mode == Macvlan {
		if err := m.host.SetUp(d.Parent); err != nil {
			return fmt.Errorf("bring up the parent of network %s: %w", Short(d.ID), err)
		}
		return nil
	}
	refused := m.checkUplink(d)
	uplink := d.Parent
	if refused != nil {
		uplink = "" // the containers keep each other all the same
	}
	err := m.host.EnsureBridge(kernel.Bridge{
		Name: d.BridgeName, Alias: m.host.NetworkAlias(d.ID), MAC: kernel.BridgeMAC(d.ID),
		MTU: m.LinkMTU(d), Uplink: uplink, Addrs: d.hostAddrs(),
	})
	if err != nil {
		return fmt.Errorf("set up the bridge of network %s: %w", Short(d.ID), err)
	}
	m.Pass()
	return refused
}

// defaultMTU is that of links which lead nowhere (net/ethernet/eth.c, ether_setup).
const defaultMTU = 1500

// LinkMTU is the MTU that a bridge and its ports should have: what the user
// said, else that of the uplink; 0 where the uplink is not there.
func (m *Manager) LinkMTU(d Definition) int {
	switch {
	case d.MTU != 0:
		return d.MTU
	case d.Parent == "":
		return defaultMTU
	}
	uplink, err := m.host.Link(d.Parent)
	if err != nil {
		return 0
	}
	return uplink.MTU
}

// checkUplink refuses to take an interface as a port that was given another
// use since the network was made: another master or an address of the host.
func (m *Manager) checkUplink(d Definition) error {
	if d.Parent == "" {
		return nil
	}
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.Parent })
	if at < 0 {
		return fmt.Errorf("find the uplink of network %s: link %q: %w", Short(d.ID), d.Parent, kernel.ErrNoLink)
	}
	uplink := links[at]
	if uplink.Master != 0 && isPortOf(links, uplink, d.BridgeName) {
		return nil
	}
	addrs, err := m.host.Addrs(d.Parent)
	if err != nil {
		return err
	}
	return uplinkUsable(d, uplink, addrs, links)
}

func uplinkUsable(d Definition, uplink kernel.Link, addrs []netip.Prefix, links []kernel.Link) error {
	switch {
	case uplink.Master != 0:
		return fmt.Errorf("uplink %q of network %s is a port of %s now: %w", d.Parent, Short(d.ID), nameOf(links, uplink.Master), ErrUplink)
	case len(addrs) > 0:
		return fmt.Errorf("uplink %q of network %s carries the host's address %s now: %w", d.Parent, Short(d.ID), addrs[0], ErrUplink)
	case d.UplinkMAC != "" && d.UplinkMAC != uplink.PermMAC.String():
		return fmt.Errorf("uplink %q of network %s is another device (%s) than the one it was made with (%s): %w", d.Parent, Short(d.ID), uplink.PermMAC, d.UplinkMAC, ErrUplink)
	}
	return nil
}

// Pass lets frames between containers through the engine's firewall, for the
// bridges there are. The engine may make its chains after our start, so this
// comes again with every join. An error is logged when it changes: a host may
// have a firewall of another kind, and then it is its owner's to open.
func (m *Manager) Pass() {
	want := map[string]string{}
	for _, d := range m.List() {
		if d.Mode == Bridge {
			want[m.host.NetworkAlias(d.ID)] = d.BridgeName
		}
	}
	said := ""
	if err := m.host.SyncPass(want); err != nil {
		said = err.Error()
	}
	if before := m.passSaid.Swap(&said); said != "" && (before == nil || *before != said) {
		m.log.Warn("cannot open the engine's firewall for our bridges", "err", said)
	}
}

// Discard removes the networks whose making was cut off by the end of an
// earlier process. The engine saw that CreateNetwork fail.
func (m *Manager) Discard() error {
	m.change.Lock()
	defer m.change.Unlock()
	var errs []error
	for _, d := range m.List() {
		if d.Complete {
			continue
		}
		m.log.Info("removing a network whose making was cut off", "network", Short(d.ID))
		errs = append(errs, m.remove(d))
	}
	return errors.Join(errs...)
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
	if d.Internal || d.Mode == Bridge && d.Parent == "" && !d.HostAccess {
		return netip.Addr{}
	}
	for _, p := range d.Pools {
		if of.IsValid() && p.Prefix.Contains(of.Addr()) {
			return p.Gateway
		}
	}
	return netip.Addr{}
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
