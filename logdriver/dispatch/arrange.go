package dispatch

import (
	"errors"
	"slices"

	"github.com/dockline/dockline/logdriver/spool"
)

// Each pool that a stream goes to has a cursor in it, which bears the pool's
// name, so the cursors say where the stream went so far. When it is to go
// elsewhere, a pool that takes the place of another goes on with its cursor, and
// one that just goes keeps it, under a name with the offset up to which the
// stream was for it, until that has been delivered.

// arrange brings a stream's cursors in line with the plan. Where a cursor is in
// use that is to change hands, that is ended first, and the stream looked at
// again then. The container's lock is held.
func (d *Dispatcher) arrange(st *spool.Stream, pl Plan) error {
	want := pl.routes()
	if !pl.known {
		if len(st.Routes()) > 0 {
			return nil
		}
		return addRoutes(st, want)
	}
	if err := d.welcomeBack(st, want); err != nil {
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
		if d.ended(st, gone[0]) {
			if err := st.RenameRoute(gone[0], fresh[0]); err != nil {
				return err
			}
		}
		gone, fresh = gone[1:], fresh[1:]
	}
	return errors.Join(addRoutes(st, fresh), d.sendOff(st, gone))
}

// welcomeBack has pools go on where they were leaving.
func (d *Dispatcher) welcomeBack(st *spool.Stream, want []string) error {
	for _, r := range st.Routes() {
		name, _ := spool.SplitRoute(r)
		if !spool.Leaving(r) || !slices.Contains(want, name) || st.HasRoute(name) || !d.ended(st, r) {
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
func (d *Dispatcher) sendOff(st *spool.Stream, routes []string) error {
	for _, r := range routes {
		var err error
		switch {
		case !d.ended(st, r):
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
