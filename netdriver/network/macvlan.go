package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockline/dockline/netdriver/kernel"
)

// ErrDown says that a parent is there, but down.
var ErrDown = errors.New("is down")

// Passthru reports whether the network's parent carries no other macvlan link.
func (d *Definition) Passthru() bool { return d.MacvlanMode == kernel.MacvlanPassthru }

// checkAlone refuses to pass an interface through that is in use: everything
// that it receives goes to the container.
func (m *Manager) checkAlone(d Definition, parent kernel.Link) error {
	if d.VLAN != nil {
		return nil // made for it, or shared with networks that are looked at elsewhere
	}
	addrs, err := m.host.Addrs(parent.Name)
	if err != nil {
		return err
	}
	if len(addrs) > 0 {
		return bad(keyParent, parent.Name, "carries the host's address %s, and with %s=%s the host would hear nothing by it any more; use %s=%s, or an interface without addresses",
			addrs[0], keyMacvlanMode, kernel.MacvlanPassthru, keyMacvlanMode, kernel.MacvlanBridge)
	}
	return m.checkChildren(parent)
}

// checkPassed refuses a parent that somebody else has passed through.
func (m *Manager) checkPassed(parent kernel.Link) error {
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(links, func(l kernel.Link) bool {
		return l.Passthru && parent.Index != 0 && l.Parent == parent.Index
	})
	if at < 0 {
		return nil
	}
	return bad(keyParent, parent.Name, "is passed through to the %s link %s, and the kernel makes no other beside that; use another interface, or make that link of mode %s",
		links[at].Type, links[at].Name, kernel.MacvlanBridge)
}

func (m *Manager) ensureMacvlan(d Definition) error {
	if err := m.host.SetUp(d.Parent); err != nil {
		return fmt.Errorf("bring up the parent of network %s: %w", Short(d.ID), err)
	}
	return m.ensureHostPort(d)
}

// Keep does what Ensure does, except that a macvlan parent stays down that
// somebody took down: it is the operator's.
func (m *Manager) Keep(id string) error {
	d, err := m.Get(id)
	if err != nil {
		return err
	}
	if d.Mode != Macvlan {
		return m.Ensure(id)
	}
	parent, err := m.host.Link(d.Parent)
	if err != nil {
		return m.Ensure(id) // by its rule there may be another one
	}
	if err := m.keepHostPort(d); err != nil && parent.Up {
		return err
	}
	if !parent.Up {
		return fmt.Errorf("parent %q of network %s %w, and with it the wire of its containers", d.Parent, Short(d.ID), ErrDown)
	}
	return nil
}

func (m *Manager) keepHostPort(d Definition) error {
	if !d.hasHostPort() {
		return nil
	}
	m.change.Lock()
	defer m.change.Unlock()
	if now, ok := m.lookup(d.ID); !ok || now.Going {
		return nil
	}
	return m.ensureHostPort(d)
}

// The host's port

func (d *Definition) hasHostPort() bool { return d.HostAccess && d.Mode == Macvlan }

// guarded are the links of a macvlan network on which the host must not believe
// router advertisements: they exist for containers.
func (d *Definition) guarded() []string {
	var names []string
	if d.VLAN != nil {
		names = append(names, d.Parent)
	}
	if d.hasHostPort() {
		names = append(names, kernel.HostPortName(d.ID))
	}
	return names
}

func (d *Definition) readHostAccess(o map[string]string) error {
	value := o[keyHostAddress]
	switch {
	case value != "" && !d.hasHostPort():
		return bad(keyHostAddress, value, "needs mode=%s and %s=true", Macvlan, keyHostAccess)
	case d.HostAccess && d.Foreign:
		return bad(keyHostAccess, "true", "bridge %q is its owner's: give it an address of the host's yourself", d.BridgeName)
	case d.HostAccess && d.Mode == Bridge && d.Rule != nil:
		return bad(keyHostAccess, "true", "not offered with an uplink: the host reaches these containers by another interface on the same LAN")
	case !d.hasHostPort():
		return nil
	case d.MacvlanMode != "":
		return bad(keyHostAccess, "true", "needs %s=%s: with %s the kernel passes no frames between links of one parent", keyMacvlanMode, kernel.MacvlanBridge, d.MacvlanMode)
	case d.Internal:
		return bad(keyHostAccess, "true", "the network is internal: the host is not to be reached from it; leave one of the two away")
	}
	if value == "" {
		return nil
	}
	for _, text := range strings.Split(value, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || d.poolOf(a) == nil {
			return bad(keyHostAddress, value, "%q is not an address in a subnet of the network", text)
		}
		if slices.ContainsFunc(d.HostAddrs, func(other netip.Addr) bool { return other.Is4() == a.Is4() }) {
			return bad(keyHostAddress, value, "the host's port has one address of each family; give one of these")
		}
		d.HostAddrs = append(d.HostAddrs, a)
	}
	return nil
}

func (d *Definition) poolOf(a netip.Addr) *Pool {
	for i := range d.Pools {
		if p := &d.Pools[i]; p.Prefix.Bits() > 0 && p.Prefix.Contains(a) {
			return p
		}
	}
	return nil
}

// reserveForHost finds the addresses of the host's port, one of each family,
// that nobody else is ever given.
func (m *Manager) reserveForHost(d *Definition) error {
	if !d.hasHostPort() {
		return nil
	}
	families := map[bool]bool{}
	for i := range d.Pools {
		p := &d.Pools[i]
		if p.Prefix.Bits() == 0 || families[p.Prefix.Addr().Is4()] || d.namedElsewhere(p) {
			continue
		}
		a, err := m.reserveIn(d, p)
		if err != nil {
			return err
		}
		families[p.Prefix.Addr().Is4()] = true
		d.HostPort = append(d.HostPort, a)
	}
	if len(d.HostPort) == 0 {
		return bad(keyHostAccess, "true", "the network has no subnet that the host could have an address in")
	}
	return nil
}

// namedElsewhere reports whether the user named an address of the pool's family
// that is in another one.
func (d *Definition) namedElsewhere(p *Pool) bool {
	return slices.ContainsFunc(d.HostAddrs, func(a netip.Addr) bool {
		return a.Is4() == p.Prefix.Addr().Is4() && !p.Prefix.Contains(a)
	})
}

func (m *Manager) reserveIn(d *Definition, p *Pool) (netip.Addr, error) {
	asked := netip.Addr{}
	for _, a := range d.HostAddrs {
		if p.Prefix.Contains(a) {
			asked = a
		}
	}
	aside := false
	for _, a := range p.Aux {
		aside = aside || a == asked
	}
	switch {
	case asked.IsValid() && asked == p.Gateway:
		return netip.Addr{}, bad(keyHostAddress, asked.String(), "is the gateway of the network; the host's port needs an address of its own")
	case aside:
		return asked, nil // whoever gives out addresses does not give this one
	case p.Space == m.space:
		a, err := m.pools.ReserveForHost(p.Prefix, asked)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("find an address for the host in %s: %w", p.Prefix, err)
		}
		return a, nil
	case asked.IsValid():
		return netip.Addr{}, bad(keyHostAddress, asked.String(), "the network's IPAM driver may give it to a container; set it aside with --aux-address host=%s", asked)
	}
	return netip.Addr{}, bad(keyHostAccess, "true", "the network's IPAM driver gives the host no address in %s; set one aside and name it: --aux-address host=ADDRESS -o %s=ADDRESS, or use --ipam-driver of this plugin", p.Prefix, keyHostAddress)
}

func (m *Manager) ensureHostPort(d Definition) error {
	if !d.hasHostPort() {
		return nil
	}
	err := m.host.EnsureHostPort(kernel.HostPort{
		Name: kernel.HostPortName(d.ID), Alias: m.host.NetworkAlias(d.ID), Parent: d.Parent,
		MAC: kernel.HostPortMAC(d.ID), MTU: d.MTU, Addrs: d.HostPort,
	})
	if err != nil {
		return fmt.Errorf("set up the host's port on network %s: %w", Short(d.ID), err)
	}
	m.routes.Lock()
	defer m.routes.Unlock()
	if err := m.host.SetHostRoutes(kernel.HostPortName(d.ID), d.HostPort, m.ends.JoinedAddrs(d.ID)); err != nil {
		return fmt.Errorf("route to the containers of network %s: %w", Short(d.ID), err)
	}
	return nil
}

func (m *Manager) removeHostPort(d Definition) error {
	if !d.hasHostPort() {
		return nil
	}
	err := m.host.DeleteOwned(kernel.HostPortName(d.ID), m.host.NetworkAlias(d.ID))
	if errors.Is(err, kernel.ErrNotOurs) {
		m.log.Warn("left a link alone that is not ours any more", "network", Short(d.ID), "link", kernel.HostPortName(d.ID))
		return nil
	}
	return err
}

// Reach makes the host's routes to an endpoint that is joined; call it when the
// endpoint counts as such.
func (m *Manager) Reach(d Definition, addrs []netip.Addr) error {
	if !d.hasHostPort() {
		return nil
	}
	m.routes.Lock()
	defer m.routes.Unlock()
	return m.host.AddHostRoutes(kernel.HostPortName(d.ID), d.HostPort, addrs)
}

// Unreach removes the host's routes to an endpoint that has left; call it when
// the endpoint does not count as joined any more.
func (m *Manager) Unreach(d Definition, addrs []netip.Addr) error {
	if !d.hasHostPort() {
		return nil
	}
	m.routes.Lock()
	defer m.routes.Unlock()
	joined := m.ends.JoinedAddrs(d.ID) // another endpoint may have the address by now
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return slices.Contains(joined, a) })
	return m.host.RemoveHostRoutes(kernel.HostPortName(d.ID), addrs)
}
