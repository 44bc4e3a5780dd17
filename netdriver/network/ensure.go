package network

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
)

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
	d, lost := m.restoreParent(d)
	if lost != nil && d.Mode == Macvlan {
		return lost
	}
	return errors.Join(lost, m.ensure(d))
}

func (m *Manager) ensure(d Definition) error {
	if len(d.guarded()) > 0 {
		m.Pass() // before there is anything that it guards
	}
	refused := m.ensureVLAN(d)
	switch {
	case d.Mode == Macvlan && refused != nil:
		return refused
	case d.Mode == Macvlan:
		return m.ensureMacvlan(d)
	case d.Foreign:
		return m.ensureForeign(d)
	case d.MoveHost:
		return errors.Join(refused, m.ensureMoved(d))
	}
	uplink := d.Parent
	if refused == nil {
		refused = m.checkUplink(d)
	}
	if refused != nil {
		uplink = "" // the containers keep each other all the same
	}
	if err := m.ensureBridge(d, kernel.BridgeMAC(d.ID), uplink); err != nil {
		return err
	}
	m.Pass()
	return refused
}

// defaultMTU is that of links which lead nowhere (net/ethernet/eth.c, ether_setup).
const defaultMTU = 1500

// LinkMTU is the MTU that a bridge and its ports should have: what the user
// said, else that of the uplink; 0 where the uplink is not there. Ports of a
// bridge that is its owner's have what that has: a bridge takes the least.
func (m *Manager) LinkMTU(d Definition) int {
	leads := d.Parent
	switch {
	case d.Foreign:
		leads = d.BridgeName
	case d.MTU != 0:
		return d.MTU
	case d.Parent == "":
		return defaultMTU
	}
	l, err := m.host.Link(leads)
	if err != nil {
		return 0
	}
	return l.MTU
}

func (m *Manager) ensureBridge(d Definition, mac net.HardwareAddr, uplink string) error {
	err := m.host.EnsureBridge(kernel.Bridge{
		Name: d.BridgeName, Alias: m.host.NetworkAlias(d.ID), MAC: mac,
		MTU: m.LinkMTU(d), Uplink: uplink, Addrs: d.hostAddrs(),
	})
	if err != nil {
		return fmt.Errorf("set up the bridge of network %s: %w", Short(d.ID), err)
	}
	return nil
}

// Pass lets frames between containers through the engine's firewall, for the
// bridges there are. The engine may make its chains after our start, so this
// comes again with every join. An error is logged when it changes: a host may
// have a firewall of another kind, and then it is its owner's to open.
func (m *Manager) Pass() {
	m.passing.Lock() // or what was wanted a moment ago would come after what is
	defer m.passing.Unlock()
	want := map[string]kernel.Pass{}
	var guard []string
	for _, d := range m.List() {
		if d.Mode == Bridge {
			want[m.host.NetworkAlias(d.ID)] = kernel.Pass{Bridge: d.BridgeName, Shared: d.Foreign || d.MoveHost}
		}
		guard = append(guard, d.guarded()...)
	}
	slices.Sort(guard)
	said := ""
	if err := m.host.SyncPass(want, slices.Compact(guard)); err != nil {
		said = err.Error()
	}
	if said != "" && said != m.passSaid {
		m.log.Warn("cannot open the engine's firewall for our bridges", "err", said)
	}
	m.passSaid = said
}
