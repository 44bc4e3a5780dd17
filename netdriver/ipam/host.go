package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// ReserveForHost takes an address of a pool for the host itself, the one named
// or, where that is invalid, the first free one. It goes with the pool, as a
// gateway does.
func (m *Manager) ReserveForHost(prefix netip.Prefix, addr netip.Addr) (netip.Addr, error) {
	id, err := m.freeForHost(prefix, addr)
	if err != nil {
		return netip.Addr{}, err
	}
	given, err := m.RequestAddress(id, AddressRequest{Addr: addr, Gateway: true, Host: true})
	return given.Addr(), err
}

// freeForHost returns the pool's id, unless the address is one that the host has
// on another interface or that a network has set aside.
func (m *Manager) freeForHost(prefix netip.Prefix, addr netip.Addr) (id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		if p.Prefix != prefix {
			continue
		}
		if addr.IsValid() {
			err = errors.Join(m.checkOurs(addr), m.checkHost(addr))
		}
		return p.ID, err
	}
	return "", fmt.Errorf("pool %s: %w", prefix, ErrNoPool)
}
