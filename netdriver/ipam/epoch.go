package ipam

import "net/netip"

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
}

// NetworkCreated says that the engine has made a network, which no replay contains.
func (m *Manager) NetworkCreated() { m.ReplayOver() }

// ReplayOver says that the engine has asked for something that no replay
// contains and that it asks for only when the replay is over.
func (m *Manager) ReplayOver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closeEpochLocked()
}

// NetworkRefused says that a network was refused because another one of ours
// lives on the same pool of our space. The engine now releases what it took
// for it; that must not take the pool from under the other network.
func (m *Manager) NetworkRefused(prefix netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix != prefix {
			continue
		}
		p.absorb = true
		if !p.fresh && p.replayed == m.epoch.number {
			p.replayed = 0 // it was no replay, and nothing may be concluded from it
			m.epoch.replays--
		}
	}
}

// closeEpochLocked ends the time of replays and lets go of what the engine
// turned out not to know. Without a single replayed pool nothing is concluded:
// then it was the plugin that was restarted, not the engine.
func (m *Manager) closeEpochLocked() {
	if !m.epoch.open {
		return
	}
	m.epoch.open = false
	if m.epoch.replays == 0 {
		return
	}
	for _, p := range m.pools {
		if p.replayed != m.epoch.number {
			m.forgetPoolLocked(p)
			continue
		}
		for _, g := range p.given {
			if g.confirmed != m.epoch.number {
				m.forgetAddressLocked(p, g)
			}
		}
	}
}

func (m *Manager) forgetPoolLocked(p *pool) {
	if m.cfg.Bound(p.Pool) {
		return
	}
	m.cfg.Log.Info("let go of a pool that the engine does not know any more", "pool", p.ID)
	if err := m.dropPoolLocked(p); err != nil {
		m.cfg.Log.Warn("could not let go of a pool", "pool", p.ID, "err", err)
	}
}

func (m *Manager) forgetAddressLocked(p *pool, g *given) {
	if m.cfg.Bound(p.Pool) && m.cfg.Held(g.Addr) {
		return
	}
	m.cfg.Log.Info("let go of an address that the engine does not know any more", "pool", p.ID, "address", g.Addr)
	if err := m.dropAddressLocked(p, g.Addr); err != nil {
		m.cfg.Log.Warn("could not let go of an address", "pool", p.ID, "address", g.Addr, "err", err)
	}
}

// Fresh reports whether the pool of that prefix was made since the last
// registration and not replayed: no network from before can have it.
func (m *Manager) Fresh(prefix netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix == prefix {
			return p.fresh
		}
	}
	return false
}
