package dispatch

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// Plan is where a container's records are to go.
type Plan struct {
	Options container.Options
	Pools   []*config.Pool // each once
	Missing []string       // pools that the container names and that there are not any more

	info  *container.Info
	known bool // false: no configuration is, and records wait for it
}

// cursorOf returns the name of a pool's cursor. That of collectors that a container
// lists itself is the one that they have always had.
func cursorOf(p *config.Pool) string { return cmp.Or(p.Name, config.DefaultPool) }

func (pl Plan) routes() []string {
	var all []string
	for _, p := range pl.Pools {
		all = append(all, cursorOf(p))
	}
	return append(all, pl.Missing...)
}

// notKnown is the cursor of a stream that nobody knows yet where it is to go. No
// pool's name is like it.
const notKnown = "not_known"

// Plan says where the records of a container go that runs, by a configuration.
func (d *Dispatcher) Plan(info *container.Info, conf *config.Config) (Plan, error) {
	return d.plan(info, conf, false)
}

// plan reads a container's options and finds out which pools it goes to. One that
// starts cannot have what the configuration does not give it; one that runs keeps
// what it has.
func (d *Dispatcher) plan(info *container.Info, conf *config.Config, starts bool) (Plan, error) {
	chosen, err := config.ParseNames(info.Config["pool"])
	if err == nil && starts && conf != nil {
		err = conf.Check(chosen)
	}
	if err != nil {
		return Plan{}, &options.ValueError{What: "log-opt", Key: "pool", Value: info.Config["pool"], Err: err}
	}
	var choice config.Choice
	if conf != nil {
		choice = conf.Choose(info, chosen)
	}
	if info.Defaults == nil && conf != nil {
		info.Defaults = choice.Options
	}
	info.HostName = d.settings.HostName
	pl := Plan{info: info, known: conf != nil}
	if pl.Options, err = container.ParseOptions(info); err != nil {
		return Plan{}, err
	}
	switch {
	case strings.Trim(pl.Options.Collectors, ", \t\n") != "":
		pl.known, pl.Pools = true, []*config.Pool{{List: pl.Options.Collectors}}
	case conf == nil && len(chosen) == 0:
		pl.Missing = []string{notKnown}
	case conf == nil:
		pl.Missing = chosen
	default:
		for _, name := range choice.Pools {
			if def := d.definition(conf, name); def != nil {
				pl.Pools = append(pl.Pools, def)
			} else {
				pl.Missing = append(pl.Missing, name)
			}
		}
	}
	return pl, nil
}

// definition returns what a pool of that name is, or was when there last was one.
func (d *Dispatcher) definition(conf *config.Config, name string) *config.Pool {
	if conf != nil && conf.Pools[name] != nil {
		return conf.Pools[name]
	}
	return d.former.get(name)
}

// open opens the plan's pools, until done is called. It is an error if one cannot
// be that has not been checked before, or if a container that starts has nothing
// of what a collector sorts its records by.
func (d *Dispatcher) open(pl Plan, starts bool) (done func(), err error) {
	var opened []func()
	done = func() {
		for _, end := range opened {
			end()
		}
	}
	for _, def := range pl.Pools {
		pool, end, err := d.pools.Use(def)
		switch {
		case err == nil:
			opened = append(opened, end)
			if err := check(pool, d.meta("", pl.info, pl.Options)); starts && err != nil {
				done()
				return nil, fmt.Errorf("pool %s: %w", cursorOf(def), err)
			}
		case def.Name == "" || def.Setting:
			done()
			return nil, def.CannotBe(err)
		default: // it was fine when the configuration was checked; the records wait, see look
		}
	}
	return done, nil
}

// check asks a pool's collectors whether they can do with a stream.
func check(pool ship.Pool, m *ship.Meta) error {
	for _, c := range pool.Collectors {
		if s, ok := c.Sink.(ship.Checker); ok {
			if err := s.Check(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofRoutes returns what gives way for those pools that say so themselves, unless
// the container does.
func (d *Dispatcher) ofRoutes(conf *config.Config, pl Plan, routes []string) spool.OfRoutes {
	if pl.Options.OwnOnFull || pl.Options.Collectors != "" {
		return nil
	}
	of := spool.OfRoutes{}
	for _, r := range routes {
		name, _ := spool.SplitRoute(r)
		if def := d.definition(conf, name); def != nil && def.OnFull != "" {
			of[name], _ = spool.ParseOnFull(def.OnFull, spool.DropOldest) // it was checked
		}
	}
	return of
}
