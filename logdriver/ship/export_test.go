package ship

import (
	"log/slog"
	"time"
)

// Memory is a Source in memory, for tests outside of the package: with sinks and
// routes, which this one does not know.
type Memory = memory

// NewMemory returns an empty one.
func NewMemory() *Memory { return newMemory() }

// Write appends frames.
func (m *Memory) Write(b []byte) { m.write(b) }

// Len returns how many bytes were written.
func (m *Memory) Len() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.data))
}

// NewManual returns a shipper that looks after its pools when Tick says so.
func NewManual(log *slog.Logger) *Shipper {
	s := New(log)
	s.ticks = false
	return s
}

// Tick has all pools look after themselves.
func (s *Shipper) Tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.tick(now)
	}
}
