package ship

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	// tickTime is how often a pool looks how its collectors and streams fare.
	tickTime = time.Second
	// sliceTime is for how long a split key stays with one collector. Slices are
	// counted from 1970, so that hosts with the same clock agree.
	sliceTime = 10 * time.Second
	// rateTime is over what time the rate of a stream is averaged.
	rateTime = 5 * time.Second
	// shrinkTime is for how long after it grew a key is not split less.
	shrinkTime = 30 * time.Second
)

// run looks after the pool until it ends.
func (p *pool) run() {
	t := time.NewTicker(tickTime)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-t.C:
			p.tick(now)
		}
	}
}

// tick measures streams and collectors, splits keys that are heavy, and sheds
// keys of collectors that push back.
func (p *pool) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := now.Sub(p.ticked)
	p.ticked = now
	if took <= 0 || took > time.Hour {
		return // the first one, or the clock was set
	}
	p.measureLocked(took)
	slice := uint64(now.UnixNano()) / uint64(sliceTime)
	turned := slice != p.slice
	if p.slice = slice; turned {
		p.splitLocked(now)
	}
	if p.relieveLocked(now, took) || turned && len(p.heavy) > 0 {
		p.recheckLocked()
	}
}

// measureLocked brings the rates of streams up to date.
func (p *pool) measureLocked(took time.Duration) {
	keep := math.Exp(-took.Seconds() / rateTime.Seconds())
	for f := range p.feeds {
		n := f.taken.Load()
		now := float64(n-f.counts) / took.Seconds()
		f.counts = n
		f.rate = keep*f.rate + (1-keep)*now
	}
}

// heavyKey is a key that is split.
type heavyKey struct {
	rate   float64 // bytes per second, of all streams with the key
	places int     // that it is spread over
	grew   time.Time
}

// splitLocked decides, when a time slice begins, over how many collectors each
// heavy key is spread.
func (p *pool) splitLocked(now time.Time) {
	rates, above := map[string]float64{}, map[string]float64{}
	for f := range p.feeds {
		if f.key.SplitAbove > 0 && f.units == nil {
			rates[f.key.Value] += f.rate
			above[f.key.Value] = float64(f.key.SplitAbove)
		}
	}
	for key := range p.heavy {
		if _, ok := rates[key]; !ok {
			delete(p.heavy, key)
		}
	}
	for key, rate := range rates {
		h := p.heavy[key]
		if h == nil && rate <= above[key] {
			continue
		}
		if h == nil {
			h = &heavyKey{places: 1}
			p.heavy[key] = h
		}
		if h.split(rate, above[key], p.mostLocked(), now); h.places < 2 {
			delete(p.heavy, key)
		}
	}
	for f := range p.feeds {
		if f.split != p.placesLocked(f) {
			p.owner.log.Info("a stream is spread over another number of collectors", "stream", f.id.stream, "container", f.meta.Load().ContainerName, "collectors", p.placesLocked(f), "bytes_per_second", int64(f.rate))
		}
		if p.placesLocked(f) > 1 || f.split > 1 {
			p.placeLocked(f)
		}
	}
}

// split grows with the rate at once, and shrinks some time later, when the rate
// is well below what it was split for.
func (h *heavyKey) split(rate, above float64, most int, now time.Time) {
	h.rate = rate
	want := min(int(math.Ceil(rate/above)), most)
	low := min(int(math.Ceil(1.4*rate/above)), most)
	switch {
	case want > h.places:
		h.places, h.grew = want, now
	case low < h.places && now.Sub(h.grew) >= shrinkTime || most < h.places:
		h.places = max(1, min(low, most))
	}
}

// mostLocked is over how many places a key can be spread.
func (p *pool) mostLocked() int {
	if p.places > 0 {
		return p.places
	}
	return len(p.lanes)
}

// turn picks the one of a cluster's places that has a heavy key in a time slice:
// each gets its share, and hosts that number their slices alike agree.
func turn(key string, places int, slice uint64) int64 {
	at, _ := bits.Mul64(xxhash.Sum64String(key)+slice*0x9e3779b97f4a7c15, uint64(places))
	return int64(at)
}

// splitAbove changes from which rate on a feed's key is split, from the next time
// slice on.
func (p *pool) splitAbove(f *feed, rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.key.SplitAbove = rate
}

// placesLocked returns over how many collectors a feed is spread in time slices.
func (p *pool) placesLocked(f *feed) int {
	if h := p.heavy[f.key.Value]; h != nil && f.key.SplitAbove > 0 && f.units == nil && p.share != nil {
		return h.places
	}
	return 1
}

// shareLocked puts the one whose turn it is first in the ranking of a heavy key:
// one of the first so many that take it.
func (p *pool) shareLocked(f *feed, ranking []place) {
	var names []string
	for _, r := range ranking {
		if len(names) < f.split && r.lane.healthy.Load() && !r.lane.sheds(r.draw) {
			names = append(names, r.lane.name)
		}
	}
	if len(names) < 2 {
		return
	}
	name := p.share(f.key.Value, names, p.slice)
	i := slices.IndexFunc(ranking, func(r place) bool { return r.lane.name == name })
	if i > 0 {
		first := ranking[i]
		copy(ranking[1:i+1], ranking[:i])
		ranking[0] = first
	}
}

// probe chooses what is sent first to a collector that was down: the quietest
// stream that prefers it and has anything to say, or a few records of those that
// are spread one by one. It returns false where there is nothing at stake.
func (p *pool) probe(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *feed
	spread := false
	for f := range p.feeds {
		if f.units != nil {
			spread = spread || f.rate >= 1
		} else if f.rate >= 1 && f.prefers(l) && (best == nil || f.rate < best.rate) {
			best = f
		}
	}
	l.probing.Store(best)
	switch {
	case best != nil:
		poke(p.feeds[best].turn)
	case spread:
		l.trial.Store(true)
		poke(p.sorter.turn)
	}
	return best != nil || spread
}

// prefers reports whether the feed would go to the lane if that were well.
func (f *feed) prefers(l *lane) bool {
	for _, r := range *f.ranking.Load() {
		if r.lane == l {
			return !l.sheds(r.draw)
		}
		if r.lane.healthy.Load() && !r.lane.sheds(r.draw) {
			return false
		}
	}
	return false
}
