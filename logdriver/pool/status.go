package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/ship"
)

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

// Warnings are what is not as safe as it could be, of the pools in use.
func (p *Pools) Warnings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []string{}
	for _, o := range p.open {
		all = append(all, warningsOf(o.def, o.pool, o.states)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func warningsOf(def *config.Pool, pool ship.Pool, states []discover.State) (all []string) {
	for _, c := range pool.Collectors {
		if e, ok := c.Sink.(exposed); ok && e.Exposed() != "" {
			all = append(all, fmt.Sprintf("pool %s: %s", name(def), e.Exposed()))
		}
	}
	for _, st := range states {
		if st.Warning != "" {
			all = append(all, fmt.Sprintf("pool %s: %s", name(def), st.Warning))
		}
	}
	return all
}

// name is a pool's for people; containers that list their collectors name none.
func name(def *config.Pool) string { return cmp.Or(def.Name, config.DefaultPool) }

// maxTold bounds what is remembered of warnings.
const maxTold = 1000

// warn logs what has not been logged before. p.mu is held.
func (p *Pools) warn(def *config.Pool, pool ship.Pool, states []discover.State) {
	for _, w := range warningsOf(def, pool, states) {
		if !p.told[w] && len(p.told) < maxTold {
			p.told[w] = true
			p.Log.Warn("a secret is sent without encryption", "what", w)
		}
	}
}

// Sources returns the sources in use.
func (p *Pools) Sources() []SourceStatus {
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

// Weights returns those of the members of a pool in use, and their sum.
func (p *Pools) Weights(id string) (of map[string]uint32, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of = map[string]uint32{}
	if o := p.open[id]; o != nil {
		for _, m := range o.members {
			of[m.Name] = m.Weight
			total += uint64(m.Weight)
		}
	}
	return of, total
}
