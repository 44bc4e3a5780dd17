package logdriver

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/jsonl"
	"github.com/dockline/dockline/logdriver/sink/relp"
	"github.com/dockline/dockline/logdriver/sink/syslog"
)

type newSink func(*url.URL, ship.Resolver) (ship.Sink, error)

// sinks maps the schemes of collector URLs to the protocols behind them.
func sinks() map[string]newSink {
	return map[string]newSink{
		"syslog+tcp": syslog.New,
		"relp":       relp.New,
		"json+tcp":   jsonl.New,
	}
}

// openPool makes a pool of a list of collector URLs. The list, in any order, is
// the pool's identity: containers that name the same share its connections.
// The pool of an empty list has no collectors.
func openPool(list string, resolver ship.Resolver) (ship.Pool, error) {
	members, err := discover.ParseList(list)
	if err != nil || len(members) == 0 {
		return ship.Pool{}, err
	}
	var pool ship.Pool
	var nodes []route.Node
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID())
		s, err := openSink(m, resolver)
		if err != nil {
			return ship.Pool{}, err
		}
		pool.Collectors = append(pool.Collectors, ship.Collector{Name: m.Name, Sink: s})
		nodes = append(nodes, route.Node{Name: m.Name, Weight: m.Weight})
	}
	slices.Sort(ids)
	pool.ID = strings.Join(ids, ",")
	table, err := route.New(nodes)
	if err != nil {
		return ship.Pool{}, err
	}
	pool.Rank = func(key string) []string {
		var names []string
		for _, r := range table.Rank(key, nil) {
			names = append(names, r.Name)
		}
		return names
	}
	return pool, nil
}

func openSink(c discover.Collector, resolver ship.Resolver) (ship.Sink, error) {
	known := sinks()
	open := known[c.URL.Scheme]
	if open == nil {
		schemes := slices.Sorted(maps.Keys(known))
		return nil, fmt.Errorf("collector %q: no sink speaks %q, did you mean %q? There are %s",
			c.URL.Redacted(), c.URL.Scheme, options.Nearest(c.URL.Scheme, schemes), strings.Join(schemes, ", "))
	}
	s, err := open(c.URL, resolver)
	if err != nil {
		return nil, fmt.Errorf("collector %q: %w", c.URL.Redacted(), err)
	}
	return s, nil
}
