package pool

import "github.com/dockline/dockline/logdriver/route"

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
