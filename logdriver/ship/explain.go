package ship

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Rank is one place of a key's ranking, as the pool sees it now.
type Rank struct {
	Collector string
	Healthy   bool
	Sheds     bool    // it pushes back, and this key is among those that it is relieved of
	Shed      float64 // part of all keys that it is relieved of
}

// Explain returns the ranking of a key in a pool, best first, which of the places
// has it now (-1: none), and over how many it is spread in time slices because it
// is heavy. ok says that the pool is in use: there is nothing to say of others.
func (s *Shipper) Explain(pool, key string) (ranks []Rank, at, split int, ok bool) {
	s.mu.Lock()
	p := s.pools[pool]
	s.mu.Unlock()
	if p == nil {
		return nil, -1, 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.rank(key) {
		if l := p.lanes[name]; l != nil {
			ranks = append(ranks, Rank{name, l.healthy.Load(), l.sheds(draw(key, name)), l.shed()})
		}
	}
	split = 1
	if h := p.heavy[key]; h != nil {
		split = h.places
	}
	return ranks, home(ranks), split, true
}

// home is feed.home for a key that no feed may have.
func home(ranks []Rank) int {
	at := slices.IndexFunc(ranks, func(r Rank) bool { return r.Healthy && !r.Sheds })
	if at < 0 {
		at = slices.IndexFunc(ranks, func(r Rank) bool { return r.Healthy })
	}
	if at < 0 && len(ranks) > 0 {
		at = 0
	}
	return at
}

// draw decides at which level of pressure a collector is relieved of a key.
func draw(key, collector string) uint8 {
	return uint8(xxhash.Sum64String(key+"\x00"+collector) >> 56)
}
