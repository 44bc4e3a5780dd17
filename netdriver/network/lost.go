package network

import (
	"maps"
	"slices"
)

// Two calls of the engine are not repeated when this process dies before it has
// answered them: the engine takes its own way, and what the next process is told
// is only that there was such a call (see ErrEmptyBody in pluginserver). A
// CreateNetwork then failed for the engine, though all may be made; and after a
// DeleteNetwork the engine does not know the network any more, though nothing
// may be removed. Where it cannot be another one, the network meant is removed.

// doubt is what an earlier process began to make and the engine may not know.
type doubt struct {
	unanswered []string // networks that are complete
	others     int      // those that are not, which Discard removes
}

func newDoubt(all map[string]Definition) (d doubt) {
	for _, id := range slices.Sorted(maps.Keys(all)) {
		switch n := all[id]; {
		case !n.Complete:
			d.others++
		case n.Unanswered && !n.Going:
			d.unanswered = append(d.unanswered, id)
		}
	}
	return d
}

// Answered says whether the engine was told that a network is made. One of which
// it cannot be told is not made for the engine.
func (m *Manager) Answered(id string, told bool) {
	if d, ok := m.lookup(id); !ok || !d.Unanswered {
		return
	}
	m.change.Lock()
	defer m.change.Unlock()
	d, ok := m.lookup(id)
	switch {
	case !ok || !d.Unanswered || d.Going:
	case told:
		d.Unanswered = false
		if err := m.put(d); err != nil {
			m.log.Warn("could not note that the engine knows a network", "network", Short(id), "err", err)
		}
	default:
		m.giveUp(d, "removing a network: the engine has gone before it could be told of it")
	}
}

// CreateCutOff says that an earlier process died before it answered a
// CreateNetwork.
func (m *Manager) CreateCutOff() {
	m.change.Lock()
	defer m.change.Unlock()
	if len(m.doubt.unanswered) != 1 || m.doubt.others > 0 {
		return // it may be another one: the engine releases the pools of the one meant
	}
	d, ok := m.lookup(m.doubt.unanswered[0])
	if ok && d.Unanswered && !d.Going && !m.ends.Joined(d.ID) {
		m.giveUp(d, "removing a network that the engine gave up, because the answer was cut off")
	}
	m.doubt = doubt{}
}

// DeleteCutOff says that an earlier process died before it answered a
// DeleteNetwork. The engine has released the network's pools just before.
func (m *Manager) DeleteCutOff() {
	m.change.Lock()
	defer m.change.Unlock()
	var left []Definition
	for _, d := range m.List() {
		if !d.Going && slices.ContainsFunc(d.prefixesIn(m.space), m.pools.LetGo) && !m.ends.Joined(d.ID) {
			left = append(left, d)
		}
	}
	if len(left) == 1 {
		m.giveUp(left[0], "removing a network that the engine has removed, because the request was cut off")
	}
}

// giveUp has the next Sweep remove a network; change is held.
func (m *Manager) giveUp(d Definition, why string) {
	m.log.Info(why, "network", Short(d.ID))
	d.Going = true
	if err := m.put(d); err != nil {
		m.log.Warn("could not note that a network is to be removed", "network", Short(d.ID), "err", err)
	}
}
