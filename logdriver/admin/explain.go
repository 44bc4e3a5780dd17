package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/ship"
)

// Explanation says which collectors take a key, in which order, and why.
type Explanation struct {
	Asked      string        `json:"asked"`
	Container  string        `json:"container,omitempty"` // whose key it is; none: what was asked for is the key
	Name       string        `json:"name,omitempty"`
	Key        string        `json:"key"`
	Hash       string        `json:"hash,omitempty"` // the container's log-opt that chooses the key
	PerRecord  bool          `json:"per_record"`     // each record has a key of its own, its id
	ChosenBy   string        `json:"pools_chosen_by,omitempty"`
	Pools      []PoolRanking `json:"pools"`
	MorePools  []string      `json:"other_pools,omitempty"` // that it does not go to
	NoRecordTo string        `json:"stays_here,omitempty"`  // why its records go to nobody
}

// PoolRanking is a key's ranking in one pool.
type PoolRanking struct {
	Pool  string        `json:"pool"`
	Takes string        `json:"collector,omitempty"` // who has the key now; none: it is not known, or nobody
	Why   string        `json:"why"`
	Split int           `json:"split"` // over how many it is spread in time slices; 1: it is not
	Ranks []RankedPlace `json:"ranking"`
}

// RankedPlace is one collector in a ranking.
type RankedPlace struct {
	Rank      int     `json:"rank"` // from 1
	Collector string  `json:"collector"`
	Weight    uint32  `json:"weight"`
	Share     float64 `json:"share"`   // of all keys, that it comes first for
	Healthy   bool    `json:"healthy"` // as far as that is known
	Shed      float64 `json:"shed"`
	Why       string  `json:"why"` // it has the key, or not
}

// explain answers /explain?key=KEY[&pool=POOL]: KEY is a container's name or the
// beginning of its id, or else a key itself.
func (p *Plugin) explain(r *http.Request) (any, error) {
	q := r.URL.Query()
	if q.Get("key") == "" {
		return nil, refused("say ?key= with a container's name, the beginning of its id, or a key of its own")
	}
	return p.Explain(q.Get("key"), q.Get("pool"))
}

// Explain says where the records of a key go and why. With a pool, it is asked of
// that one alone.
func (p *Plugin) Explain(asked, pool string) (*Explanation, error) {
	e := &Explanation{Asked: asked, Key: asked, Pools: []PoolRanking{}}
	conf := p.Config.Current()
	var of []*config.Pool
	if info := p.infoOf(asked); info != nil {
		e.Container, e.Name = info.ContainerID, info.Name()
		pl, err := p.Streams.Plan(info, conf)
		if err != nil {
			return nil, err
		}
		e.Key, e.PerRecord, e.Hash, of = pl.Options.HashKey, pl.Options.PerRecord, "container", pl.Pools
		if h := info.Config["hash"]; h != "" {
			e.Hash = h
		}
		e.ChosenBy = chosenBy(conf, info)
		if len(of) == 0 {
			e.NoRecordTo = "it goes to no pool: its records stay on this host, for docker logs"
			if len(pl.Missing) > 0 {
				e.NoRecordTo = "its records wait for a pool that is not known: " + strings.Join(pl.Missing, ", ")
			}
		}
	}
	var names []string
	if conf != nil {
		names = conf.Names(true)
	}
	for _, name := range names {
		def := conf.Pools[name]
		switch used := slices.ContainsFunc(of, func(d *config.Pool) bool { return d.Name == name }); {
		case pool == name && !used, pool == "" && e.Container == "":
			of = append(of, def)
		case !used:
			e.MorePools = append(e.MorePools, name)
		}
	}
	if pool != "" {
		of = slices.DeleteFunc(of, func(d *config.Pool) bool { return d.Name != pool })
		if len(of) == 0 {
			return nil, &shared.Error{Code: http.StatusNotFound, Err: fmt.Errorf("there is no pool %q; there are: %s", pool, strings.Join(names, ", "))}
		}
	}
	for _, def := range of {
		one, err := p.rankIn(def, e.Key)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", def.Name, err)
		}
		e.Pools = append(e.Pools, one)
	}
	return e, nil
}

// infoOf returns what is known of a container by its name, or by the beginning of
// its id where that is one's only; nil where there is none.
func (p *Plugin) infoOf(name string) *container.Info {
	var found []*container.Info
	for _, st := range p.Spool.Streams() {
		info := new(container.Info)
		if json.Unmarshal(st.Info(), info) != nil {
			continue
		}
		if info.Name() == strings.TrimPrefix(name, "/") && st.Live() {
			return info
		}
		if info.Name() == name || len(name) >= minPrefix && strings.HasPrefix(st.Container(), name) {
			found = append(found, info)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MaxFunc(found, func(a, b *container.Info) int { return a.ContainerCreated.Compare(b.ContainerCreated) })
}

// minPrefix is how much of an id is taken for one.
const minPrefix = 4

func chosenBy(conf *config.Config, info *container.Info) string {
	if info.Config["collectors"] != "" {
		return "log-opt collectors"
	}
	if conf == nil {
		return ""
	}
	chosen, err := config.ParseNames(info.Config["pool"])
	if err != nil {
		return ""
	}
	return conf.Choose(info, chosen).By
}

// rankIn ranks a pool's collectors for a key.
func (p *Plugin) rankIn(def *config.Pool, key string) (PoolRanking, error) {
	to, done, err := p.Pools.Use(def)
	if err != nil {
		return PoolRanking{}, err
	}
	defer done()
	one := PoolRanking{Pool: new(pool.Labels).Of(to.ID), Split: 1, Ranks: []RankedPlace{}}
	ranks, at, split, used := p.Ship.Explain(to.ID, key)
	if !used {
		at = -1
		for _, name := range to.Rank(key) {
			ranks = append(ranks, ship.Rank{Collector: name, Healthy: true})
		}
	}
	weights, total := p.Pools.Weights(to.ID)
	for i, r := range ranks {
		place := RankedPlace{Rank: i + 1, Collector: r.Collector, Weight: weights[r.Collector], Healthy: r.Healthy, Shed: r.Shed, Why: whyRank(i, at, r, used)}
		if total > 0 {
			place.Share = float64(place.Weight) / float64(total)
		}
		one.Ranks = append(one.Ranks, place)
	}
	if at >= 0 {
		one.Takes = ranks[at].Collector
	}
	one.Split, one.Why = max(split, 1), whyPool(ranks, at, max(split, 1), to.Places, used)
	return one, nil
}

func whyRank(i, at int, r ship.Rank, used bool) string {
	switch {
	case i == at && i == 0 && r.Healthy && !r.Sheds:
		return "it is first and healthy"
	case i == at && !r.Healthy:
		return "all are down: it is first, and will be asked first"
	case i == at && r.Sheds:
		return "it pushes back, as all that are healthy do"
	case i == at:
		return "who comes before it does not take the key now"
	case !used:
		return "nothing is sent to the pool, so its health is not known"
	case !r.Healthy:
		return "it is down"
	case r.Sheds:
		return fmt.Sprintf("it pushes back and is relieved of %.0f%% of all keys, this one among them", 100*r.Shed)
	case i < at:
		return "it does not take the key now"
	}
	return "it takes over when who comes before it is down"
}

func whyPool(ranks []ship.Rank, at, split, places int, used bool) string {
	switch {
	case len(ranks) == 0:
		return "the pool has no collector that takes records; what is for it waits in the spool"
	case places > 0:
		return fmt.Sprintf("the pool is a cluster of %d places, which spreads keys by itself", places)
	case split > 1:
		return fmt.Sprintf("the key is heavy: it is spread over the first %d that take it, in time slices", split)
	case !used:
		return "no container's records go to the pool now"
	case !ranks[at].Healthy:
		return "no collector can be reached; records wait in the spool"
	case at > 0:
		return "who comes before it is down or pushes back; the key returns when that is over"
	}
	return "the first of the ranking, which is the same on every host with these collectors"
}
