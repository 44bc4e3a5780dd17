package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
)

// undo gives the uplink back what it carried, for good. What does not work is
// tried again by the next reconcile.
func (m *Manager) undo(d Definition, why string) error {
	if err := m.returnHost(d, d.Move.Config, why); err != nil {
		return err
	}
	m.log.Warn("the host's addresses are back on the uplink", "network", Short(d.ID), "uplink", d.Parent, "why", why)
	return nil
}

// returnHost ends a move; the state says so before and after.
func (m *Manager) returnHost(d Definition, config kernel.HostConfig, why string) error {
	mv := *d.Move
	mv.State, mv.Config, mv.Why = Returning, config, why
	d.Move = &mv
	// Even if that cannot be stored: what is says Moving or Moved, and both lead here.
	stored := m.put(d)
	if err := m.returnSteps(d); err != nil {
		m.wakeMoves()
		return errors.Join(stored, fmt.Errorf("give the host's addresses back to %q: %w", d.Parent, err))
	}
	done := mv
	done.State = Undone
	d.Move = &done
	return m.put(d)
}

// returnSteps can be repeated. An uplink that is gone, or that somebody gave
// another use, needs nothing back.
func (m *Manager) returnSteps(d Definition) error {
	_, err := m.host.ReleasePort(d.Parent, d.BridgeName, m.host.NetworkAlias(d.ID))
	if err != nil {
		return err
	}
	uplink, err := m.host.Link(d.Parent)
	switch {
	case errors.Is(err, kernel.ErrNoLink), err == nil && uplink.Master != 0:
		m.log.Warn("cannot give an uplink the host's addresses back: it is gone, or has another use", "network", Short(d.ID), "uplink", d.Parent)
		return nil
	case err != nil:
		return err
	}
	if err := m.host.SetUp(d.Parent); err != nil {
		return err
	}
	from := d.BridgeName
	if b, err := m.host.Link(from); err != nil || b.Alias != m.host.NetworkAlias(d.ID) {
		from = "" // there is nothing of ours to take from
	}
	return m.transfer(d.Move.Config, from, d.Parent)
}

// giveBack ends a move because its network ends: the uplink gets what the bridge
// carries by now.
func (m *Manager) giveBack(d *Definition) error {
	mv := d.Move
	if mv == nil || mv.State == Undone || mv.State == Agreed || mv.Boot != m.boot {
		return nil
	}
	config := mv.Config
	if mv.State == Moved && mv.Confirmed {
		now, err := m.host.HostConfig(d.BridgeName)
		if err == nil || errors.Is(err, kernel.ErrUnmovable) {
			config = now
		}
	}
	return m.returnHost(*d, config, "its network was removed")
}

// recoverMoves undoes at a start what an earlier process left unconfirmed or
// half done.
func (m *Manager) recoverMoves() error {
	var errs []error
	for _, d := range m.List() {
		mv := d.Move
		if mv == nil || d.Going || mv.State == Undone || mv.State == Agreed || mv.State == Moved && mv.Confirmed {
			continue
		}
		const why = "the plugin ended before it was confirmed"
		if mv.Boot == m.boot {
			if err := m.undo(d, why); err != nil {
				errs = append(errs, err) // and again in a second
				continue
			}
		}
		done := *mv
		done.State, done.Why = Undone, why
		if mv.Confirmed {
			done.State = Agreed
		}
		d.Move = &done
		errs = append(errs, m.put(d))
	}
	return errors.Join(errs...)
}

// Confirm agrees to the move of a network's host addresses, so that it stays.
// The id may be a beginning of it, as the engine's command line shows.
func (m *Manager) Confirm(id string) error {
	m.change.Lock()
	defer m.change.Unlock()
	d, err := m.Find(id)
	if err != nil {
		return err
	}
	switch mv := d.Move; {
	case mv == nil:
		return fmt.Errorf("network %s: there is nothing to confirm, no address of the host was moved", Short(d.ID))
	case mv.State != Moved:
		return fmt.Errorf("network %s: %w (%s); to try again remove the network and make it again", Short(d.ID), ErrUndone, mv.Why)
	}
	mv := *d.Move
	mv.Confirmed, mv.Until = true, time.Time{}
	d.Move = &mv
	if err := m.put(d); err != nil {
		return err
	}
	m.log.Info("the move of the host's addresses is confirmed", "network", Short(d.ID), "uplink", d.Parent, "bridge", d.BridgeName)
	return nil
}

func (m *Manager) wakeMoves() {
	select {
	case m.moved <- struct{}{}:
	default: // it looks anyway
	}
}

// WatchMoves undoes moves that nobody confirms in time, and those that are
// unconfirmed when ctx ends: nobody would undo them later.
func (m *Manager) WatchMoves(ctx context.Context) error {
	for {
		next := m.undoUntil(time.Now())
		wait, stop := after(next)
		select {
		case <-ctx.Done():
			stop()
			return m.undoAll()
		case <-m.moved:
		case <-wait:
		}
		stop()
	}
}

// after fires at a time; never at the zero one.
func after(t time.Time) (<-chan time.Time, func()) {
	if t.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(t))
	return timer.C, func() { timer.Stop() }
}

// undoRetry is how soon a return that did not succeed is tried again.
const undoRetry = time.Second

// undoUntil undoes what is due and returns when the next one is.
func (m *Manager) undoUntil(now time.Time) (next time.Time) {
	m.change.Lock()
	defer m.change.Unlock()
	for _, d := range m.List() {
		mv := d.Move
		if mv == nil || mv.State != Returning && (mv.State != Moved || mv.Confirmed) {
			continue
		}
		until := mv.Until
		if mv.State == Returning || !until.After(now) {
			err := m.undo(d, fmt.Sprintf("it was not confirmed within %s", d.ConfirmWithin))
			if err == nil {
				continue
			}
			m.log.Error("the host's addresses are not all back on the uplink; trying again", "network", Short(d.ID), "err", err)
			until = now.Add(undoRetry)
		}
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return next
}

func (m *Manager) undoAll() error {
	m.change.Lock()
	defer m.change.Unlock()
	var errs []error
	for _, d := range m.List() {
		if mv := d.Move; mv != nil && mv.State == Moved && !mv.Confirmed {
			errs = append(errs, m.undo(d, "the plugin was stopped before it was confirmed"))
		}
	}
	return errors.Join(errs...)
}
