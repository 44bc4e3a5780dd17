package dispatch

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/spool"
)

// going is a stream on its way to a pool.
type going struct {
	src     *source
	pool    string
	leaving bool
	ending  atomic.Bool // before all of it has got there
}

type goingKey struct{ stream, route string }

// goings knows which routes are being shipped, and which streams are to be looked at.
type goings struct {
	mu    sync.Mutex               // guards what follows; taken while ship's lock is held
	all   map[string]goingStream   // by stream
	done  map[goingKey]struct{}    // leaving routes that have got all that was for them
	looks map[string]*spool.Stream // by stream
	bad   map[*spool.Stream]string // those that could not be brought in line, and why
	wake  chan struct{}            // has a value when looks has grown
}

type goingStream struct {
	st     *spool.Stream
	routes map[string]*going
}

func newGoings() *goings {
	return &goings{all: map[string]goingStream{}, done: map[goingKey]struct{}{}, looks: map[string]*spool.Stream{}, bad: map[*spool.Stream]string{}, wake: make(chan struct{}, 1)}
}

func (g *goings) of(stream, route string) *going {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[stream].routes[route]
}

func (g *goings) add(st *spool.Stream, route string, one *going) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[st.ID()].routes == nil {
		g.all[st.ID()] = goingStream{st, map[string]*going{}}
	}
	g.all[st.ID()].routes[route] = one
}

// finished reports, once, whether a leaving route has got all that was for it.
func (g *goings) finished(stream, route string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, is := g.done[goingKey{stream, route}]
	delete(g.done, goingKey{stream, route})
	return is
}

// retired is for a stream that ship no longer ships to a pool.
func (g *goings) retired(stream, pool string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.all[stream]
	for route, one := range all.routes {
		if one.pool != pool {
			continue
		}
		delete(all.routes, route)
		ending := one.ending.Load()
		if one.leaving && !ending {
			g.done[goingKey{stream, route}] = struct{}{}
		}
		if one.leaving || ending {
			g.lookLocked(all.st)
		}
	}
	if len(all.routes) == 0 {
		delete(g.all, stream)
	}
}

// look has streams be looked at.
func (g *goings) look(streams ...*spool.Stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, st := range streams {
		g.lookLocked(st)
	}
}

func (g *goings) lookLocked(st *spool.Stream) {
	g.looks[st.ID()] = st
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// failed notes whether a stream could be brought in line, and reports whether it
// could not for a reason that is new.
func (g *goings) failed(st *spool.Stream, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		delete(g.bad, st)
		return false
	}
	was := g.bad[st]
	g.bad[st] = err.Error()
	return was != err.Error()
}

// lookAgain has those be looked at that could not be brought in line.
func (g *goings) lookAgain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for st := range g.bad {
		if st.Live() || st.Undelivered() {
			g.lookLocked(st)
		} else {
			delete(g.bad, st)
		}
	}
}

func (g *goings) next() *spool.Stream {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, st := range g.looks {
		delete(g.looks, id)
		return st
	}
	return nil
}

// Run looks at streams until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(d.settings.LeaveTime/10, time.Hour))
	defer tick.Stop()
	seen := map[goingKey]progress{}
	for {
		for st := d.going.next(); st != nil && ctx.Err() == nil; st = d.going.next() {
			d.look(st)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.going.wake:
		case <-tick.C:
			seen = d.giveUpIdle(seen)
			d.going.lookAgain()
			d.Configuration.Again()
			d.pools.Recheck()
		}
	}
}

// progress is how far a route was when.
type progress struct {
	at    uint64
	since time.Time
}

// giveUpIdle gives up routes of pools that are leaving and acknowledge nothing.
func (d *Dispatcher) giveUpIdle(seen map[goingKey]progress) map[goingKey]progress {
	now, known := map[goingKey]progress{}, d.Configuration.Current() != nil
	for _, st := range d.spool.Streams() {
		for _, r := range st.Routes() {
			if !spool.Leaving(r) {
				continue
			}
			key := goingKey{st.ID(), r}
			is := progress{st.Cursor(r), time.Now()}
			// Without a configuration nothing is sent, and the time does not count.
			if was, ok := seen[key]; ok && was.at == is.at && known {
				is.since = was.since
			}
			now[key] = is
			if d.settings.LeaveTime > 0 && time.Since(is.since) >= d.settings.LeaveTime && !d.Paused.Load() {
				d.giveUpOne(st, r)
			}
		}
	}
	return now
}

func (d *Dispatcher) giveUpOne(st *spool.Stream, route string) {
	defer d.Lock(st.Container())()
	if g := d.going.of(st.ID(), route); g != nil {
		g.ending.Store(true)
		d.ship.Remove(st.ID(), g.pool)
	}
	if err := d.giveUp(st, route, "they acknowledged nothing for "+d.settings.LeaveTime.String()); err != nil {
		d.log.Error("a pool could not be given up", "err", err)
	}
}
