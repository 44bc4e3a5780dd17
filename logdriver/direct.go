package logdriver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/redact"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// Each pool that a stream goes to has a cursor in it, which bears the pool's
// name, so the cursors say where the stream went so far. When it is to go
// elsewhere, a pool that takes the place of another goes on with its cursor, and
// one that just goes keeps it, under a name with the offset up to which the
// stream was for it, until that has been delivered.

// plan is where a container's records are to go.
type plan struct {
	info    *container.Info
	options container.Options
	known   bool           // false: no configuration is, and records wait for it
	pools   []*config.Pool // each once
	missing []string       // pools that the container names and that there are not any more
}

// cursorOf returns the name of a pool's cursor. That of collectors that a container
// lists itself is the one that they have always had.
func cursorOf(p *config.Pool) string { return cmp.Or(p.Name, config.DefaultPool) }

func (pl plan) routes() []string {
	var all []string
	for _, p := range pl.pools {
		all = append(all, cursorOf(p))
	}
	return append(all, pl.missing...)
}

// notKnown is the cursor of a stream that nobody knows yet where it is to go. No
// pool's name is like it.
const notKnown = "not_known"

// plan reads a container's options and finds out which pools it goes to. One that
// starts cannot have what the configuration does not give it; one that runs keeps
// what it has.
func (p *Plugin) plan(info *container.Info, conf *config.Config, starts bool) (plan, error) {
	chosen, err := config.ParseNames(info.Config["pool"])
	if err == nil && starts && conf != nil {
		err = conf.Check(chosen)
	}
	if err != nil {
		return plan{}, &options.ValueError{What: "log-opt", Key: "pool", Value: info.Config["pool"], Err: err}
	}
	var choice config.Choice
	if conf != nil {
		choice = conf.Choose(info, chosen)
	}
	if info.Defaults == nil && conf != nil {
		info.Defaults = choice.Options
	}
	info.HostName = p.cfg.HostName
	pl := plan{info: info, known: conf != nil}
	if pl.options, err = container.ParseOptions(info); err != nil {
		return plan{}, err
	}
	switch {
	case strings.Trim(pl.options.Collectors, ", \t\n") != "":
		pl.known, pl.pools = true, []*config.Pool{{List: pl.options.Collectors}}
	case conf == nil && len(chosen) == 0:
		pl.missing = []string{notKnown}
	case conf == nil:
		pl.missing = chosen
	default:
		for _, name := range choice.Pools {
			if def := p.definition(conf, name); def != nil {
				pl.pools = append(pl.pools, def)
			} else {
				pl.missing = append(pl.missing, name)
			}
		}
	}
	return pl, nil
}

// definition returns what a pool of that name is, or was when there last was one.
func (p *Plugin) definition(conf *config.Config, name string) *config.Pool {
	if conf != nil && conf.Pools[name] != nil {
		return conf.Pools[name]
	}
	return p.former.get(name)
}

// open opens the plan's pools, until done is called. It is an error if one cannot
// be that has not been checked before, or if a container that starts has nothing
// of what a collector sorts its records by.
func (p *Plugin) open(pl plan, starts bool) (done func(), err error) {
	var opened []func()
	done = func() {
		for _, d := range opened {
			d()
		}
	}
	for _, def := range pl.pools {
		pool, d, err := p.pools.Use(def)
		switch {
		case err == nil:
			opened = append(opened, d)
			if err := check(pool, p.meta("", pl.info, pl.options)); starts && err != nil {
				done()
				return nil, fmt.Errorf("pool %s: %w", cursorOf(def), err)
			}
		case def.Name == "" || def.Setting:
			done()
			return nil, poolError(def, err)
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

// poolError says who has named the pool that cannot be opened.
func poolError(def *config.Pool, err error) error {
	switch {
	case def.Setting:
		return &options.ValueError{What: "plugin setting", Key: "COLLECTORS", Value: redact.List(def.List), Err: err}
	case def.Name == "":
		return &options.ValueError{What: "log-opt", Key: "collectors", Value: redact.List(def.List), Err: err}
	}
	return fmt.Errorf("open pool %s: %w", def.Name, err)
}

// ofRoutes returns what gives way for those pools that say so themselves, unless
// the container does.
func (p *Plugin) ofRoutes(conf *config.Config, pl plan, routes []string) spool.OfRoutes {
	if pl.options.OwnOnFull || pl.options.Collectors != "" {
		return nil
	}
	of := spool.OfRoutes{}
	for _, r := range routes {
		name, _ := spool.SplitRoute(r)
		if def := p.definition(conf, name); def != nil && def.OnFull != "" {
			of[name], _ = spool.ParseOnFull(def.OnFull, spool.DropOldest) // it was checked
		}
	}
	return of
}

// arrange brings a stream's cursors in line with the plan. Where a cursor is in
// use that is to change hands, that is ended first, and the stream looked at
// again then. The container's lock is held.
func (p *Plugin) arrange(st *spool.Stream, pl plan) error {
	want := pl.routes()
	if !pl.known {
		if len(st.Routes()) > 0 {
			return nil
		}
		return addRoutes(st, want)
	}
	if err := p.welcomeBack(st, want); err != nil {
		return err
	}
	var gone []string
	fresh := slices.Clone(want)
	for _, r := range st.Routes() {
		name, _ := spool.SplitRoute(r)
		switch i := slices.Index(fresh, name); {
		case i >= 0:
			fresh = slices.Delete(fresh, i, i+1) // it is there, or on its way back
		case !spool.Leaving(r) && !slices.Contains(want, r):
			gone = append(gone, r)
		}
	}
	for len(gone) > 0 && len(fresh) > 0 {
		if p.ended(st, gone[0]) {
			if err := st.RenameRoute(gone[0], fresh[0]); err != nil {
				return err
			}
		}
		gone, fresh = gone[1:], fresh[1:]
	}
	return errors.Join(addRoutes(st, fresh), p.sendOff(st, gone))
}

// welcomeBack has pools go on where they were leaving.
func (p *Plugin) welcomeBack(st *spool.Stream, want []string) error {
	for _, r := range st.Routes() {
		name, _ := spool.SplitRoute(r)
		if !spool.Leaving(r) || !slices.Contains(want, name) || st.HasRoute(name) || !p.ended(st, r) {
			continue
		}
		if err := st.RenameRoute(r, name); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes gives pools their cursors. Where others are there already, a new one
// begins behind all that some pool has.
func addRoutes(st *spool.Stream, routes []string) error {
	var at uint64
	for _, r := range st.Routes() {
		at = max(at, st.Cursor(r))
	}
	for _, r := range routes {
		if err := st.AddRouteAt(r, at); err != nil {
			return err
		}
	}
	return nil
}

// sendOff is for pools that a stream no longer goes to: they get what there is
// for them so far, and no more.
func (p *Plugin) sendOff(st *spool.Stream, routes []string) error {
	for _, r := range routes {
		var err error
		switch {
		case !p.ended(st, r):
		case r != notKnown && st.Owed(r):
			err = st.RenameRoute(r, spool.RouteUntil(r, st.End()))
		default:
			err = st.RemoveRoute(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handOver bounds how long it is waited for what is under way to a collector when
// a cursor changes hands; after that it is sent again, to the next. It is longer
// than a collector may take that is not taken for down.
const handOver = time.Minute

// ended reports whether nobody ships a route. If somebody does it is ended, and
// the stream looked at again then.
func (p *Plugin) ended(st *spool.Stream, route string) bool {
	g := p.going.of(st.ID(), route)
	if g == nil {
		return true
	}
	if g.ending.CompareAndSwap(false, true) {
		time.AfterFunc(handOver, func() {
			if p.going.of(st.ID(), route) == g && p.ctx.Err() == nil {
				p.ship.Remove(st.ID(), g.pool)
			}
		})
		g.src.end()
		p.ship.End(st.ID(), g.pool)
	}
	return false
}

// shipAll ships a stream to every pool that it has a cursor for.
func (p *Plugin) shipAll(st *spool.Stream, pl plan) error {
	if p.drainOnly.Load() || !pl.known {
		return nil
	}
	var errs []error
	for _, def := range pl.pools {
		if st.HasRoute(cursorOf(def)) {
			errs = append(errs, p.shipTo(st, pl, def, cursorOf(def)))
		}
	}
	for _, name := range pl.missing {
		errs = append(errs, fmt.Errorf("there is no pool %q any more", name))
	}
	for _, r := range st.Routes() {
		name, until := spool.SplitRoute(r)
		if !spool.Leaving(r) || slices.Contains(pl.routes(), name) {
			continue // for one that is on its way back, what is under way is waited for
		}
		def := p.definition(p.conf.Current(), name)
		switch {
		case p.going.of(st.ID(), r) != nil:
		case p.going.finished(st.ID(), r) || st.Cursor(r) >= until || !st.Owed(r):
			errs = append(errs, st.RemoveRoute(r))
		case def == nil && p.former.lost: // it may come back, with the next configuration
			errs = append(errs, fmt.Errorf("nobody knows which collectors pool %q had", name))
		case def == nil:
			errs = append(errs, p.giveUp(st, r, "nobody knows its collectors any more"))
		default:
			errs = append(errs, p.shipTo(st, pl, def, r))
		}
	}
	return errors.Join(errs...)
}

// key says how the records of a container find their collectors in a pool.
func (p *Plugin) key(o container.Options, pool *config.Pool) ship.Key {
	above := o.SplitAbove.Or(p.cfg.SplitAbove)
	if !o.OwnSplit {
		rate, _ := container.ParseRate(pool.SplitAbove) // it was checked
		above = rate.Or(above)
	}
	return ship.Key{Value: o.HashKey, PerRecord: o.PerRecord, SplitAbove: above}
}

// shipTo ships a stream to one pool, and tells what is known of the container anew
// where that is done already.
func (p *Plugin) shipTo(st *spool.Stream, pl plan, def *config.Pool, route string) error {
	live := st.Live()
	g := p.going.of(st.ID(), route)
	if g != nil && (!live || g.ending.Load()) || g == nil && !live && !st.Pending(st.Cursor(route)) {
		return nil
	}
	pool, done, err := p.pools.Use(def)
	if err != nil {
		return poolError(def, err)
	}
	defer done()
	if g == nil {
		g = &going{src: newSource(st, route), pool: pool.ID, leaving: spool.Leaving(route)}
		p.going.add(st, route, g)
	}
	p.ship.Add(g.src, p.meta(st.ID(), pl.info, pl.options), pool, p.key(pl.options, def))
	return nil
}

// giveUp ends a route whose pool is not to get more, with what it has not got.
func (p *Plugin) giveUp(st *spool.Stream, route, why string) error {
	if !st.HasRoute(route) {
		return nil
	}
	name, until := spool.SplitRoute(route)
	lost := min(until, st.End()) - min(st.Cursor(route), until)
	p.givenUp.Add(lost)
	p.log.Error("a pool that a container no longer goes to has not got all that was for it, which is given up",
		"pool", name, "container", st.Name(), "stream", st.ID(), "bytes", lost, "why", why)
	return st.RemoveRoute(route)
}

// look brings a stream in line with the configuration, whatever it did so far.
func (p *Plugin) look(st *spool.Stream) {
	defer p.calls.lock(st.Container())()
	if !st.Live() && !st.Undelivered() && !slices.ContainsFunc(st.Routes(), spool.Leaving) {
		return // its cursors are seen to when its container starts again
	}
	var info container.Info
	err := json.Unmarshal(st.Info(), &info)
	if err == nil {
		var pl plan
		if pl, err = p.plan(&info, p.conf.Current(), false); err == nil {
			if err = p.arrange(st, pl); err == nil {
				err = errors.Join(st.SetOfRoutes(p.ofRoutes(p.conf.Current(), pl, st.Routes())), p.shipAll(st, pl))
			}
		}
	}
	if p.going.failed(st, err) {
		p.log.Error("a container's records stay in the spool: they cannot be shipped", "container", st.Name(), "stream", st.ID(), "err", err)
	}
}
