package logdriver

import (
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/logdriver/ship"
)

// key says how the records of a container find their collectors in a pool.
func (p *Plugin) key(o container.Options, pool *config.Pool) ship.Key {
	above := o.SplitAbove.Or(p.cfg.SplitAbove)
	if !o.OwnSplit {
		rate, _ := container.ParseRate(pool.SplitAbove) // it was checked
		above = rate.Or(above)
	}
	return ship.Key{Value: o.HashKey, PerRecord: o.PerRecord, SplitAbove: above}
}

// ranking is a table as ship wants to see it.
func ranking(table *route.Table) (
	rank func(key string) []string,
	share func(key string, names []string, slice uint64) string,
	among func(names []string) func(key []byte) string,
) {
	rank = func(key string) []string {
		var names []string
		for _, r := range table.Rank(key, nil) {
			names = append(names, r.Name)
		}
		return names
	}
	share = func(key string, names []string, slice uint64) string {
		ranked := table.Only(names).Rank(key, nil)
		if len(ranked) == 0 {
			return ""
		}
		return ranked[route.Spread(key, ranked, len(ranked), slice)].Name
	}
	among = func(names []string) func([]byte) string { return table.Only(names).FirstBytes }
	return rank, share, among
}
