package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// handOver bounds how long it is waited for what is under way to a collector when
// a cursor changes hands; after that it is sent again, to the next. It is longer
// than a collector may take that is not taken for down.
const handOver = time.Minute

// ended reports whether nobody ships a route. If somebody does it is ended, and
// the stream looked at again then.
func (d *Dispatcher) ended(st *spool.Stream, route string) bool {
	g := d.going.of(st.ID(), route)
	if g == nil {
		return true
	}
	if g.ending.CompareAndSwap(false, true) {
		time.AfterFunc(handOver, func() {
			if d.going.of(st.ID(), route) == g && d.ctx.Err() == nil {
				d.ship.Remove(st.ID(), g.pool)
			}
		})
		g.src.end()
		d.ship.End(st.ID(), g.pool)
	}
	return false
}

// shipAll ships a stream to every pool that it has a cursor for.
func (d *Dispatcher) shipAll(st *spool.Stream, pl Plan) error {
	if d.Paused.Load() || !pl.known {
		return nil
	}
	var errs []error
	for _, def := range pl.Pools {
		if st.HasRoute(cursorOf(def)) {
			errs = append(errs, d.shipTo(st, pl, def, cursorOf(def)))
		}
	}
	for _, name := range pl.Missing {
		errs = append(errs, fmt.Errorf("there is no pool %q any more", name))
	}
	for _, r := range st.Routes() {
		name, until := spool.SplitRoute(r)
		if !spool.Leaving(r) || slices.Contains(pl.routes(), name) {
			continue // for one that is on its way back, what is under way is waited for
		}
		def := d.definition(d.Configuration.Current(), name)
		switch {
		case d.going.of(st.ID(), r) != nil:
		case d.going.finished(st.ID(), r) || st.Cursor(r) >= until || !st.Owed(r):
			errs = append(errs, st.RemoveRoute(r))
		case def == nil && d.former.lost: // it may come back, with the next configuration
			errs = append(errs, fmt.Errorf("nobody knows which collectors pool %q had", name))
		case def == nil:
			errs = append(errs, d.giveUp(st, r, "nobody knows its collectors any more"))
		default:
			errs = append(errs, d.shipTo(st, pl, def, r))
		}
	}
	return errors.Join(errs...)
}

// key says how the records of a container find their collectors in a pool.
func (d *Dispatcher) key(o container.Options, pool *config.Pool) ship.Key {
	above := o.SplitAbove.Or(d.settings.SplitAbove)
	if !o.OwnSplit {
		rate, _ := container.ParseRate(pool.SplitAbove) // it was checked
		above = rate.Or(above)
	}
	return ship.Key{Value: o.HashKey, PerRecord: o.PerRecord, SplitAbove: above}
}

// shipTo ships a stream to one pool, and tells what is known of the container anew
// where that is done already.
func (d *Dispatcher) shipTo(st *spool.Stream, pl Plan, def *config.Pool, route string) error {
	live := st.Live()
	g := d.going.of(st.ID(), route)
	if g != nil && (!live || g.ending.Load()) || g == nil && !live && !st.Pending(st.Cursor(route)) {
		return nil
	}
	pool, done, err := d.pools.Use(def)
	if err != nil {
		return def.CannotBe(err)
	}
	defer done()
	if g == nil {
		g = &going{src: newSource(st, route), pool: pool.ID, leaving: spool.Leaving(route)}
		d.going.add(st, route, g)
	}
	d.ship.Add(g.src, d.meta(st.ID(), pl.info, pl.Options), pool, d.key(pl.Options, def))
	return nil
}

// giveUp ends a route whose pool is not to get more, with what it has not got.
func (d *Dispatcher) giveUp(st *spool.Stream, route, why string) error {
	if !st.HasRoute(route) {
		return nil
	}
	name, until := spool.SplitRoute(route)
	lost := min(until, st.End()) - min(st.Cursor(route), until)
	d.givenUp.Add(lost)
	d.log.Error("a pool that a container no longer goes to has not got all that was for it, which is given up",
		"pool", name, "container", st.Name(), "stream", st.ID(), "bytes", lost, "why", why)
	return st.RemoveRoute(route)
}

// look brings a stream in line with the configuration, whatever it did so far.
func (d *Dispatcher) look(st *spool.Stream) {
	defer d.Lock(st.Container())()
	if !st.Live() && !st.Undelivered() && !slices.ContainsFunc(st.Routes(), spool.Leaving) {
		return // its cursors are seen to when its container starts again
	}
	var info container.Info
	err := json.Unmarshal(st.Info(), &info)
	if err == nil {
		var pl Plan
		if pl, err = d.plan(&info, d.Configuration.Current(), false); err == nil {
			if err = d.arrange(st, pl); err == nil {
				err = errors.Join(st.SetOfRoutes(d.ofRoutes(d.Configuration.Current(), pl, st.Routes())), d.shipAll(st, pl))
			}
		}
	}
	if d.going.failed(st, err) {
		d.log.Error("a container's records stay in the spool: they cannot be shipped", "container", st.Name(), "stream", st.ID(), "err", err)
	}
}
