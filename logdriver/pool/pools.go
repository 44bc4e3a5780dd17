package pool

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
)

// Pools are those in use.
type Pools struct {
	Host
	file string // where the members that sources told last are kept
	ship *ship.Shipper

	ctx       context.Context // ends when nothing is followed any more
	cancel    context.CancelFunc
	followers sync.WaitGroup

	tell sync.Mutex // one change at a time reaches the shipper and the file, in order

	mu   sync.Mutex // guards what follows; not held while the shipper is called or the disk is written
	open map[string]*openPool
	told map[string]bool                 // warnings that have been logged
	last map[string][]discover.Collector // by source
}

// Len returns how many there are.
func (p *Pools) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// openPool is a pool in use.
type openPool struct {
	def     *config.Pool
	pool    ship.Pool
	changes int                  // of pool, so far
	members []discover.Collector // of pool
	states  []discover.State
	defined int                // how often
	cancel  context.CancelFunc // nil where nothing is followed
	pending int                // containers that are about to be shipped to it
	refused *refusedMembers    // nil where what was told last is in use
}

// Open makes pools for a shipper, which is told of their changes and tells when
// nothing goes to one any more. In a folder for state it is kept who the collectors
// are, for the next process.
func Open(s *ship.Shipper, host Host, state string) *Pools {
	p := &Pools{Host: host, file: filepath.Join(state, membersFile), ship: s, open: map[string]*openPool{}, told: map[string]bool{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	if p.last, err = loadMembers(p.file); err != nil {
		p.Log.Warn("the collectors that were known before are not; they are asked for anew", "err", err)
	}
	s.Ended = p.ended
	return p
}

// Close stops following sources.
func (p *Pools) Close() {
	p.cancel()
	p.followers.Wait()
}

// Use opens a pool, or returns it as it is open. One without a name is what a
// container lists itself: the list, in any order, is its identity, and containers
// that name the same share its connections. The pool of an empty list has no id.
// done is to be called when the pool has been added to the shipper, or is not
// going to be.
func (p *Pools) Use(def *config.Pool) (pool ship.Pool, done func(), err error) {
	sources, err := discover.Parse(def.List, p.discoverHost())
	if err != nil || len(sources) == 0 {
		return ship.Pool{}, func() {}, err
	}
	id, dynamic := identity(sources)
	if def.Name != "" {
		id = def.Name
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.open[id]
	if o == nil {
		if err := p.check(def, sources); err != nil {
			return ship.Pool{}, func() {}, err
		}
		mayBeEmpty := dynamic || def.Name != "" && !def.Setting
		known := discover.Known(sources, p.last)
		pool, err := p.pool(id, def, known, mayBeEmpty)
		if err != nil && dynamic {
			// What a source named before may have been for a pool with other options,
			// or another version of the plugin. It is not the container's fault.
			known = discover.Known(sources, nil)
			pool, err = p.pool(id, def, known, mayBeEmpty)
		}
		if err != nil { // a collector that is wrong in the list is
			return ship.Pool{}, func() {}, err
		}
		o = &openPool{def: def, pool: pool, members: known}
		p.warn(def, pool, nil)
		if dynamic {
			p.follow(o, sources)
		}
		p.open[id] = o
	}
	o.pending++
	given := o.changes
	return o.pool, func() { p.done(id, given) }, nil
}

// done ends what nobody turned out to use. What the sources said while the pool
// was on its way to the shipper, the shipper did not hear.
func (p *Pools) done(id string, given int) {
	p.mu.Lock()
	changed := false
	if o := p.open[id]; o != nil {
		o.pending--
		changed = given != o.changes
	}
	p.mu.Unlock()
	if changed {
		p.tell.Lock()
		p.pass(id)
		p.tell.Unlock()
	}
	p.ship.EndUnused(id)
}

// pass tells the shipper who a pool's collectors are now. p.tell is held: what
// was so before is not told after it.
func (p *Pools) pass(id string) {
	p.mu.Lock()
	o := p.open[id]
	p.mu.Unlock()
	if o != nil {
		p.ship.Update(o.pool) // written under both locks
	}
}

func same(a, b []discover.Collector) bool { return slices.EqualFunc(a, b, discover.Collector.Equal) }

// ended is for a pool that nothing is shipped to any more.
func (p *Pools) ended(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.open[id]; o != nil && o.pending == 0 {
		if o.cancel != nil {
			o.cancel()
		}
		delete(p.open, id)
	}
}

// follow keeps a pool up to date. p.mu is held.
func (p *Pools) follow(o *openPool, sources []discover.Source) {
	ctx, cancel := context.WithCancel(p.ctx)
	o.cancel = cancel
	last, defined := maps.Clone(p.last), o.defined
	p.followers.Go(func() {
		discover.Follow(ctx, sources, last, func(m []discover.Collector, st []discover.State) {
			if ctx.Err() == nil {
				p.update(o, defined, m, st)
			}
		})
	})
}

// Define takes over what a configuration says of the pools that are in use. One
// that it does not have stays as it is as long as anything goes there.
func (p *Pools) Define(c *config.Config) {
	p.mu.Lock()
	inUse := slices.Sorted(maps.Keys(p.open))
	p.mu.Unlock()
	for _, id := range inUse {
		if def := c.Pools[id]; def != nil {
			if err := p.redefine(def); err != nil {
				p.Log.Error("a pool stays as it was", "pool", id, "err", err)
			}
		}
	}
}

func (p *Pools) redefine(def *config.Pool) error {
	sources, err := discover.Parse(def.List, p.discoverHost())
	if err != nil {
		return err
	}
	p.tell.Lock()
	defer p.tell.Unlock()
	p.mu.Lock()
	o := p.open[def.Name]
	if o == nil {
		p.mu.Unlock()
		return nil
	}
	members, states, defined := o.members, o.states, o.defined
	if !o.def.Same(def) {
		if o.cancel != nil {
			o.cancel()
		}
		o.cancel, o.defined, states = nil, o.defined+1, nil
		defined = o.defined
		members = discover.Known(sources, p.last)
		if _, dynamic := identity(sources); dynamic {
			defer p.refollow(o, defined, sources)
		}
	}
	o.def = def
	p.mu.Unlock()
	if changed, _ := p.take(o, defined, members, states); changed { // the files may be others, too
		p.pass(def.Name)
	}
	return nil
}

// refollow follows a pool's new sources, if it is still in use and has no newer ones.
func (p *Pools) refollow(o *openPool, defined int, sources []discover.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[o.def.Name] == o && o.defined == defined && p.ctx.Err() == nil {
		p.follow(o, sources)
	}
}

// update takes over what the sources of a pool say.
func (p *Pools) update(o *openPool, defined int, members []discover.Collector, states []discover.State) {
	p.tell.Lock()
	defer p.tell.Unlock()
	p.adopt(o, defined, members, states)
}

// adopt has a pool be what its sources say. p.tell is held.
func (p *Pools) adopt(o *openPool, defined int, members []discover.Collector, states []discover.State) {
	changed, save := p.take(o, defined, members, states)
	if save != nil {
		if err := renameio.WriteFile(p.file, save, 0o600); err != nil {
			p.Log.Warn("the collectors could not be noted for the next start", "err", err)
		}
	}
	if changed {
		p.pass(o.pool.ID)
	}
}

// take reports whether the pool has changed, and what is to be saved for the
// next process, if anything is.
func (p *Pools) take(o *openPool, defined int, members []discover.Collector, states []discover.State) (changed bool, save []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[o.pool.ID] != o || o.defined != defined {
		return false, nil // it has ended, and another may have its id; or it is told by others now
	}
	for i, st := range states {
		if st.Err != nil && (i >= len(o.states) || o.states[i].Err == nil || o.states[i].Err.Error() != st.Err.Error()) {
			p.Log.Warn("a source of collectors does not say who they are; those that it named last stay", "source", st.Source, "err", st.Err, "collectors", len(st.Members))
		}
	}
	o.states = states
	if len(members) == 0 && len(o.members) > 0 {
		members = o.members // of before it was defined anew: there is nobody else yet
	}
	pool, err := p.pool(o.pool.ID, o.def, members, true)
	if err != nil {
		if o.refused == nil || o.refused.why != err.Error() {
			p.Log.Error("a pool's collectors, or its files, cannot be used; it stays as it was", "pool", o.def.Name, "err", err)
		}
		o.refused = &refusedMembers{members, slices.Clone(states), err.Error()}
		for i := range states {
			states[i].Err = cmp.Or(states[i].Err, err)
		}
		return false, nil
	}
	o.refused = nil
	p.warn(o.def, pool, states)
	if changed = !same(o.members, members) || !sameWay(o.pool, pool); changed {
		p.Log.Info("the collectors of a pool have changed", "pool", o.def.Name, "were", describe(o.members), "are", describe(members))
		o.pool, o.members = pool, members
		o.changes++
	}
	return changed, p.remember(states)
}

// describe is for people: it says no password.
func describe(members []discover.Collector) string {
	var all []string
	for _, c := range members {
		all = append(all, fmt.Sprintf("%s %s weight %d", c.Name, redact.URL(c.URL), c.Weight))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// sameWay reports whether the collectors of two pools are reached in the same way.
func sameWay(a, b ship.Pool) bool {
	return slices.EqualFunc(a.Collectors, b.Collectors, func(a, b ship.Collector) bool { return a.ID == b.ID })
}
