package ship

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// pool is a Pool in use.
type pool struct {
	id     string
	owner  *Shipper
	ctx    context.Context // ends with the pool
	cancel context.CancelFunc
	nobody *lane   // where streams wait that no collector takes
	sorter *sorter // of streams whose records go to several collectors; nil before the first

	mu      sync.Mutex // guards what follows; taken while Shipper.mu is held, before any lane.mu
	rank    func(string) []string
	share   func(string, []string, uint64) string
	among   func([]string) func([]byte) string
	places  int              // of a cluster's own; 0: the lanes
	lanes   map[string]*lane // of its collectors, by name
	leaving map[*lane]struct{}
	feeds   map[*feed]*lane // whose feed it is
	heavy   map[string]*heavyKey
	slice   uint64 // of time
	ticked  time.Time
}

// errNobody means that there is no collector to connect to.
var errNobody = errors.New("the pool has no collector that takes records")

type nobody struct{}

func (nobody) Prepare(*Meta) Template             { return nil }
func (nobody) Dial(context.Context) (Conn, error) { return nil, errNobody }
func (nobody) Limits() Limits                     { return Limits{} }

func (s *Shipper) newPool(p Pool) *pool {
	pl := &pool{id: p.ID, owner: s, lanes: map[string]*lane{}, leaving: map[*lane]struct{}{}, feeds: map[*feed]*lane{}, heavy: map[string]*heavyKey{}}
	pl.ctx, pl.cancel = context.WithCancel(s.ctx)
	pl.nobody = pl.start(Collector{Sink: nobody{}})
	pl.update(p)
	if s.ticks {
		s.lanes.Go(pl.run)
	}
	return pl
}

// start makes a lane and has it run.
func (p *pool) start(c Collector) *lane {
	ctx, cancel := context.WithCancel(p.ctx)
	l := newLane(c, p.owner.log, &p.owner.Stats, p)
	l.end, l.counts = cancel, p.owner.countsOf(c.Name)
	p.owner.lanes.Go(func() { l.run(ctx) })
	return l
}

// update takes over the collectors of a Pool.
func (p *pool) update(to Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rank = to.Rank
	old := p.lanes
	p.lanes = map[string]*lane{}
	for _, c := range to.Collectors {
		l := old[c.Name]
		if l == nil || l.id != c.ID {
			l = p.start(c)
		} else {
			delete(old, c.Name)
		}
		p.lanes[c.Name] = l
	}
	for _, l := range old {
		l.leaving.Store(true)
		p.leaving[l] = struct{}{}
	}
	p.share, p.among, p.places = to.Share, to.Among, to.Places
	for f := range p.feeds {
		p.placeLocked(f)
	}
	p.reapLocked()
	p.recheckLocked()
}

// placeLocked ranks the pool's collectors for a feed.
func (p *pool) placeLocked(f *feed) {
	if f.units != nil {
		f.split = 1
		f.ranking.Store(&[]place{{lane: p.sorter.lane}})
		return
	}
	var ranking []place
	for _, name := range p.rank(f.key.Value) {
		if l := p.lanes[name]; l != nil {
			ranking = append(ranking, place{l, draw(f.key.Value, name)})
		}
	}
	if len(ranking) == 0 {
		ranking = append(ranking, place{lane: p.nobody})
	}
	f.place.Store(0)
	if f.split = p.placesLocked(f); f.split > 1 && p.places > 0 {
		f.place.Store(turn(f.key.Value, f.split, p.slice))
	} else if f.split > 1 {
		p.shareLocked(f, ranking)
	}
	f.ranking.Store(&ranking)
}

// add gives a feed its first lane.
func (p *pool) add(f *feed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.units != nil && p.sorter == nil {
		p.startSorterLocked()
	}
	p.placeLocked(f)
	p.assignLocked(f, f.home())
}

func (p *pool) assignLocked(f *feed, l *lane) {
	p.feeds[f] = l
	f.lane.Store(l)
}

// move gives a feed the lane that it belongs to now.
func (p *pool) move(f *feed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.feeds[f]; ok {
		p.assignLocked(f, f.home())
		p.reapLocked()
	}
}

// remove takes a feed out. With the last one it ends the pool and reports so.
// Shipper.mu is held: nothing is added meanwhile.
func (p *pool) remove(f *feed) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.feeds, f)
	p.reapLocked()
	if len(p.feeds) == 0 {
		p.cancel()
		return true
	}
	return false
}

func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reapLocked()
}

// reapLocked ends the lanes of former collectors that have no feed and no parcel
// any more. None gets one again: they are in no ranking.
func (p *pool) reapLocked() {
	if len(p.leaving) == 0 {
		return
	}
	used := map[*lane]struct{}{}
	for _, l := range p.feeds {
		used[l] = struct{}{}
	}
	for l := range p.leaving {
		if _, ok := used[l]; !ok && l.load.Load() == 0 {
			delete(p.leaving, l)
			l.end()
		}
	}
}

// recheck has every lane look whether its feeds have a better place.
func (p *pool) recheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recheckLocked()
}

func (p *pool) recheckLocked() {
	if len(p.heavy) > 0 {
		for f := range p.feeds {
			if f.split > 1 {
				p.placeLocked(f)
			}
		}
	}
	for _, l := range p.lanes {
		poke(l.turn)
	}
	for l := range p.leaving {
		poke(l.turn)
	}
	poke(p.nobody.turn)
	if p.sorter != nil {
		poke(p.sorter.turn)
	}
}

// status returns the collectors, those that are leaving included.
func (p *pool) status() []CollectorStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	streams := map[*lane]int{}
	for _, l := range p.feeds {
		streams[l]++
	}
	var all []CollectorStatus
	for _, l := range slices.AppendSeq(slices.Collect(maps.Values(p.lanes)), maps.Keys(p.leaving)) {
		_, leaving := p.leaving[l]
		l.counts.used.Store(time.Now().UnixNano())
		all = append(all, CollectorStatus{
			Pool: p.id, Name: l.name, Healthy: l.healthy.Load(), Trouble: l.trouble.Load(), Leaving: leaving, Streams: streams[l],
			Shed: l.shed(), AckTime: time.Duration(l.gauge.ackTime.Load()),
		})
	}
	return all
}
