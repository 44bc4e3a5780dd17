package wire

import (
	"sync"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
)

// RuneEnd returns where to cut s, at most at n, so that no rune is divided.
func RuneEnd(s []byte, n int) int {
	for at := n; at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(s[at]) {
			return at
		}
	}
	return n
}

// Misfits are the records of a connection that no message has room for. They
// are refused when what they were in a batch with is acknowledged.
type Misfits struct {
	mu   sync.Mutex // guards all
	all  []ship.Refusal
	in   []uint64 // the number of the batch that each was in, from 1
	told uint64   // batches that Wait has told
}

// Add notes one that belongs to the batch with this number, counted from 1.
func (m *Misfits) Add(batch uint64, r ship.Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all, m.in = append(m.all, r), append(m.in, batch)
}

// Tell notes how many batches Wait returns as acknowledged.
func (m *Misfits) Tell(acked uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = acked
}

// Refused is ship.Refuser's.
func (m *Misfits) Refused() []ship.Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.in) && m.in[n] <= m.told {
		n++
	}
	refused := m.all[:n:n]
	m.all, m.in = m.all[n:], m.in[n:]
	return refused
}
