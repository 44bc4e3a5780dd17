package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dockline/dockline/netdriver/kernel"
)

// checkOthers refuses a definition that another network stands against.
func (m *Manager) checkOthers(d Definition) error {
	for _, other := range m.List() {
		if mine, theirs, overlap := overlapping(d.Pools, other.Pools); overlap {
			return fmt.Errorf("subnet %s overlaps %s of network %s: %w; containers of both would get the same addresses, so share that network or choose another subnet",
				mine.Prefix, theirs.Prefix, Short(other.ID), ErrConflict)
		}
		if err := sharesWire(d, other); err != nil {
			return err
		}
	}
	return nil
}

// sharesWire refuses what the kernel would refuse at the first endpoint only:
// a link carries macvlan links or is a port of one bridge.
func sharesWire(d, other Definition) error {
	switch {
	case d.Mode == Bridge && other.Mode == Bridge && d.BridgeName == other.BridgeName && (!other.Foreign || d.Parent != ""):
		return fmt.Errorf("bridge %q belongs to network %s: %w", d.BridgeName, Short(other.ID), ErrConflict)
	case d.Parent == "" || d.Parent != other.Parent:
		return nil
	case d.Passthru() || other.Passthru():
		return fmt.Errorf("interface %q is used by network %s: %w; with %s=%s a network needs its interface for itself",
			d.Parent, Short(other.ID), ErrConflict, keyMacvlanMode, kernel.MacvlanPassthru)
	case d.Mode == Macvlan && other.Mode == Macvlan:
		return nil
	}
	return fmt.Errorf("interface %q is used with mode=%s by network %s: %w; only networks with mode=%s can share one",
		d.Parent, other.Mode, Short(other.ID), ErrConflict, Macvlan)
}

// overlapping finds two pools that share addresses. Pools of a whole family,
// as the engine's null IPAM driver gives them, stand for no pool.
func overlapping(a, b []Pool) (mine, theirs Pool, found bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Prefix.Bits() > 0 && q.Prefix.Bits() > 0 && p.Prefix.Overlaps(q.Prefix) {
				return p, q, true
			}
		}
	}
	return Pool{}, Pool{}, false
}

// checkHost holds a definition against the host as it is now, notes whether its
// bridge is somebody's, and returns what leads to the wire: the parent, or such a
// bridge, or the zero Link.
func (m *Manager) checkHost(d *Definition) (kernel.Link, error) {
	parent, err := m.checkParent(*d)
	if err != nil {
		return kernel.Link{}, err
	}
	if d.Mode == Bridge {
		foreign, err := m.checkBridge(*d, parent)
		if err != nil {
			return kernel.Link{}, err
		}
		if d.Foreign = foreign.Index != 0; d.Foreign {
			parent = foreign
		}
	}
	if d.Passthru() {
		err = m.checkAlone(*d, parent)
	} else if d.Mode == Macvlan {
		err = m.checkPassed(parent)
	}
	if err != nil {
		return kernel.Link{}, err
	}
	if parent.Name != "" && d.MTU > parent.MTU {
		return kernel.Link{}, bad(keyMTU, strconv.Itoa(d.MTU), "more than the %d of %q, by which the frames leave", parent.MTU, parent.Name)
	}
	return parent, m.checkRoutes(*d, parent)
}

func (m *Manager) checkParent(d Definition) (kernel.Link, error) {
	if d.Parent == "" && d.Mode == Bridge {
		return kernel.Link{}, nil
	}
	links, err := m.host.Links()
	if err != nil {
		return kernel.Link{}, err
	}
	if d.Parent == "" {
		return kernel.Link{}, bad(keyParent, "", "mode=%s needs one; this host has %s. For containers among themselves, without a wire, say -o mode=%s", d.Mode, candidates(links), Bridge)
	}
	if d.VLAN != nil {
		return m.checkVLAN(d, links)
	}
	at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.Parent })
	if at < 0 {
		return kernel.Link{}, bad(keyParent, d.Parent, "no such interface; this host has %s", candidates(links))
	}
	parent := links[at]
	if kernel.IsAlias(parent.Alias) {
		return kernel.Link{}, bad(keyParent, d.Parent, "belongs to another network of this driver")
	}
	if master := parent.Master; master != 0 && !isPortOf(links, parent, d.BridgeName) {
		return kernel.Link{}, bad(keyParent, d.Parent, "is a port of %s, and a port carries no macvlan links and has one bridge only; use that bridge's own driver, or another interface", nameOf(links, master))
	}
	if parent.Type == "loopback" || parent.Name == "lo" {
		return kernel.Link{}, bad(keyParent, d.Parent, "the loopback interface leads nowhere; this host has %s", candidates(links))
	}
	if l, has := childOf(links, parent, "ipvlan", "ipvtap"); has && d.Mode == Macvlan {
		return kernel.Link{}, bad(keyParent, d.Parent, "carries the %s link %s, and the kernel makes macvlan links beside none of those; use another interface", l.Type, l.Name)
	}
	return parent, checkEthernet(parent, links)
}

func isPortOf(links []kernel.Link, port kernel.Link, bridge string) bool {
	return bridge != "" && nameOf(links, port.Master) == bridge
}

func nameOf(links []kernel.Link, index int) string {
	for _, l := range links {
		if l.Index == index {
			return l.Name
		}
	}
	return fmt.Sprintf("with index %d", index)
}

// candidates lists the links that a user may have meant: not our own, not the
// loopback, not the host ends of other containers.
func candidates(links []kernel.Link) string {
	var names []string
	for _, l := range links {
		if kernel.IsAlias(l.Alias) || l.Name == "lo" || l.Type == "veth" && l.Master != 0 {
			continue
		}
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// checkBridge returns the bridge that the network is to join, the zero Link where
// it gets one of its own.
func (m *Manager) checkBridge(d Definition, uplink kernel.Link) (foreign kernel.Link, err error) {
	l, err := m.host.Link(d.BridgeName)
	switch {
	case errors.Is(err, kernel.ErrNoLink) && d.Foreign:
		links, err := m.host.Links()
		return kernel.Link{}, errors.Join(err, bad(keyBridge, d.BridgeName, "no such bridge; this host has %s", bridges(links)))
	case errors.Is(err, kernel.ErrNoLink):
	case err != nil:
		return kernel.Link{}, err
	case l.Alias != m.host.NetworkAlias(d.ID):
		return l, d.foreignUsable(l)
	}
	if uplink.Index == 0 && !d.MoveHost {
		return kernel.Link{}, nil // there is none, or it is yet to be made
	}
	addrs, err := m.host.Addrs(uplink.Name)
	switch {
	case err != nil && uplink.Index != 0:
		return kernel.Link{}, err
	case len(addrs) > 0 && !d.MoveHost:
		return kernel.Link{}, bad(keyParent, uplink.Name, "carries the host's address %s, which a bridge port cannot use: the host would lose its network. Use mode=%s on it, or an interface without addresses, or have the addresses moved to the bridge with -o %s=true", addrs[0], Macvlan, keyMove)
	case len(addrs) == 0 && d.MoveHost:
		return kernel.Link{}, bad(keyMove, "true", "%q carries no address of the host; leave the option out", uplink.Name)
	}
	return kernel.Link{}, m.checkChildren(uplink)
}

func (m *Manager) checkChildren(uplink kernel.Link) error {
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	if l, has := childOf(links, uplink, "macvlan", "macvtap", "ipvlan", "ipvtap"); has {
		return bad(keyParent, uplink.Name, "carries the %s link %s, and the kernel makes no port of such an interface", l.Type, l.Name)
	}
	return nil
}

// childOf finds a link of one of these kinds that is made upon another.
func childOf(links []kernel.Link, parent kernel.Link, kinds ...string) (kernel.Link, bool) {
	at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Parent == parent.Index && slices.Contains(kinds, l.Type) })
	if at < 0 {
		return kernel.Link{}, false
	}
	return links[at], true
}

// checkEthernet refuses an interface without hardware addresses (a tunnel, PPP),
// upon which the kernel makes neither macvlan links nor VLANs, and which no
// bridge takes.
func checkEthernet(l kernel.Link, links []kernel.Link) error {
	const size = 6
	if len(l.MAC) != size {
		return bad(keyParent, l.Name, "is no Ethernet interface (a %s without a hardware address); this host has %s", l.Type, candidates(links))
	}
	return nil
}

// checkRoutes refuses a subnet that the host reaches elsewhere. A route by the
// parent itself is the LAN that the network joins.
func (m *Manager) checkRoutes(d Definition, parent kernel.Link) error {
	if d.Overlap {
		return nil
	}
	routes, err := m.host.Routes()
	if err != nil {
		return err
	}
	for _, p := range d.Pools {
		for _, r := range routes {
			if p.Prefix.Bits() == 0 || !p.Prefix.Overlaps(r.Dst) || parent.Index != 0 && r.Link == parent.Index {
				continue
			}
			return m.routeConflict(p.Prefix, r)
		}
	}
	return nil
}

func (m *Manager) routeConflict(p netip.Prefix, r kernel.Route) error {
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	by := "by " + nameOf(links, r.Link)
	if r.Link == 0 {
		by = "(by several interfaces or none, as a blackhole)"
	}
	return fmt.Errorf("subnet %s overlaps the host's route %s %s: the host would look for these addresses there; choose another subnet, or add -o %s=true where both are the same LAN",
		p, r.Dst, by, keyOverlap)
}
