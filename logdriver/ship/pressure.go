package ship

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// ErrBusy means that a collector is there and takes no records for now, as HTTP's
// 429 does. A Conn whose Send or Wait ends with it counts as pushing back, not as down.
var ErrBusy = errors.New("collector is busy")

const (
	// late is from where on acknowledgements may count as slow, lateAlone where the
	// others have not shown for heardTime that they are faster, and lateFactor how
	// much slower than those of the others, and than they used to be.
	late       = time.Second
	lateAlone  = 5 * time.Second
	heardTime  = 10 * time.Second
	lateFactor = 4
	// jammed is the part of the time that a lane has all that it may have under way
	// and more to send: its backlog grows.
	jammed = 0.8
	calm   = 0.3
	// pushTicks is for how many ticks a collector has to push back before more of
	// its keys are shed, and jamTicks for how many where its backlog is all that
	// shows: bursts are usual.
	pushTicks = 5
	jamTicks  = 10
	// shedHold is how long it has to be calm before some of them return. It doubles,
	// up to maxHold, each time that they returned in vain.
	shedHold = 10 * time.Second
	inVain   = 30 * time.Second
	// allShed is the level at which all keys are shed, and firstShed that of the
	// first step.
	allShed   = 256
	firstShed = allShed / 4
)

// gauge is what a lane's goroutine measures. Times are nanoseconds since the
// lane was made.
type gauge struct {
	born    time.Time
	ackTime atomic.Int64  // average from sending a batch to its acknowledgement
	acks    atomic.Uint64 // batches
	oldest  atomic.Int64  // when the oldest batch under way was sent, 0 for none
	since   atomic.Int64  // since when the lane has been blocked, 0 if it is not
	blocked atomic.Int64  // for how long it was before
	refused atomic.Uint64 // times that the collector was busy
}

func (g *gauge) now() int64 { return int64(time.Since(g.born)) + 1 }

// block notes whether the lane is held up by its collector.
func (g *gauge) block(on bool) {
	since := g.since.Load()
	if on && since == 0 {
		g.since.Store(g.now())
	} else if !on && since != 0 {
		g.blocked.Add(g.now() - since)
		g.since.Store(0)
	}
}

// acknowledged notes how long a batch took that was sent at a time.
func (g *gauge) acknowledged(sent int64) {
	took := g.now() - sent
	if avg := g.ackTime.Load(); avg > 0 {
		took = avg + (took-avg)/8
	}
	g.ackTime.Store(took)
	g.acks.Add(1)
}

// pressure is what a pool knows of one of its lanes. It is guarded by pool.mu.
type pressure struct {
	acks    uint64
	refused uint64
	blocked int64

	wait   time.Duration // how long acknowledgements take now
	share  float64       // part of the last tick that the lane was blocked
	busy   bool          // it was refused
	usual  time.Duration // what they take in calm times; 0: not known
	heard  time.Time     // when something was acknowledged last
	streak int           // ticks in a row that it pushed back

	calmSince time.Time
	lowered   time.Time
	hold      time.Duration
}

// sample takes what was measured since the last one.
func (l *lane) sample(at time.Time, took time.Duration) {
	g, s := &l.gauge, &l.pressure
	now := g.now()
	acks, refused, blocked := g.acks.Load(), g.refused.Load(), g.blocked.Load()
	if since := g.since.Load(); since != 0 {
		blocked += now - since
	}
	s.wait = 0
	if acks != s.acks {
		s.wait, s.heard = time.Duration(g.ackTime.Load()), at
	}
	if oldest := g.oldest.Load(); oldest != 0 {
		s.wait = max(s.wait, time.Duration(now-oldest))
	}
	s.busy = refused != s.refused
	s.share = min(1, float64(blocked-s.blocked)/float64(took))
	s.acks, s.refused, s.blocked = acks, refused, blocked
}

// pushes says why the lane's collector counts as pushing back beside the others:
// "" if it does not. When half of the others or more are as slow, it does not.
// ticks is for how long it has to be so.
func (l *lane) pushes(others []*lane, now time.Time) (why string, ticks int) {
	s := &l.pressure
	wait := median(others, func(o *lane) float64 { return float64(o.pressure.wait) })
	busy := median(others, func(o *lane) float64 {
		if o.pressure.busy {
			return 1
		}
		return 0
	})
	share := median(others, func(o *lane) float64 { return o.pressure.share })
	idle := median(others, func(o *lane) float64 { return now.Sub(o.pressure.heard).Seconds() })
	floor := late
	if idle > heardTime.Seconds() {
		floor = lateAlone
	}
	switch {
	case s.busy && busy < 1:
		return "it refuses records", 1
	case s.wait > floor && float64(s.wait) > lateFactor*wait && s.wait > lateFactor*s.usual:
		return "it acknowledges slowly", pushTicks
	case s.share >= jammed && share < jammed/2:
		return "its backlog grows", jamTicks
	}
	return "", 0
}

// calm reports whether the collector is well again, which takes more than not to
// push back.
func (l *lane) calm(others []*lane) bool {
	s := &l.pressure
	wait := time.Duration(median(others, func(o *lane) float64 { return float64(o.pressure.wait) }))
	return !s.busy && s.share < calm && s.wait < max(late/2, lateFactor/2*wait, lateFactor/2*s.usual)
}

func median(lanes []*lane, of func(*lane) float64) float64 {
	var all []float64
	for _, l := range lanes {
		all = append(all, of(l))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}

// relieveLocked sheds keys of collectors that push back, more the longer they do,
// and lets them return. It reports whether any may have to move.
func (p *pool) relieveLocked(now time.Time, took time.Duration) (changed bool) {
	var well []*lane
	for _, l := range p.lanes {
		l.sample(now, took)
		if l.healthy.Load() {
			well = append(well, l)
		}
	}
	slices.SortFunc(well, func(a, b *lane) int { return cmp.Compare(a.name, b.name) })
	for i, l := range well {
		others := slices.Concat(well[:i], well[i+1:])
		if p.judgeLocked(l, others, now) {
			changed = true
		}
	}
	return changed
}

func (p *pool) judgeLocked(l *lane, others []*lane, now time.Time) (changed bool) {
	s := &l.pressure
	why, ticks := l.pushes(others, now)
	if len(others) == 0 {
		why = "" // there is nobody else
	}
	if why == "" {
		s.streak = 0
		if s.acks > 0 && s.wait > 0 {
			s.learn()
		}
		return p.returnLocked(l, others, now)
	}
	s.calmSince = time.Time{}
	if s.streak++; s.streak < ticks {
		return false
	}
	s.streak = 0
	return p.shedLocked(l, why, now)
}

// learn brings what is usual up to date: fast where it is not known yet.
func (s *pressure) learn() {
	if s.usual == 0 {
		s.usual = s.wait
	}
	s.usual += (s.wait - s.usual) / 64
}

// shedLocked has the collector shed more keys, at least one that it has.
func (p *pool) shedLocked(l *lane, why string, now time.Time) bool {
	level := l.level.Load()
	next, least := min(max(2*level, firstShed), allShed), uint32(math.MaxUint32)
	for f, at := range p.feeds {
		if f.units != nil {
			least = min(least, level)
		} else if at == l {
			for _, r := range *f.ranking.Load() {
				if r.lane == l && uint32(r.draw) >= level {
					least = min(least, uint32(r.draw))
				}
			}
		}
	}
	if least >= allShed {
		return false // it has nothing left to shed
	}
	s := &l.pressure
	switch {
	case !s.lowered.IsZero() && now.Sub(s.lowered) < inVain:
		s.hold = min(2*s.hold, maxHold)
	case level == 0:
		s.hold = shedHold
	}
	s.lowered = time.Time{}
	l.level.Store(max(next, least+1))
	p.owner.Stats.Pushbacks.Add(1)
	l.log.Warn("collector pushes back; some of its streams go to the next in rank", "why", why, "shed", l.shed(), "acknowledges_after", s.wait)
	return true
}

// returnLocked lets keys return to a collector that has been calm for long enough.
func (p *pool) returnLocked(l *lane, others []*lane, now time.Time) bool {
	s := &l.pressure
	level := l.level.Load()
	if level == 0 || !l.calm(others) {
		s.calmSince = time.Time{}
		return false
	}
	if s.calmSince.IsZero() {
		s.calmSince = now
	}
	if now.Sub(s.calmSince) < s.hold {
		return false
	}
	s.calmSince, s.lowered = now, now
	if level /= 2; level < firstShed {
		level = 0
		l.log.Info("collector takes all of its streams again")
	}
	l.level.Store(level)
	return true
}

// sheds reports whether keys of that draw go to the next in rank.
func (l *lane) sheds(draw uint8) bool { return uint32(draw) < l.level.Load() }

// shed is the part of all keys that the collector sheds.
func (l *lane) shed() float64 { return float64(l.level.Load()) / allShed }
