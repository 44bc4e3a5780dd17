package probe

import (
	"net/netip"
	"time"
)

// Buckets are the upper bounds of the round trips' histogram, in seconds: from
// what a switch takes to what is lost.
var Buckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1}

// Stats count what became of the questions to one target.
type Stats struct {
	Network  string
	Addr     netip.Addr
	Protocol Protocol

	Sent, Lost uint64    // lost are those without an answer within a second, or that could not be sent
	Success    time.Time // of the last answer; zero: there was none

	Answered uint64
	Sum      time.Duration      // of the round trips
	Below    map[float64]uint64 // how many took up to each of Buckets
	Jitter   time.Duration      // sum of the differences of one round trip to the next
	Jitters  uint64             // how many there are
}

func (s *Stats) note(rtt time.Duration, now time.Time) {
	if s.Below == nil {
		s.Below = map[float64]uint64{}
	}
	s.Success = now
	s.Answered++
	s.Sum += rtt
	for _, b := range Buckets {
		if rtt.Seconds() <= b {
			s.Below[b]++
		}
	}
}

// All is what there is of all targets.
type All struct {
	Targets []Stats
	LeftOut int           // targets that are not asked, because there are too many
	Every   time.Duration // how often each is asked
}

// Stats says what became of all questions.
func (m *Manager) Stats() All {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := All{LeftOut: m.leftOut, Every: m.cfg.Every}
	round := map[Protocol]time.Duration{}
	for _, t := range m.order {
		round[t.protocol] += gaps[t.protocol]
		all.Every = max(all.Every, round[t.protocol])
		s := t.stats
		s.Network, s.Addr, s.Protocol = t.network, t.addr, t.protocol
		s.Below = map[float64]uint64{}
		for _, b := range Buckets {
			s.Below[b] = t.stats.Below[b]
		}
		all.Targets = append(all.Targets, s)
	}
	return all
}
