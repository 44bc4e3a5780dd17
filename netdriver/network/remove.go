package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Delete removes a network, what was made for it, its pools, and what endpoints
// are still journalled of it. A missing one is success, and its endpoints are
// looked for all the same.
func (m *Manager) Delete(id string) error {
	return m.deleteIf(id, func(Definition) bool { return true })
}

// Remove removes a network on an operator's word that the engine does not know
// it, which cannot always be found out: see Sweep. One with a container on it is
// known to the engine. The beginning of an id is enough.
func (m *Manager) Remove(id string) error {
	d, err := m.Find(id)
	if err != nil {
		return err
	}
	begun, err := m.beginDelete(d.ID, func(d Definition) bool { return !m.ends.Joined(d.ID) })
	switch {
	case err != nil:
		return err
	case !begun:
		return fmt.Errorf("network %s: %w, so that the engine knows it: use docker network rm", Short(d.ID), ErrInUse)
	}
	m.log.Info("removing a network on an operator's word", "network", Short(d.ID))
	return m.finishDelete(d.ID)
}

// Sweep removes the networks that the engine has deleted, as far as that can be
// known: a removal was begun and did not succeed, or the engine does not know
// the pools any more and nothing is joined.
func (m *Manager) Sweep() error {
	var errs []error
	for _, d := range m.List() {
		if m.doomed(d) {
			m.log.Info("removing a network that the engine does not know any more", "network", Short(d.ID))
			errs = append(errs, m.deleteIf(d.ID, m.doomed))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) doomed(d Definition) bool {
	return d.Going || m.forsaken(d) && !m.ends.Joined(d.ID)
}

// forsaken reports whether the engine knows none of a network's pools any more.
// It asks for one after the other, and not for the second where the first failed.
func (m *Manager) forsaken(d Definition) bool {
	pools := d.prefixesIn(m.space)
	known := func(p netip.Prefix) bool { return !m.pools.Forsaken(p) }
	return len(pools) > 0 && !slices.ContainsFunc(pools, known)
}

// deleteIf goes in three steps, because an endpoint on its way may wait for
// change: from the first one on no endpoint gets onto the network, and in the
// last one there is none.
func (m *Manager) deleteIf(id string, doomed func(Definition) bool) error {
	if begun, err := m.beginDelete(id, doomed); err != nil || !begun {
		return err
	}
	return m.finishDelete(id)
}

func (m *Manager) finishDelete(id string) error {
	if err := m.ends.Forget(id); err != nil {
		return err
	}
	return m.endDelete(id)
}

func (m *Manager) beginDelete(id string, doomed func(Definition) bool) (begun bool, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	d, ok := m.lookup(id)
	if !ok || d.Going {
		return true, nil
	}
	if !doomed(d) {
		return false, nil
	}
	d.Going = true
	return true, m.put(d)
}

// endDelete forgets the network last, so that whatever fails is tried again. What
// others are told of it they are told without change: they may be slow.
func (m *Manager) endDelete(id string) error {
	d, there, err := m.dismantleGone(id)
	if err != nil || !there {
		return err
	}
	if err := m.pools.NetworkRemoved(d.prefixesIn(m.space)); err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	return m.forget(d)
}

func (m *Manager) dismantleGone(id string) (d Definition, there bool, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	if d, there = m.lookup(id); !there {
		return d, false, nil // nothing to delete
	}
	return d, true, m.dismantle(d)
}

// Discard removes the networks whose making was cut off by the end of an
// earlier process. The engine saw that CreateNetwork fail. What is left of VLAN
// sub-interfaces in the making, and moves of the host's addresses that nobody
// confirmed, are undone as well.
func (m *Manager) Discard() error {
	m.change.Lock()
	defer m.change.Unlock()
	var errs []error
	for _, d := range m.List() {
		if d.Complete {
			continue
		}
		m.log.Info("removing a network whose making was cut off", "network", Short(d.ID))
		errs = append(errs, m.abandon(d.ID))
	}
	return errors.Join(append(errs, m.sweepVLANs(), m.recoverMoves())...)
}

// abandon removes a network that could not be made. What stays of it goes with
// the next Sweep.
func (m *Manager) abandon(id string) error {
	d, _ := m.lookup(id)
	err := m.remove(d)
	if err == nil {
		return nil
	}
	d, _ = m.lookup(id)
	d.Going = true
	m.mu.Lock()
	m.all[id] = d // even if that cannot be stored: Discard finds it incomplete
	m.mu.Unlock()
	return errors.Join(err, m.put(d))
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
	return m.sweepVLANs()
}

func (m *Manager) dismantle(d Definition) error {
	switch {
	case d.Mode != Bridge:
		return m.removeHostPort(d)
	case d.Foreign:
		return nil
	}
	if err := m.giveBack(&d); err != nil {
		return err
	}
	if err := m.releaseUplink(d); err != nil {
		return err
	}
	err := m.host.DeleteBridge(d.BridgeName, m.host.NetworkAlias(d.ID))
	if errors.Is(err, kernel.ErrNotOurs) {
		m.log.Warn("left a bridge alone that is not ours any more", "network", Short(d.ID), "bridge", d.BridgeName)
		return nil
	}
	return err
}
