package logdriver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/logdriver/ship"
)

// resolver looks names up as the host does.
type resolver interface {
	ship.Resolver
	discover.Names
}

// pools keeps the pools that containers use in step with what their sources say.
type pools struct {
	names   resolver
	etc     string // where the host's /etc is seen
	journal string // where the host's journal is seen, "" for nowhere
	dir     string // where the files are that belong to the configuration
	file    string // where the members that sources told last are kept
	log     *slog.Logger
	ship    *ship.Shipper

	ctx       context.Context // ends when nothing is followed any more
	cancel    context.CancelFunc
	followers sync.WaitGroup

	tell sync.Mutex // one change at a time reaches the shipper and the file, in order

	mu   sync.Mutex // guards what follows; not held while the shipper is called or the disk is written
	open map[string]*openPool
	told map[string]bool                 // warnings that have been logged
	last map[string][]discover.Collector // by source
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

func newPools(s *ship.Shipper, names resolver, etc, state string, log *slog.Logger) *pools {
	file := filepath.Join(state, "collectors.json")
	p := &pools{names: names, etc: etc, dir: filepath.Join(state, configFolder, currentConfig), file: file, log: log, ship: s, open: map[string]*openPool{}, told: map[string]bool{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	if p.last, err = loadMembers(file); err != nil {
		log.Warn("the collectors that were known before are not; they are asked for anew", "err", err)
	}
	s.Ended = p.ended
	return p
}

func (p *pools) close() {
	p.cancel()
	p.followers.Wait()
}

// use opens a pool, or returns it as it is open. One without a name is what a
// container lists itself: the list, in any order, is its identity, and containers
// that name the same share its connections. The pool of an empty list has no id.
// done is to be called when the pool has been added to the shipper, or is not
// going to be.
func (p *pools) use(def *config.Pool) (pool ship.Pool, done func(), err error) {
	sources, err := discover.Parse(def.List, p.discoverHost(p.dir))
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
		if err := p.check(def, sources, p.dir); err != nil {
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

func (p *pools) discoverHost(dir string) discover.Host {
	return discover.Host{Names: p.names, Etc: p.etc, Dir: dir}
}

// files are those that pools may name.
func (p *pools) files(dir string) hostfile.Places { return hostfile.Places{Config: dir, Etc: p.etc} }

// check refuses what no collector of a source could be reached with: otherwise
// it would show only when the source names one, and nobody would be told.
func (p *pools) check(def *config.Pool, sources []discover.Source, dir string) error {
	for _, s := range sources {
		if d, ok := s.(discover.Described); ok {
			if _, err := p.member(def, d.Example(), dir); err != nil {
				return fmt.Errorf("those that %s names: %w", s, err)
			}
		}
	}
	return nil
}

// validate looks whether a pool could be opened with the files in a directory.
func (p *pools) validate(def *config.Pool, dir string) error {
	sources, err := discover.Parse(def.List, p.discoverHost(dir))
	if err != nil {
		return err
	}
	for _, s := range sources {
		fixed, _ := s.(discover.Static)
		if kind := clusterOf(fixed); kind != "" {
			if _, err := p.cluster(ship.Pool{}, kind, def, fixed, true, dir); err != nil {
				return err
			}
			continue
		}
		for _, c := range fixed {
			if _, err := p.member(def, c, dir); err != nil {
				return err
			}
		}
	}
	return p.check(def, sources, dir)
}

func identity(sources []discover.Source) (id string, dynamic bool) {
	var ids []string
	for _, s := range sources {
		fixed, ok := s.(discover.Static)
		for _, c := range fixed {
			ids = append(ids, c.ID())
		}
		if !ok {
			dynamic = true
			ids = append(ids, s.ID())
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, ","), dynamic
}

// done ends what nobody turned out to use. What the sources said while the pool
// was on its way to the shipper, the shipper did not hear.
func (p *pools) done(id string, given int) {
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
func (p *pools) pass(id string) {
	p.mu.Lock()
	o := p.open[id]
	p.mu.Unlock()
	if o != nil {
		p.ship.Update(o.pool) // written under both locks
	}
}

func same(a, b []discover.Collector) bool { return slices.EqualFunc(a, b, discover.Collector.Equal) }

// ended is for a pool that nothing is shipped to any more.
func (p *pools) ended(id string) {
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
func (p *pools) follow(o *openPool, sources []discover.Source) {
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

// define takes over what a configuration says of the pools that are in use. One
// that it does not have stays as it is as long as anything goes there.
func (p *pools) define(c *config.Config) {
	p.mu.Lock()
	inUse := slices.Sorted(maps.Keys(p.open))
	p.mu.Unlock()
	for _, id := range inUse {
		if def := c.Pools[id]; def != nil {
			if err := p.redefine(def); err != nil {
				p.log.Error("a pool stays as it was", "pool", id, "err", err)
			}
		}
	}
}

func (p *pools) redefine(def *config.Pool) error {
	sources, err := discover.Parse(def.List, p.discoverHost(p.dir))
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
func (p *pools) refollow(o *openPool, defined int, sources []discover.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[o.def.Name] == o && o.defined == defined && p.ctx.Err() == nil {
		p.follow(o, sources)
	}
}

// update takes over what the sources of a pool say.
func (p *pools) update(o *openPool, defined int, members []discover.Collector, states []discover.State) {
	p.tell.Lock()
	defer p.tell.Unlock()
	p.adopt(o, defined, members, states)
}

// adopt has a pool be what its sources say. p.tell is held.
func (p *pools) adopt(o *openPool, defined int, members []discover.Collector, states []discover.State) {
	changed, save := p.take(o, defined, members, states)
	if save != nil {
		if err := renameio.WriteFile(p.file, save, 0o600); err != nil {
			p.log.Warn("the collectors could not be noted for the next start", "err", err)
		}
	}
	if changed {
		p.pass(o.pool.ID)
	}
}

// take reports whether the pool has changed, and what is to be saved for the
// next process, if anything is.
func (p *pools) take(o *openPool, defined int, members []discover.Collector, states []discover.State) (changed bool, save []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[o.pool.ID] != o || o.defined != defined {
		return false, nil // it has ended, and another may have its id; or it is told by others now
	}
	for i, st := range states {
		if st.Err != nil && (i >= len(o.states) || o.states[i].Err == nil || o.states[i].Err.Error() != st.Err.Error()) {
			p.log.Warn("a source of collectors does not say who they are; those that it named last stay", "source", st.Source, "err", st.Err, "collectors", len(st.Members))
		}
	}
	o.states = states
	if len(members) == 0 && len(o.members) > 0 {
		members = o.members // of before it was defined anew: there is nobody else yet
	}
	pool, err := p.pool(o.pool.ID, o.def, members, true)
	if err != nil {
		if o.refused == nil || o.refused.why != err.Error() {
			p.log.Error("a pool's collectors, or its files, cannot be used; it stays as it was", "pool", o.def.Name, "err", err)
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
		p.log.Info("the collectors of a pool have changed", "pool", o.def.Name, "were", describe(o.members), "are", describe(members))
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

// pool makes a pool of collectors. One without any is an error unless some may come.
func (p *pools) pool(id string, def *config.Pool, members []discover.Collector, mayBeEmpty bool) (ship.Pool, error) {
	pool := ship.Pool{ID: id, Rank: func(string) []string { return nil }}
	if kind := clusterOf(members); kind != "" {
		return p.cluster(pool, kind, def, members, mayBeEmpty, p.dir)
	}
	var nodes []route.Node
	for _, m := range members {
		nodes = append(nodes, route.Node{Name: m.Name, Weight: m.Weight})
		c, err := p.member(def, m, p.dir)
		if err != nil {
			return ship.Pool{}, err
		}
		if m.Weight > 0 { // one without is finished with, then closed
			pool.Collectors = append(pool.Collectors, c)
		}
	}
	if len(pool.Collectors) == 0 {
		if mayBeEmpty {
			return pool, nil
		}
		return ship.Pool{}, errNobodyTakes
	}
	table, err := route.New(nodes)
	if err != nil {
		return ship.Pool{}, err
	}
	pool.Rank, pool.Share, pool.Among = ranking(table)
	return pool, nil
}

var errNobodyTakes = errors.New("no collector takes records: all have weight 0")

// SourceStatus is one source of collectors as an operator sees it.
type SourceStatus struct {
	Source     string    `json:"source"`
	Collectors int       `json:"collectors"`
	Since      time.Time `json:"since,omitzero"`  // when it said so; zero: before the process began
	Error      string    `json:"error,omitempty"` // why it may be out of date
	Failures   uint64    `json:"failures"`        // since it is followed
}

// exposed is a sink or a source that may send a secret without encryption: it says
// which, to whom, and what to do; "" for none.
type exposed interface{ Exposed() string }

// warnings are what is not as safe as it could be, of the pools in use.
func (p *pools) warnings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []string{}
	for _, o := range p.open {
		all = append(all, p.warningsOf(o.def, o.pool, o.states)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *pools) warningsOf(def *config.Pool, pool ship.Pool, states []discover.State) (all []string) {
	for _, c := range pool.Collectors {
		if e, ok := c.Sink.(exposed); ok && e.Exposed() != "" {
			all = append(all, fmt.Sprintf("pool %s: %s", cursorOf(def), e.Exposed()))
		}
	}
	for _, st := range states {
		if st.Warning != "" {
			all = append(all, fmt.Sprintf("pool %s: %s", cursorOf(def), st.Warning))
		}
	}
	return all
}

// maxTold bounds what is remembered of warnings.
const maxTold = 1000

// warn logs what has not been logged before. p.mu is held.
func (p *pools) warn(def *config.Pool, pool ship.Pool, states []discover.State) {
	for _, w := range p.warningsOf(def, pool, states) {
		if !p.told[w] && len(p.told) < maxTold {
			p.told[w] = true
			p.log.Warn("a secret is sent without encryption", "what", w)
		}
	}
}

// status returns the sources in use.
func (p *pools) status() []SourceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []SourceStatus{}
	for _, o := range p.open {
		for _, st := range o.states {
			if st.Fixed {
				continue
			}
			one := SourceStatus{Source: st.Source, Collectors: len(st.Members), Since: st.Since, Failures: st.Failures}
			if st.Err != nil {
				one.Error = st.Err.Error()
			}
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b SourceStatus) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), a.Since.Compare(b.Since))
	})
	return all
}
