package kafka

import (
	"sync"
	"time"
)

const (
	// missingTime is for how long brokers have to say that there is no such topic, or
	// that it is not for us, until that is believed: those that have just begun, or
	// whose controller has, know of no topic or right for a moment.
	missingTime = 10 * time.Second
	// maxMissing bounds how many topics are remembered.
	maxMissing = 4096
)

// missing are the topics that brokers say there are not, and since when.
type missing struct {
	mu    sync.Mutex // guards since
	since map[string]time.Time
}

// gone reports whether a topic, which has failed now, is believed to be away. What
// waits for that must not outlast the timeout of a connection that does nothing.
func (m *missing) gone(topic string, timeout time.Duration, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, known := m.since[topic]
	if !known {
		if m.since == nil || len(m.since) >= maxMissing {
			m.since = map[string]time.Time{}
		}
		m.since[topic] = now
		return false
	}
	return now.Sub(first) >= min(missingTime, timeout/3)
}

// seen forgets the topics of which something was taken.
func (m *missing) seen(b *batch, entries []int, failed []failure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.since) == 0 {
		return
	}
	for _, n := range entries {
		if len(failed) > 0 && failed[0].entry == n {
			failed = failed[1:]
			continue
		}
		delete(m.since, b.entries[n].template.topic)
	}
}
