package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
)

// checkUplink refuses to take an interface as a port that was given another
// use since the network was made: another master or an address of the host.
func (m *Manager) checkUplink(d Definition) error {
	if d.Parent == "" {
		return nil
	}
	if m.isUplink(d) {
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

// isUplink reports whether the uplink is a port of the network's bridge, as it
// nearly always is.
func (m *Manager) isUplink(d Definition) bool {
	uplink, err := m.host.Link(d.Parent)
	if err != nil || uplink.Master == 0 {
		return false
	}
	bridge, err := m.host.Link(d.BridgeName)
	return err == nil && uplink.Master == bridge.Index
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

// releaseUplink gives the uplink back as it was found: down before it is no port
// any more, for afterwards nobody knows by whom it is up.
func (m *Manager) releaseUplink(d Definition) error {
	if d.Parent == "" {
		return nil
	}
	if err := m.uplinkDown(d); err != nil && !errors.Is(err, kernel.ErrNoLink) {
		return fmt.Errorf("leave the uplink as it was: %w", err)
	}
	if _, err := m.host.ReleasePort(d.Parent, d.BridgeName, m.host.NetworkAlias(d.ID)); err != nil {
		return fmt.Errorf("give the uplink back: %w", err)
	}
	return nil
}

// uplinkDown takes an uplink down that was found so. One that somebody took out
// of the bridge, or gave an address, is at work for its owner again.
func (m *Manager) uplinkDown(d Definition) error {
	if !d.ParentWasDown {
		return nil
	}
	uplink, err := m.host.Link(d.Parent)
	if err != nil {
		return err
	}
	bridge, err := m.host.Link(d.BridgeName)
	if err != nil || uplink.Master != bridge.Index || bridge.Alias != m.host.NetworkAlias(d.ID) {
		return err
	}
	addrs, err := m.host.Addrs(d.Parent)
	if err != nil || len(addrs) > 0 {
		return err
	}
	return m.host.SetDown(d.Parent)
}
