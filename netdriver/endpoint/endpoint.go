// Package endpoint holds the life of an endpoint: recorded when the engine
// creates it, given links when it joins a sandbox, cleared away when it leaves.
//
// It stands between engine (the protocol) and kernel, beside network. What an
// endpoint should be is the engine's to say; the journal kept here only tells
// which links are ours to remove, so it does not outlive the boot.
//
// Order is what makes a crash harmless: the journal names an endpoint before
// its first link is made and after its last one is gone.
package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such endpoint")
	ErrExists   = errors.New("endpoint exists with other addresses")
)

// Endpoint is an endpoint as it is journalled.
type Endpoint struct {
	ID, Network string
	IPv4, IPv6  netip.Prefix // invalid: none
	MAC         net.HardwareAddr
	Joined      bool
	// MTU is what a server said of the wire; 0: nothing. The network's own wins.
	MTU int `json:",omitempty"`
	// ParentIndex is that of the parent at the Join, on a macvlan network: with
	// the parent its links go, whatever becomes of their containers. 0: not known.
	ParentIndex int `json:",omitempty"`
}

// Host is what this package asks of the kernel.
type Host interface {
	CreateMacvlan(kernel.Macvlan) error
	CreateVeth(kernel.Veth) error
	DeleteOwned(name, alias string) error
	EndpointAlias(networkID, endpointID string) string
	AttachPort(port kernel.Link, bridge int) error
	SetMTU(name string, mtu int) error
	SetPort(name string, p kernel.Port, mac net.HardwareAddr) error
	SetUp(name string) error
	Link(name string) (kernel.Link, error)
	EnsureWire(kernel.Wire) (made bool, err error)
	WireAlias(networkID, endpointID string) string
	WireOwner(alias string) (kernel.Owner, bool)
	Owner(alias string) (kernel.Owner, bool)
}

// Store is the journal, by endpoint id.
type Store interface {
	Put(key string, e Endpoint) error
	Delete(keys ...string) error
	All() (map[string]Endpoint, error)
}

// Networks is what this package asks about networks.
type Networks interface {
	Get(id string) (network.Definition, error)
	// Ensure makes the network's own links again where they are missing.
	Ensure(id string) error
	// Pass lets frames within our bridges through the engine's firewall.
	Pass()
	// Reach and Unreach make and remove the host's own routes to an endpoint.
	Reach(d network.Definition, addrs []netip.Addr) error
	Unreach(d network.Definition, addrs []netip.Addr) error
}

// Manager holds the endpoints. It is safe for concurrent use; what concerns
// one endpoint happens in turn, different endpoints do not wait for each other.
type Manager struct {
	host     Host
	store    Store
	networks Networks
	log      *slog.Logger

	turns turns
	mu    sync.RWMutex
	all   map[string]Endpoint // guarded by mu
}

// NewManager loads the journal.
func NewManager(host Host, store Store, networks Networks, log *slog.Logger) (*Manager, error) {
	all, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("load endpoints: %w", err)
	}
	return &Manager{host: host, store: store, networks: networks, log: log, all: all}, nil
}

// Create records an endpoint and chooses its MAC where it has none. It makes
// no link: the engine holds a lock of the whole network meanwhile. Repeating it
// with the same addresses succeeds.
func (m *Manager) Create(e Endpoint) (Endpoint, error) {
	if e.ID == "" || e.Network == "" {
		return Endpoint{}, errors.New("an endpoint needs an id and a network")
	}
	defer m.turns.take(e.ID)()
	d, err := m.networks.Get(e.Network)
	if err != nil {
		return Endpoint{}, err
	}
	old, err := m.Get(e.ID)
	if len(e.MAC) == 0 && err == nil {
		e.MAC = old.MAC
	} else if len(e.MAC) == 0 {
		e.MAC = m.chooseMAC(e, d)
	}
	if err == nil {
		return repeated(old, e)
	}
	return e, m.put(e)
}

func repeated(old, e Endpoint) (Endpoint, error) {
	if old.Network != e.Network || old.IPv4 != e.IPv4 || old.IPv6 != e.IPv6 || !bytes.Equal(old.MAC, e.MAC) {
		return Endpoint{}, fmt.Errorf("endpoint %s: %w", network.Short(e.ID), ErrExists)
	}
	return old, nil
}

// Get returns an endpoint, or an error that is ErrNotFound.
func (m *Manager) Get(id string) (Endpoint, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.all[id]
	if !ok {
		return Endpoint{}, fmt.Errorf("endpoint %s: %w", network.Short(id), ErrNotFound)
	}
	return e, nil
}

// List returns all endpoints.
func (m *Manager) List() []Endpoint {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]Endpoint, 0, len(m.all))
	for _, e := range m.all {
		list = append(list, e)
	}
	return list
}

// Addresses returns the addresses of all endpoints, and of each whether its
// endpoint is in a sandbox.
func (m *Manager) Addresses() map[netip.Addr]bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make(map[netip.Addr]bool, len(m.all))
	for _, e := range m.all {
		for _, a := range e.Addrs() {
			all[a] = all[a] || e.Joined
		}
	}
	return all
}

func (e *Endpoint) mtu(d network.Definition) int {
	if d.MTU != 0 {
		return d.MTU
	}
	return e.MTU
}

// Addrs returns the addresses that the endpoint has.
func (e *Endpoint) Addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// Joined reports whether an endpoint of the network is in a sandbox.
func (m *Manager) Joined(networkID string) bool {
	return slices.ContainsFunc(m.List(), func(e Endpoint) bool { return e.Network == networkID && e.Joined })
}

// Forget removes the endpoints of a network that is gone. It waits for their
// turns, so the caller may not hold what they wait for.
func (m *Manager) Forget(networkID string) error {
	var errs []error
	for _, e := range m.List() {
		if e.Network == networkID {
			m.log.Info("removing an endpoint whose network is gone", "network", network.Short(networkID), "endpoint", network.Short(e.ID))
			errs = append(errs, m.Delete(networkID, e.ID))
		}
	}
	return errors.Join(errs...)
}

// Join makes an endpoint's links, in the host's namespace, and returns the
// endpoint and its network. The engine then moves the link that
// kernel.ContainerName names into the sandbox.
func (m *Manager) Join(id string) (Endpoint, network.Definition, error) {
	defer m.turns.take(id)()
	e, err := m.Get(id)
	if err != nil {
		return Endpoint{}, network.Definition{}, err
	}
	d, err := m.networks.Get(e.Network)
	if err != nil {
		return Endpoint{}, network.Definition{}, err
	}
	parent := m.parent(d)
	e.Joined, e.ParentIndex = true, parent.Index
	if err := m.put(e); err != nil {
		return Endpoint{}, network.Definition{}, err
	}
	if err := m.link(e, d, parent); errors.Is(err, kernel.ErrInUse) {
		return Endpoint{}, network.Definition{}, err // the links that there are stay
	} else if err != nil {
		return Endpoint{}, network.Definition{}, errors.Join(err, m.unjoin(e))
	}
	if err := m.networks.Reach(d, e.Addrs()); err != nil {
		m.log.Warn("the host does not reach an endpoint yet", "network", network.Short(d.ID), "endpoint", network.Short(id), "err", err)
	}
	return e, d, nil
}

// link makes the links, after a second look at the network's own where those
// turn out to be missing.
func (m *Manager) link(e Endpoint, d network.Definition, parent kernel.Link) error {
	err := m.makeLinks(e, d, parent)
	if !errors.Is(err, kernel.ErrNoLink) {
		return err
	}
	again := m.networks.Ensure(d.ID)
	if d, err = m.networks.Get(d.ID); err != nil { // its parent may be another one now
		return err
	}
	err = m.makeLinks(e, d, m.parent(d))
	switch {
	case err == nil:
		return nil // what else the network lacks is reconcile's to report
	case !errors.Is(err, kernel.ErrNoLink):
	case d.Mode == network.Macvlan:
		m.log.Warn("an endpoint starts without its wire", "network", network.Short(d.ID), "endpoint", network.Short(e.ID), "err", errors.Join(again, err))
		return m.makePlaceholder(e, d)
	case d.Foreign: // it is connected when the bridge's owner has made it again (Settle)
		m.log.Warn("an endpoint starts without its bridge", "network", network.Short(d.ID), "endpoint", network.Short(e.ID), "bridge", d.BridgeName)
		d.BridgeName = ""
		return m.makeLinks(e, d, parent)
	}
	return errors.Join(again, err)
}

func (m *Manager) makeLinks(e Endpoint, d network.Definition, parent kernel.Link) error {
	if d.Mode == network.Macvlan {
		return m.makeMacvlan(e, d, parent)
	}
	m.networks.Pass()
	return m.host.CreateVeth(kernel.Veth{
		Host: kernel.HostName(e.ID), Container: kernel.ContainerName(e.ID), Alias: m.host.EndpointAlias(e.Network, e.ID),
		Bridge: d.BridgeName, Port: d.Port, MAC: e.MAC, MTU: e.mtu(d),
		Elsewhere: d.Parent != "" || d.Foreign,
	})
}

func (m *Manager) unjoin(e Endpoint) error {
	e.Joined = false
	return errors.Join(m.unlink(e.Network, e.ID), m.put(e))
}

// unlink removes what links of an endpoint are in the host's namespace. Those
// in a sandbox come back before the endpoint is deleted, or die with it.
func (m *Manager) unlink(networkID, id string) error {
	errs := []error{m.host.DeleteOwned(kernel.WireName(id), m.host.WireAlias(networkID, id))}
	for _, name := range []string{kernel.HostName(id), kernel.ContainerName(id)} {
		errs = append(errs, m.host.DeleteOwned(name, m.host.EndpointAlias(networkID, id)))
	}
	return errors.Join(errs...)
}

// Leave notes that an endpoint has left its sandbox. Its link is still in
// there: the engine moves it back after this call. A missing one is success.
func (m *Manager) Leave(id string) error {
	defer m.turns.take(id)()
	e, err := m.Get(id)
	if err != nil || !e.Joined {
		return nil // not there: it has left
	}
	e.Joined = false
	if err := m.put(e); err != nil {
		return err
	}
	m.unreach(e)
	return nil
}

// Delete removes an endpoint and its links. A missing one is success, and its
// links are looked for all the same.
func (m *Manager) Delete(networkID, id string) error {
	defer m.turns.take(id)()
	return m.remove(networkID, id)
}

// DropAbandoned removes an endpoint if the check, made in the endpoint's turn,
// still finds it abandoned, and reports whether it did.
func (m *Manager) DropAbandoned(id string, check func(Endpoint) (bool, error)) (bool, error) {
	defer m.turns.take(id)()
	e, err := m.Get(id)
	if err != nil {
		return false, nil // not there any more: nothing to drop
	}
	if abandoned, err := check(e); err != nil || !abandoned {
		return false, err
	}
	m.log.Info("removing an endpoint that its engine abandoned", "network", network.Short(e.Network), "endpoint", network.Short(id), "joined", e.Joined)
	return true, m.remove(e.Network, id)
}

// Adopt journals an endpoint that is at work in a sandbox and was lost from the
// journal, if the check, made in the endpoint's turn, still finds it there. It
// reports whether it did.
func (m *Manager) Adopt(e Endpoint, check func() (bool, error)) (bool, error) {
	defer m.turns.take(e.ID)()
	if _, err := m.Get(e.ID); err == nil {
		return false, nil
	}
	if there, err := check(); err != nil || !there {
		return false, err
	}
	m.log.Warn("found an endpoint at work that the journal does not know", "network", network.Short(e.Network), "endpoint", network.Short(e.ID), "ipv4", e.IPv4, "ipv6", e.IPv6)
	e.Joined = true
	return true, m.put(e)
}

// remove forgets an endpoint after its links are gone; in the endpoint's turn.
func (m *Manager) remove(networkID, id string) error {
	if err := m.unlink(networkID, id); err != nil {
		return fmt.Errorf("remove the links of endpoint %s: %w", network.Short(id), err)
	}
	if err := m.store.Delete(id); err != nil {
		return fmt.Errorf("forget endpoint %s: %w", network.Short(id), err)
	}
	m.mu.Lock()
	e := m.all[id]
	delete(m.all, id)
	m.mu.Unlock()
	if e.Joined {
		m.unreach(e)
	}
	return nil
}

// Settle makes an endpoint's link that was seen in the host's namespace what
// it should be: removed where the endpoint is unknown or has left, else a port
// of its network's bridge that is up and has the network's MTU. A pair whose
// other end is in a sandbox stays even if nobody knows its endpoint: a journal
// can be lost while containers run. An MTU of 0 stands for one that cannot be
// known now. It reports whether it changed anything.
func (m *Manager) Settle(l kernel.Link, o kernel.Owner, bridgeIndex, mtu int) (bool, error) {
	defer m.turns.take(o.Endpoint)()
	e, err := m.Get(o.Endpoint)
	lost := err != nil && l.Away
	if !lost && (err != nil || !e.Joined) {
		m.log.Info("removing a link that no endpoint needs", "link", l.Name, "network", network.Short(o.Network), "endpoint", network.Short(o.Endpoint))
		return true, m.host.DeleteOwned(l.Name, l.Alias)
	}
	d, err := m.networks.Get(o.Network)
	if err != nil || d.Mode != network.Bridge || l.Name != kernel.HostName(o.Endpoint) {
		return false, nil // a network that is going takes its endpoints along
	}
	if bridgeIndex == 0 {
		return false, nil // its owner's, who took it away
	}
	return m.repair(l, d, e.MAC, bridgeIndex, mtu)
}

// repair makes a pair's host end again what somebody made something else of.
func (m *Manager) repair(l kernel.Link, d network.Definition, mac net.HardwareAddr, bridgeIndex, mtu int) (changed bool, err error) {
	if mtu != 0 && l.MTU != mtu {
		changed = true
		err = m.host.SetMTU(l.Name, mtu)
	}
	switch {
	case l.Master != bridgeIndex:
		changed = true
		err = errors.Join(err, m.host.AttachPort(l, bridgeIndex))
		if d.Port != (kernel.Port{}) { // which is how a new port behaves
			err = errors.Join(err, m.host.SetPort(l.Name, d.Port, mac))
		}
	case !l.Up:
		changed = true
		err = errors.Join(err, m.host.SetUp(l.Name))
	}
	untold := l.Told != nil && d.Port.Told() && !l.Told[string(mac)]
	if l.Master == bridgeIndex && (l.Port != nil && *l.Port != d.Port || untold) {
		changed = true
		err = errors.Join(err, m.host.SetPort(l.Name, d.Port, mac))
	}
	if changed {
		m.log.Info("repaired a port", "link", l.Name, "network", network.Short(d.ID), "err", err)
	}
	return changed, err
}

func (m *Manager) put(e Endpoint) error {
	if err := m.store.Put(e.ID, e); err != nil {
		return fmt.Errorf("journal endpoint %s: %w", network.Short(e.ID), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]Endpoint{}
	}
	m.all[e.ID] = e
	return nil
}
