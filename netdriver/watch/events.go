package watch

import (
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/network"
)

// Happening is a kind of Event.
type Happening string

// What happens to addresses on a wire, whichever backend gives them.
const (
	Quarantined Happening = "quarantined" // another machine has an address of a pool, which is not given out
	Freed       Happening = "freed"       // nobody answers for it any more
	Conflicting Happening = "conflict"    // another machine has the address of an endpoint
	Settled     Happening = "settled"     // there is no sign of that any more
)

// Happenings are all kinds.
var Happenings = []Happening{Quarantined, Freed, Conflicting, Settled}

// Event is one such.
type Event struct {
	At       time.Time  `json:"at"`
	What     Happening  `json:"event"`
	Network  string     `json:"network"`
	Endpoint string     `json:"endpoint,omitempty"`
	Addr     netip.Addr `json:"address"`
	MAC      string     `json:"mac"` // of the other machine
}

// maxEvents is how many are kept; the log has all.
const maxEvents = 1024

// Events returns the last ones, the oldest first, and how many there were of each
// kind.
func (m *Manager) Events() (last []Event, count map[Happening]uint64) {
	m.noted.Lock()
	defer m.noted.Unlock()
	count = map[Happening]uint64{}
	for _, what := range Happenings {
		count[what] = m.counts[what]
	}
	return slices.Clone(m.events), count
}

// note takes an event down. The caller may hold the mutex of a wire.
func (w *wire) note(what Happening, endpoint string, a netip.Addr, mac string) {
	w.m.noted.Lock()
	defer w.m.noted.Unlock()
	if len(w.m.events) == maxEvents {
		w.m.events = slices.Delete(w.m.events, 0, 1)
	}
	w.m.events = append(w.m.events, Event{
		At: time.Now(), What: what, Network: network.Short(w.id), Endpoint: network.Short(endpoint), Addr: a, MAC: mac,
	})
	if w.m.counts == nil {
		w.m.counts = map[Happening]uint64{}
	}
	w.m.counts[what]++
}
