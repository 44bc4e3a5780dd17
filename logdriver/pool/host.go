package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dockline/dockline/internal/hostfile"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/route"
	"github.com/dockline/dockline/logdriver/ship"
)

// Resolver looks names up as the host does.
type Resolver interface {
	ship.Resolver
	discover.Names
}

// Host is what collectors and their sources see of the host.
type Host struct {
	Names   Resolver
	Config  string // the folder of the files that belong to the configuration
	Etc     string // where the host's /etc is seen, "" for /etc itself
	Journal string // where the host's journal is seen, "" for nowhere
	Log     *slog.Logger
}

func (h Host) discoverHost() discover.Host {
	return discover.Host{Names: h.Names, Etc: h.Etc, Dir: h.Config}
}

// files are those that pools may name.
func (h Host) files() hostfile.Places { return hostfile.Places{Config: h.Config, Etc: h.Etc} }

// check refuses what no collector of a source could be reached with: otherwise
// it would show only when the source names one, and nobody would be told.
func (h Host) check(def *config.Pool, sources []discover.Source) error {
	for _, s := range sources {
		if d, ok := s.(discover.Described); ok {
			if _, err := h.member(def, d.Example()); err != nil {
				return fmt.Errorf("those that %s names: %w", s, err)
			}
		}
	}
	return nil
}

// Validate looks whether a pool could be opened.
func (h Host) Validate(def *config.Pool) error {
	sources, err := discover.Parse(def.List, h.discoverHost())
	if err != nil {
		return err
	}
	for _, s := range sources {
		fixed, _ := s.(discover.Static)
		if kind := clusterOf(fixed); kind != "" {
			if _, err := h.cluster(ship.Pool{}, kind, def, fixed, true); err != nil {
				return err
			}
			continue
		}
		for _, c := range fixed {
			if _, err := h.member(def, c); err != nil {
				return err
			}
		}
	}
	return h.check(def, sources)
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

// pool makes a pool of collectors. One without any is an error unless some may come.
func (h Host) pool(id string, def *config.Pool, members []discover.Collector, mayBeEmpty bool) (ship.Pool, error) {
	pool := ship.Pool{ID: id, Rank: func(string) []string { return nil }}
	if kind := clusterOf(members); kind != "" {
		return h.cluster(pool, kind, def, members, mayBeEmpty)
	}
	var nodes []route.Node
	for _, m := range members {
		nodes = append(nodes, route.Node{Name: m.Name, Weight: m.Weight})
		c, err := h.member(def, m)
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
