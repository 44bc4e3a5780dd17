package ipam

import (
	"net/netip"
	"time"
)

// epoch is the time from one registration of the driver to the next. Replays
// are believed while it is open.
type epoch struct {
	number  uint64
	open    bool
	replays int // pools replayed in it
}

// Registered says that the engine has registered the driver: it has started,
// or has enabled the plugin.
func (m *Manager) Registered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch = epoch{number: m.epoch.number + 1, open: true}
	for _, p := range m.pools {
		p.blank = len(p.given) == 0
	}
}

// ReplayOver says that the engine has asked for something that no replay
// contains and that it asks for only when the replay is over.
func (m *Manager) ReplayOver() {
	defer m.settleSoon()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closeEpochLocked()
}

// Forsaken reports whether the engine does not know the pool of that prefix
// any more.
func (m *Manager) Forsaken(prefix netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix == prefix {
			return p.Missed >= lostAfter || p.Released && m.cfg.Now().Sub(p.released) > removalTime
		}
	}
	return false
}

// LetGo reports whether the engine has released the pool of that prefix just
// now, with a network of ours on it, and asked for nothing of it since.
func (m *Manager) LetGo(prefix netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix == prefix && !p.LetGo.IsZero() {
			age := m.cfg.Now().Sub(p.LetGo)
			return age >= 0 && age <= removalTime
		}
	}
	return false
}

// knownLocked notes that the engine knows a pool.
func (m *Manager) knownLocked(p *pool) error {
	p.used = m.epoch.number
	used := p.Used || m.cfg.Bound(p.Pool)
	if p.Missed == 0 && !p.Released && p.LetGo.IsZero() && used == p.Used {
		return nil
	}
	p.Missed, p.Released, p.LetGo, p.Used = 0, false, time.Time{}, used
	return m.putPoolLocked(p.Pool)
}

// closeEpochLocked ends the time of replays and counts what was not replayed.
// Without a single replayed pool there is nothing to count: then it was the
// plugin that was restarted, not the engine.
func (m *Manager) closeEpochLocked() {
	if !m.epoch.open {
		return
	}
	m.epoch.open = false
	if m.epoch.replays == 0 {
		return
	}
	for _, p := range m.pools {
		switch {
		case p.replayed == m.epoch.number:
			m.missAddressesLocked(p)
		case p.used != m.epoch.number:
			m.missPoolLocked(p)
		}
	}
}

// missPoolLocked lets go of a pool that was missed too often. One that a
// network is on goes with that (see Forsaken).
func (m *Manager) missPoolLocked(p *pool) {
	p.Missed = min(p.Missed+1, lostAfter)
	var err error
	if p.Missed < lostAfter || m.cfg.Bound(p.Pool) {
		err = m.putPoolLocked(p.Pool)
	} else {
		m.cfg.Log.Info("let go of a pool that the engine does not know any more", "pool", p.ID)
		err = m.dropPoolLocked(p)
	}
	if err != nil {
		m.cfg.Log.Warn("could not let go of a pool", "pool", p.ID, "err", err)
	}
}

// missAddressesLocked lets go of the addresses of another driver's network that
// were missed too often. On a network of our own, endpoints say what is needed
// (see orphanLocked).
func (m *Manager) missAddressesLocked(p *pool) {
	if m.cfg.Bound(p.Pool) {
		return
	}
	for _, g := range p.given {
		if g.confirmed == m.epoch.number {
			continue
		}
		if g.Missed++; g.Missed >= lostAfter {
			m.forgetAddressLocked(p, g)
		} else if err := m.putAddressLocked(g); err != nil {
			m.cfg.Log.Warn("could not note that an address was not replayed", "pool", p.ID, "address", g.Addr, "err", err)
		}
	}
}

func (m *Manager) forgetAddressLocked(p *pool, g *given) {
	m.cfg.Log.Info("let go of an address that the engine does not know any more", "pool", p.ID, "address", g.Addr)
	if err := m.dropAddressLocked(p, g.Addr); err != nil {
		m.cfg.Log.Warn("could not let go of an address", "pool", p.ID, "address", g.Addr, "err", err)
	}
}
