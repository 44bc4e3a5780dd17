package watch

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Status is what is known of one network's wire.
type Status struct {
	Network   string       `json:"network"`
	Fault     string       `json:"fault,omitempty"` // why nothing is known
	Free      []netip.Addr `json:"reserve"`         // known to be free
	Used      []Used       `json:"in_use"`          // by other machines, not given out
	Conflicts []Conflict   `json:"conflicts"`
	Live      []Live       `json:"endpoints"`
}

// Used is an address of a pool that another machine has.
type Used struct {
	Addr  netip.Addr `json:"address"`
	MAC   string     `json:"mac"`
	Since time.Time  `json:"since"`
	Heard time.Time  `json:"heard"`
}

// Live is an address of an endpoint in a sandbox.
type Live struct {
	Endpoint string     `json:"endpoint"`
	Addr     netip.Addr `json:"address"`
	Answered time.Time  `json:"answered,omitzero"` // when it last said that it is there
}

// Status says what is known of all wires.
func (m *Manager) Status() []Status {
	var all []Status
	for _, w := range m.index.Load().wires {
		all = append(all, w.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Network, b.Network) })
	return all
}

func (w *wire) status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{Network: w.id, Fault: w.fault, Free: []netip.Addr{}, Used: []Used{}, Conflicts: []Conflict{}, Live: []Live{}}
	for a, f := range w.facts {
		switch {
		case f.free():
			s.Free = append(s.Free, a)
		case f.mac != nil:
			s.Used = append(s.Used, Used{Addr: a, MAC: f.mac.String(), Since: f.since, Heard: f.heard})
		}
	}
	for a, l := range w.lives {
		s.Live = append(s.Live, Live{Endpoint: l.endpoint, Addr: a, Answered: l.answered})
		if l.conflict != nil {
			s.Conflicts = append(s.Conflicts, *l.conflict)
		}
	}
	slices.SortFunc(s.Free, netip.Addr.Compare)
	slices.SortFunc(s.Used, func(a, b Used) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.Conflicts, func(a, b Conflict) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.Live, func(a, b Live) int { return a.Addr.Compare(b.Addr) })
	return s
}
