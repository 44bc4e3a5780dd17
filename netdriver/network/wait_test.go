package network

import (
	"errors"
	"net/netip"
	"testing"
)

// Others, a DHCP server among them, may take as long as the engine waits. What
// concerns other networks goes on meanwhile.
func TestNobodyWaitsForOthersServers(t *testing.T) {
	for call, do := range map[string]func(m *Manager) error{
		"drop the pools": func(m *Manager) error { return m.Delete("n") },
		"reserve": func(m *Manager) error {
			return m.Create(Definition{ID: "new", Mode: Macvlan, Rule: &ParentRule{Names: []string{"nic0"}}, HostAccess: true, Pools: []Pool{{Space: "ours", Prefix: netip.MustParsePrefix("10.2.0.0/24")}}})
		},
	} {
		t.Run(call, func(t *testing.T) {
			f := newFaulty()
			f.waits, f.held, f.fails = call, make(chan struct{}), call
			if call == "reserve" {
				delete(f.all, "n") // which has the interface
			}
			m := f.start(t)
			done := make(chan error)
			go func() { done <- do(m) }()
			select {
			case <-f.held:
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			}
			if !m.change.TryLock() {
				t.Error("nothing of another network can be changed meanwhile")
			} else {
				m.change.Unlock()
			}
			f.held <- struct{}{}
			if err := <-done; !errors.Is(err, errFault) {
				t.Error(err)
			}
		})
	}
}
