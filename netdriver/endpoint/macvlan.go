package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// chooseMAC returns the MAC of an endpoint that was given none. A link that is
// passed through keeps the one that the wire knows it by.
func (m *Manager) chooseMAC(e Endpoint, d network.Definition) net.HardwareAddr {
	if d.Passthru() {
		if parent, err := m.host.Link(d.Parent); err == nil && len(parent.MAC) > 0 {
			return parent.MAC
		}
	}
	return kernel.EndpointMAC(e.IPv4.Addr(), e.IPv6.Addr(), e.ID)
}

// parent returns the link below those of a macvlan network, the zero Link where
// there is none or it is not there.
func (m *Manager) parent(d network.Definition) kernel.Link {
	if d.Mode != network.Macvlan {
		return kernel.Link{}
	}
	parent, err := m.host.Link(d.Parent)
	if err != nil {
		return kernel.Link{}
	}
	return parent
}

// makeMacvlan makes an endpoint's macvlan link. A parent that cannot be brought
// up costs the container its wire, not its start: reconcile says so.
func (m *Manager) makeMacvlan(e Endpoint, d network.Definition, parent kernel.Link) error {
	if err := m.checkPassthru(e, d); err != nil {
		return err
	}
	if parent.Index == 0 {
		return fmt.Errorf("find the parent: link %q: %w", d.Parent, kernel.ErrNoLink)
	}
	if !parent.Up {
		if err := m.host.SetUp(d.Parent); err != nil {
			m.log.Warn("cannot bring a parent up", "network", network.Short(d.ID), "parent", d.Parent, "err", err)
		}
	}
	l := m.macvlan(e, d, kernel.ContainerName(e.ID), m.host.EndpointAlias(e.Network, e.ID))
	l.On = parent
	return m.host.CreateMacvlan(l)
}

func (m *Manager) macvlan(e Endpoint, d network.Definition, name, alias string) kernel.Macvlan {
	return kernel.Macvlan{Name: name, Alias: alias, Parent: d.Parent, Mode: d.MacvlanMode, MAC: e.MAC, MTU: e.mtu(d)}
}

// checkPassthru refuses a second endpoint on a parent that is passed through.
func (m *Manager) checkPassthru(e Endpoint, d network.Definition) error {
	if !d.Passthru() {
		return nil
	}
	for _, other := range m.List() {
		if other.Network == e.Network && other.ID != e.ID && other.Joined {
			return fmt.Errorf("network %s passes %q through to one container at a time, and endpoint %s has it; stop that container, or use a network with macvlan_mode=%s",
				network.Short(d.ID), d.Parent, network.Short(other.ID), kernel.MacvlanBridge)
		}
	}
	return nil
}

// makePlaceholder gives an endpoint a veth pair while there is no parent.
func (m *Manager) makePlaceholder(e Endpoint, d network.Definition) error {
	return m.host.CreateVeth(kernel.Veth{
		Host: kernel.HostName(e.ID), Container: kernel.ContainerName(e.ID),
		Alias: m.host.EndpointAlias(e.Network, e.ID), MAC: e.MAC, MTU: e.mtu(d),
	})
}

// EnsureWires connects the placeholders among the links given to the parents of
// their networks, as far as those are there, and removes wires that no
// placeholder needs. It reports how many it made or removed.
func (m *Manager) EnsureWires(links []kernel.Link) (changed int, err error) {
	var errs []error
	held := map[string]bool{} // by endpoint id
	for _, l := range links {
		if o, ours := m.host.Owner(l.Alias); ours && o.Endpoint != "" && l.Name == kernel.HostName(o.Endpoint) {
			held[o.Endpoint] = true
			made, err := m.ensureWire(o.Endpoint)
			if errs = append(errs, err); made {
				changed++
			}
		}
	}
	for _, l := range links {
		if o, ours := m.host.WireOwner(l.Alias); ours && !held[o.Endpoint] {
			errs = append(errs, m.removeWire(l, o))
			changed++
		}
	}
	return changed, errors.Join(errs...)
}

func (m *Manager) ensureWire(id string) (made bool, err error) {
	defer m.turns.take(id)()
	e, err := m.Get(id)
	if err != nil || !e.Joined {
		return false, nil // not there: it needs none
	}
	d, err := m.networks.Get(e.Network)
	if err != nil || d.Mode != network.Macvlan {
		return false, nil // it is going
	}
	made, err = m.host.EnsureWire(kernel.Wire{
		Macvlan: m.macvlan(e, d, kernel.WireName(id), m.host.WireAlias(e.Network, id)), Host: kernel.HostName(id),
	})
	if errors.Is(err, kernel.ErrNoLink) {
		return false, nil // no parent yet, which the network reports
	} else if err != nil {
		return false, fmt.Errorf("connect endpoint %s: %w", network.Short(id), err)
	}
	if made {
		m.log.Info("an endpoint that started without its wire has it now", "network", network.Short(d.ID), "endpoint", network.Short(id), "parent", d.Parent)
	}
	return made, nil
}

// removeWire removes the wire of a placeholder that is gone, looking again in
// the endpoint's turn.
func (m *Manager) removeWire(l kernel.Link, o kernel.Owner) error {
	defer m.turns.take(o.Endpoint)()
	if _, err := m.host.Link(kernel.HostName(o.Endpoint)); !errors.Is(err, kernel.ErrNoLink) {
		return err
	}
	return m.host.DeleteOwned(l.Name, l.Alias)
}

// JoinedAddrs returns the addresses of a network's endpoints in sandboxes.
func (m *Manager) JoinedAddrs(networkID string) []netip.Addr {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []netip.Addr
	for _, e := range m.all {
		if e.Network == networkID && e.Joined {
			all = append(all, e.Addrs()...)
		}
	}
	return all
}

// unreach removes the host's routes to an endpoint that is not joined any more.
// What fails is made good by the next reconcile.
func (m *Manager) unreach(e Endpoint) {
	d, err := m.networks.Get(e.Network)
	if err == nil {
		err = m.networks.Unreach(d, e.Addrs())
	}
	if err != nil && !errors.Is(err, network.ErrNotFound) {
		m.log.Warn("the host's routes to an endpoint are still there", "network", network.Short(e.Network), "endpoint", network.Short(e.ID), "err", err)
	}
}
