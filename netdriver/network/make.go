package network

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Create makes a network. Repeating it with the same definition succeeds.
func (m *Manager) Create(d Definition) error {
	m.making.Lock()
	defer m.making.Unlock()
	if done, err := m.mayCreate(d); done || err != nil {
		return err
	}
	// What others are asked for here may take as long as the engine waits.
	for _, prefix := range d.prefixesIn(m.space) {
		if err := m.pools.Agree(prefix, d.Shared(prefix)); err != nil {
			return err
		}
	}
	if err := m.reserveForHost(&d); err != nil {
		return err
	}
	return m.create(d)
}

// mayCreate refuses a network, or reports that it is there already.
func (m *Manager) mayCreate(d Definition) (done bool, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	if err := m.repeated(d); err != nil || m.known(d.ID) {
		return true, err
	}
	_, err = m.check(&d)
	return false, err
}

// check holds a definition against the other networks and the host, of which it
// takes in what the network needs.
func (m *Manager) check(d *Definition) (wire kernel.Link, err error) {
	if err := m.findParent(d); err != nil {
		return wire, err
	}
	if err := m.checkOthers(*d); err != nil {
		return wire, err
	}
	return m.checkHost(d)
}

func (m *Manager) create(d Definition) error {
	m.change.Lock()
	defer m.change.Unlock()
	wire, err := m.check(&d) // again, after the wait
	if err != nil {
		return err
	}
	d.ParentWasDown = d.Parent != "" && !wire.Up
	if d.Mode == Bridge {
		d.UplinkMAC = wire.PermMAC.String()
	}
	if err := m.put(d); err != nil {
		return err
	}
	if err := m.ensure(d); err != nil {
		return errors.Join(err, m.abandon(d.ID))
	}
	d, _ = m.lookup(d.ID) // with what became of the host's addresses
	d.Complete, d.Unanswered = true, true
	if err := m.put(d); err != nil {
		return errors.Join(err, m.abandon(d.ID))
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
	d.Complete, d.Unanswered = old.Complete, old.Unanswered
	d.ParentWasDown, d.UplinkMAC, d.Move = old.ParentWasDown, old.UplinkMAC, old.Move
	d.Parent, d.VLAN, d.HostPort, d.Foreign = old.Parent, old.VLAN, old.HostPort, old.Foreign // what the rest led to
	if !reflect.DeepEqual(old, d) {
		return fmt.Errorf("network %s exists with other options or subnets: %w", Short(d.ID), ErrConflict)
	}
	return nil
}
