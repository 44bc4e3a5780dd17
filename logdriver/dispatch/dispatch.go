package dispatch

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// Settings are for containers and pools that do not say otherwise.
type Settings struct {
	State      string // the plugin's own directory
	HostName   string // goes with every record
	Version    string // of the plugin; the same
	OnFull     spool.OnFull
	Sync       time.Duration // how often what is written is synced; 0: never
	SplitAbove int64         // bytes per second; 0: keys are not split
	LeaveTime  time.Duration // how long a pool that a stream no longer goes to may acknowledge nothing; 0: for ever
}

// Configuration is what is in force.
type Configuration interface {
	Current() *config.Config // nil while none is known
	Again()                  // offers once more what was refused
}

// Dispatcher sends streams to pools.
type Dispatcher struct {
	// Configuration is set before anything but Keep is called.
	Configuration Configuration
	// Paused while nothing is to be shipped.
	Paused atomic.Bool

	settings Settings
	spool    *spool.Spool
	ship     *ship.Shipper
	pools    *pool.Pools
	log      *slog.Logger
	ctx      context.Context // ends when nothing is to be ended any more

	former  *former
	going   *goings
	givenUp atomic.Uint64 // bytes
	calls   keyLock       // one start or stop of a container at a time, so that the same call made twice has one effect
}

// Open reads which pools a former process knew. Nothing is looked at before LookAll,
// Start or Run.
func Open(ctx context.Context, s Settings, sp *spool.Spool, sh *ship.Shipper, pools *pool.Pools, log *slog.Logger) *Dispatcher {
	d := &Dispatcher{settings: s, spool: sp, ship: sh, pools: pools, log: log, ctx: ctx, going: newGoings()}
	sh.Retired = d.going.retired
	var err error
	if d.former, err = loadFormer(filepath.Join(s.State, formerFile)); err != nil {
		log.Error("pools that the configuration no longer has are not known; what they are owed waits a while for one that has them", "err", err, "while", s.LeaveTime)
	}
	return d
}

// Lock waits for a container's starts and stops, and what else moves its stream. It
// returns what lets others go on.
func (d *Dispatcher) Lock(container string) (unlock func()) { return d.calls.lock(container) }

// GivenUp returns how many bytes pools never got that containers no longer go to.
func (d *Dispatcher) GivenUp() uint64 { return d.givenUp.Load() }

// PoolOf returns the id of the pool to which a stream's route is shipped, if it is.
func (d *Dispatcher) PoolOf(stream, route string) (id string, ok bool) {
	g := d.going.of(stream, route)
	if g == nil {
		return "", false
	}
	return g.pool, true
}

// Keep notes what the next configuration does not have and is still needed.
func (d *Dispatcher) Keep(was, next *config.Config) ([]*config.Pool, error) {
	owed := map[string]bool{}
	for _, st := range d.spool.Streams() {
		for _, r := range st.Routes() {
			name, _ := spool.SplitRoute(r)
			owed[name] = true
		}
	}
	return d.former.keep(was, next, owed)
}

// Reconfigure puts a configuration to work.
func (d *Dispatcher) Reconfigure(next *config.Config) {
	d.pools.Define(next)
	d.going.look(d.spool.Streams()...)
}

// LookAll brings every stream in line with the configuration.
func (d *Dispatcher) LookAll() {
	for _, st := range d.spool.Streams() {
		d.look(st)
	}
}
