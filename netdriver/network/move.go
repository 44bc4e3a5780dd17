package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Moving the host's addresses from an uplink to the bridge that it becomes a
// port of cuts the host off if anything goes wrong, and nobody may be near it.
// So what the uplink carried is on the disk before anything is touched, as part
// of the definition; from that alone, each step being one that can be repeated,
// the uplink gets it back: when a step fails, when nobody confirms in time, when
// the plugin stops before that, and at the start of a plugin that died meanwhile.
// After a reboot the host's own configuration has put the addresses where they
// belong.

// ErrUndone says that a move was not confirmed, or could not be done.
var ErrUndone = errors.New("the host's addresses are back on the uplink")

// MoveState is how far a move has come. It is stored before the steps that lead
// to the next one.
type MoveState string

// The states of a move.
const (
	Moving    MoveState = "moving"    // between here and there
	Moved     MoveState = "moved"     // on the bridge
	Returning MoveState = "returning" // on the way back, or to be
	Undone    MoveState = "undone"    // back on the uplink
	Agreed    MoveState = "agreed"    // confirmed once, and to be moved again
)

// Move is what became of the host's addresses.
type Move struct {
	State     MoveState
	Confirmed bool `json:",omitempty"`
	// Until is when an unconfirmed move is undone.
	Until time.Time `json:",omitzero"`
	Boot  string    // in another boot the kernel knows nothing of it
	Why   string    `json:",omitempty"` // it was undone
	// What the uplink is to get back, and the MAC by which the wire knows it,
	// which the bridge takes so that nobody's neighbour entry goes stale.
	Config kernel.HostConfig
	MAC    string
}

// MoveHost is what moving addresses asks of the kernel.
type MoveHost interface {
	HostConfig(link string) (kernel.HostConfig, error)
	SetMaster(port, bridge string) error
	AddHostAddr(link string, a kernel.HostAddr) error
	RemoveHostAddr(link string, a kernel.HostAddr) error
	AddHostRoute(link string, r kernel.HostRoute) error
	RemoveHostRoute(link string, r kernel.HostRoute) error
	AddHostNeigh(link string, n kernel.HostNeigh) error
}

// moving reports whether the uplink may yet have to get back what it carried.
func (d *Definition) moving() bool {
	mv := d.Move
	return mv != nil && (mv.State == Moving || mv.State == Returning || mv.State == Moved && !mv.Confirmed)
}

// SetBoot names the boot: what was moved in another one is forgotten.
func (m *Manager) SetBoot(id string) { m.boot = id }

// ensureMoved makes a network whose uplink carries the host's addresses; change
// is held.
func (m *Manager) ensureMoved(d Definition) error {
	mv := d.Move
	switch {
	case mv == nil:
		return m.moveFresh(d, false)
	case mv.State == Undone:
		return m.withoutWire(d, fmt.Errorf("network %s: %w (%s); to try again remove the network and make it again", Short(d.ID), ErrUndone, mv.Why))
	case mv.State == Agreed, mv.Boot != m.boot && mv.Confirmed:
		return m.moveFresh(d, true)
	case mv.State != Moved:
		return m.undo(d, mv.Why)
	case !mv.Confirmed:
		return nil // whatever is missing is made good by undoing it all
	}
	return m.keepMoved(d)
}

// withoutWire leaves the containers each other.
func (m *Manager) withoutWire(d Definition, why error) error {
	if err := m.ensureBridge(d, moveMAC(d), ""); err != nil {
		return errors.Join(why, err)
	}
	m.Pass()
	return why
}

func moveMAC(d Definition) net.HardwareAddr {
	if d.Move != nil {
		if mac, err := net.ParseMAC(d.Move.MAC); err == nil {
			return mac
		}
	}
	return kernel.BridgeMAC(d.ID)
}

// moveFresh moves what the uplink carries now.
func (m *Manager) moveFresh(d Definition, confirmed bool) error {
	uplink, err := m.movableUplink(d)
	if err != nil {
		return err
	}
	config, err := m.host.HostConfig(d.Parent)
	if err != nil {
		return fmt.Errorf("look what the host has on %q: %w", d.Parent, err)
	}
	if !slices.ContainsFunc(config.Addrs, func(a kernel.HostAddr) bool { return !a.Prefix.Addr().IsLinkLocalUnicast() }) {
		return fmt.Errorf("uplink %q of network %s carries no address of the host yet: %w", d.Parent, Short(d.ID), ErrUplink)
	}
	d.Move = &Move{State: Moving, Confirmed: confirmed, Boot: m.boot, Config: config, MAC: uplink.MAC.String()}
	return m.move(d)
}

// movableUplink finds the uplink, unless it was given another use.
func (m *Manager) movableUplink(d Definition) (kernel.Link, error) {
	links, err := m.host.Links()
	if err != nil {
		return kernel.Link{}, err
	}
	at := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.Parent })
	if at < 0 {
		return kernel.Link{}, fmt.Errorf("find the uplink of network %s: link %q: %w", Short(d.ID), d.Parent, kernel.ErrNoLink)
	}
	return links[at], uplinkUsable(d, links[at], nil, links)
}

// move does what d.Move says, or undoes it.
func (m *Manager) move(d Definition) error {
	if err := m.put(d); err != nil {
		return err
	}
	if err := m.moveSteps(d); err != nil {
		return errors.Join(err, m.undo(d, err.Error()))
	}
	mv := *d.Move
	mv.State = Moved
	if !mv.Confirmed {
		mv.Until = time.Now().Add(d.ConfirmWithin)
	}
	moving := d
	d.Move = &mv
	if err := m.put(d); err != nil {
		return errors.Join(err, m.undo(moving, err.Error()))
	}
	if !mv.Confirmed {
		m.log.Warn("moved the host's addresses to a bridge, and move them back unless that is confirmed", "network", Short(d.ID), "uplink", d.Parent, "bridge", d.BridgeName, "within", d.ConfirmWithin)
		m.wakeMoves()
	}
	m.Pass()
	return nil
}

// moveSteps can be repeated. Addresses are on the bridge before they are gone
// from the uplink, so that what else the host bound to them stays.
func (m *Manager) moveSteps(d Definition) error {
	if err := m.ensureBridge(d, moveMAC(d), ""); err != nil {
		return err
	}
	if err := m.host.SetMaster(d.Parent, d.BridgeName); err != nil {
		return err
	}
	return m.transfer(d.Move.Config, d.Parent, d.BridgeName)
}

// transfer gives one link what another has, and goes on after an error: the more
// of it is there, the better.
func (m *Manager) transfer(c kernel.HostConfig, from, to string) error {
	errs := []error{m.makeOrder(c, to)}
	for _, a := range c.Addrs {
		errs = append(errs, m.host.AddHostAddr(to, a))
	}
	if from != "" {
		errs = append(errs, m.strip(c, from))
	}
	for _, r := range c.Routes {
		errs = append(errs, m.host.AddHostRoute(to, r))
	}
	for _, n := range c.Neighs {
		errs = append(errs, m.host.AddHostNeigh(to, n))
	}
	return errors.Join(errs...)
}

// makeOrder takes from a link the addresses before which others of the same
// subnet belong that it lacks: the first one is the one that the host speaks from.
func (m *Manager) makeOrder(c kernel.HostConfig, link string) error {
	has, err := m.host.Addrs(link)
	if err != nil {
		return err
	}
	var errs []error
	for i, a := range c.Addrs {
		if slices.Contains(has, a.Prefix) {
			continue
		}
		for _, b := range c.Addrs[i+1:] {
			if b.Prefix.Masked() == a.Prefix.Masked() && slices.Contains(has, b.Prefix) {
				errs = append(errs, m.host.RemoveHostAddr(link, b))
			}
		}
	}
	return errors.Join(errs...)
}

// strip takes from a link what another one has by now.
func (m *Manager) strip(c kernel.HostConfig, from string) error {
	var errs []error
	for _, r := range c.Routes {
		errs = append(errs, m.host.RemoveHostRoute(from, r))
	}
	for _, a := range c.Addrs {
		errs = append(errs, m.host.RemoveHostAddr(from, a))
	}
	return errors.Join(errs...)
}

// keepMoved restores what somebody took from a move that was confirmed.
func (m *Manager) keepMoved(d Definition) error {
	uplink, err := m.host.Link(d.Parent)
	if err != nil {
		return fmt.Errorf("find the uplink of network %s: %w", Short(d.ID), err)
	}
	bridge, err := m.host.Link(d.BridgeName)
	switch {
	case errors.Is(err, kernel.ErrNoLink):
		return m.moveAgain(d)
	case err != nil:
		return err
	case bridge.Alias != m.host.NetworkAlias(d.ID):
		return fmt.Errorf("bridge %q of network %s: %w", d.BridgeName, Short(d.ID), kernel.ErrNotOurs)
	case uplink.Master == bridge.Index:
		return errors.Join(m.ensureBridge(d, moveMAC(d), d.Parent), m.passed())
	}
	return m.portAgain(d, uplink)
}

func (m *Manager) passed() error {
	m.Pass()
	return nil
}

// moveAgain makes a bridge that was deleted, with the addresses that went with
// it, unless the uplink was given some meanwhile.
func (m *Manager) moveAgain(d Definition) error {
	addrs, err := m.host.Addrs(d.Parent)
	if err != nil {
		return err
	}
	if len(addrs) > 0 {
		return m.moveFresh(d, true)
	}
	if _, err := m.movableUplink(d); err != nil {
		return err
	}
	mv := *d.Move
	mv.State = Moving
	d.Move = &mv
	return m.move(d)
}

// portAgain takes back an uplink that came back. What the host's configuration
// gave it is taken from it where the bridge has that; anything else is a reason
// to leave it alone.
func (m *Manager) portAgain(d Definition, uplink kernel.Link) error {
	links, err := m.host.Links()
	if err != nil {
		return err
	}
	has, err := m.host.Addrs(d.Parent)
	if err != nil {
		return err
	}
	bridge, err := m.host.Addrs(d.BridgeName)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(has), func(p netip.Prefix) bool { return slices.Contains(bridge, p) })
	if err := uplinkUsable(d, uplink, others, links); err != nil {
		return err
	}
	twice, err := m.host.HostConfig(d.Parent)
	if err != nil && !errors.Is(err, kernel.ErrUnmovable) {
		return err
	}
	if err := m.ensureBridge(d, moveMAC(d), d.Parent); err != nil {
		return err
	}
	m.Pass()
	return m.transfer(twice, d.Parent, d.BridgeName)
}
