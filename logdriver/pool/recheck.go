package pool

import (
	"maps"
	"slices"

	"github.com/dockline/dockline/logdriver/discover"
)

// refusedMembers are what sources named and could not be used.
type refusedMembers struct {
	members []discover.Collector
	states  []discover.State
	why     string
}

// Recheck looks again at the files that pools in use name, of which nobody tells
// when they change, and at collectors that could not be used.
func (p *Pools) Recheck() {
	p.mu.Lock()
	inUse := slices.Sorted(maps.Keys(p.open))
	p.mu.Unlock()
	for _, id := range inUse {
		p.recheckOne(id)
	}
}

func (p *Pools) recheckOne(id string) {
	p.tell.Lock()
	defer p.tell.Unlock()
	p.mu.Lock()
	o := p.open[id]
	if o == nil || o.refused == nil && len(o.def.Files)+len(o.def.Secrets) == 0 {
		p.mu.Unlock()
		return
	}
	defined, members, states := o.defined, o.members, o.states
	if o.refused != nil {
		members, states = o.refused.members, o.refused.states
	}
	states = slices.Clone(states)
	p.mu.Unlock()
	p.adopt(o, defined, members, states)
}
