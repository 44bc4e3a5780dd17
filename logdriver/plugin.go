package logdriver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/discover"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/history"
	"github.com/dockline/dockline/logdriver/readlogs"
	"github.com/dockline/dockline/logdriver/resolve"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/logdriver/stream"
)

// routeName is the one route there is: from a container to its collectors.
const routeName = "default"

// Plugin is the log driver. It implements engine.Driver.
type Plugin struct {
	cfg     Config
	log     *slog.Logger
	spool   *spool.Spool
	place   place          // of the spool
	tidy    sync.WaitGroup // the spool's own goroutine and the history's
	endTidy context.CancelFunc
	pumps   *stream.Pumps
	ship    *ship.Shipper
	pools   *pools
	history *history.History

	calls     keyLock     // one start or stop of a container at a time, so that the same call made twice has one effect
	drainOnly atomic.Bool // nothing is shipped, see crashloop.go

	mu     sync.Mutex // guards what follows; taken before a container's lock
	later  *time.Timer
	closed bool
}

// Open reads the state that a former process left, goes on reading the FIFOs
// that it names, then shipping. A stream that makes trouble is reported and
// holds up no other.
func Open(cfg Config, log *slog.Logger) (*Plugin, error) {
	sp, where, err := openSpool(cfg, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Plugin{endTidy: cancel, cfg: cfg, log: log, spool: sp, place: where, pumps: stream.New(log), ship: ship.New(log)}
	p.pools = newPools(p.ship, resolve.New(resolve.Host(), log), resolve.Host().Etc, filepath.Join(cfg.StateDir, "collectors.json"), log)
	p.history = openHistory(cfg, p.ship, log)
	p.tidy.Go(func() { p.history.Run(ctx) })
	p.takeOver()
	all := sp.Streams()
	for _, st := range all {
		p.resumeReading(st)
	}
	if noteStart(cfg.StateDir, time.Now(), log) {
		p.beginDrainOnly()
	} else {
		for _, st := range all {
			p.resumeShipping(st)
		}
	}
	p.tidy.Go(func() { sp.Run(ctx) })
	if n := p.pumps.Len(); n > 0 {
		log.Info("went on reading the containers that a former process was reading", "containers", n)
	}
	return p, nil
}

// Register adds the engine's calls to the server.
func (p *Plugin) Register(s *pluginserver.Server) { engine.Register(s, p) }

// Close stops reading and shipping. No session ends by it: the next process
// goes on where this one stopped.
func (p *Plugin) Close() {
	p.mu.Lock()
	p.closed = true
	if p.later != nil {
		p.later.Stop()
	}
	p.mu.Unlock()
	p.pumps.Close()
	p.pools.close()
	p.ship.Close()
	p.endTidy()
	p.tidy.Wait()
	p.place.Settled = settled(p.spool)
	if err := errors.Join(noteStop(p.cfg.StateDir), p.place.note(p.cfg.StateDir, false)); err != nil {
		p.log.Warn("the next start may be taken for one after a crash", "err", err)
	}
	used, dropped := p.spool.Used()
	s := &p.ship.Stats
	p.log.Info("dockline-log stops", "records_sent", s.Sent.Load(), "records_acknowledged", s.Acked.Load(), "records_resent", s.Resent.Load(),
		"bytes_lost", s.LostBytes.Load(), "bytes_quarantined", s.QuarantinedBytes.Load(), "connections_failed", s.Failures.Load(),
		"spool_bytes", used, "spool_bytes_dropped", dropped)
}

func (p *Plugin) resumeReading(st *spool.Stream) {
	for _, se := range st.Sessions() {
		if err := p.pumps.Resume(se); err != nil {
			p.log.Warn("a FIFO is gone; its session is over", "container", st.Container(), "err", err)
			if err := se.Detach(); err != nil {
				p.log.Error("a session could not be ended", "container", st.Container(), "err", err)
			}
		}
	}
}

// resumeShipping ships what is live, and what has ended and is not delivered yet.
func (p *Plugin) resumeShipping(st *spool.Stream) {
	if !st.Live() && (!st.HasRoute(routeName) || !st.Pending(st.Cursor(routeName))) {
		return
	}
	var info container.Info
	err := json.Unmarshal(st.Info(), &info)
	if err == nil {
		var o container.Options
		var pool ship.Pool
		var done func()
		if o, pool, done, err = p.parse(&info); err == nil {
			err = p.startShipping(st, &info, o, pool)
			done()
		}
	}
	if err != nil {
		p.log.Error("a container's records stay in the spool: they cannot be shipped", "container", st.Container(), "err", err)
	}
}

// parse checks a container's options and opens the pool that they name, until
// done is called.
func (p *Plugin) parse(info *container.Info) (o container.Options, pool ship.Pool, done func(), err error) {
	if o, err = container.ParseOptions(info); err != nil {
		return o, pool, nil, err
	}
	what, key, list := "log-opt", "collectors", o.Collectors
	if list == "" {
		what, key, list = "plugin setting", "COLLECTORS", p.cfg.Collectors
	}
	if pool, done, err = p.pools.use(list); err != nil {
		return o, pool, nil, &options.ValueError{What: what, Key: key, Value: discover.RedactList(list), Err: err}
	}
	return o, pool, done, nil
}

// Start implements engine.Driver. Nothing in it waits for a collector.
func (p *Plugin) Start(_ context.Context, file string, info *container.Info) error {
	o, pool, done, err := p.parse(info)
	if err != nil {
		return err
	}
	defer done()
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode what is known of the container: %w", err)
	}
	params := spool.Params{Container: info.ContainerID, Info: raw, KeepBytes: o.KeepBytes}
	if err := p.policies(o, &params); err != nil {
		return err
	}
	if pool.ID != "" {
		params.Routes = []string{routeName}
	}
	defer p.calls.lock(info.ContainerID)()
	se, created, err := p.spool.Attach(params, file)
	if err != nil {
		return err
	}
	if err := p.pumps.Start(se); err != nil {
		if created {
			err = errors.Join(err, se.Detach())
		}
		return err
	}
	return p.startShipping(se.Stream(), info, o, pool)
}

// policies reads what a container's options, or else the plugin's settings, say
// about keeping its data.
func (p *Plugin) policies(o container.Options, params *spool.Params) (err error) {
	if params.OnFull, err = spool.ParseOnFull(o.OnFull, p.cfg.OnFull); err != nil {
		return &options.ValueError{What: "log-opt", Key: "on-full", Value: o.OnFull, Err: err}
	}
	if params.Sync, err = spool.ParseSync(o.Sync, p.cfg.Sync); err != nil {
		return &options.ValueError{What: "log-opt", Key: "sync", Value: o.Sync, Err: err}
	}
	return nil
}

func (p *Plugin) startShipping(st *spool.Stream, info *container.Info, o container.Options, pool ship.Pool) error {
	if pool.ID == "" {
		return st.RemoveRoute(routeName) // kept for docker logs alone
	}
	if err := st.AddRoute(routeName); err != nil || p.drainOnly.Load() {
		return err
	}
	p.ship.Add(newSource(st, routeName), p.meta(st, info, o), pool, p.key(o))
	return nil
}

func (p *Plugin) meta(st *spool.Stream, info *container.Info, o container.Options) *ship.Meta {
	m := &ship.Meta{
		Stream: st.ID(), ContainerID: info.ContainerID, ContainerName: info.Name(),
		ImageID: info.ContainerImageID, ImageName: info.ContainerImageName, Command: info.Command(),
		Created: info.ContainerCreated, Host: p.cfg.HostName, Tag: o.Tag,
	}
	for _, a := range o.Attrs {
		m.Attrs = append(m.Attrs, ship.Attr(a))
	}
	return m
}

// Stop implements engine.Driver.
func (p *Plugin) Stop(_ context.Context, file string) error {
	id := p.pumps.Container(file)
	if id == "" {
		return nil
	}
	defer p.calls.lock(id)()
	return p.pumps.Stop(file)
}

// ReadLogs implements engine.Driver.
func (p *Plugin) ReadLogs(ctx context.Context, info *container.Info, c engine.ReadConfig, w io.Writer) error {
	st := p.spool.Of(info.ContainerID)
	if st == nil {
		return nil // it never wrote anything, or all of it was evicted
	}
	return readlogs.Write(ctx, st, readlogs.Query{Since: c.Since, Until: c.Until, Tail: c.Tail, Follow: c.Follow}, w)
}
