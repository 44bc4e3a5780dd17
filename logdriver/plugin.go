package logdriver

import (
	"cmp"
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
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/history"
	"github.com/dockline/dockline/logdriver/place"
	"github.com/dockline/dockline/logdriver/poison"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/readlogs"
	"github.com/dockline/dockline/logdriver/record"
	"github.com/dockline/dockline/logdriver/reload"
	"github.com/dockline/dockline/logdriver/resolve"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
	"github.com/dockline/dockline/logdriver/stream"
)

// Plugin is the log driver. It implements engine.Driver.
type Plugin struct {
	cfg     Config
	log     *slog.Logger
	spool   *spool.Spool
	place   *place.Place   // of the spool
	tidy    sync.WaitGroup // the spool's own goroutine
	endTidy context.CancelFunc
	pumps   *stream.Pumps
	ship    *ship.Shipper
	pools   *pool.Pools
	history *history.History
	conf    *reload.Configuration
	former  *former
	going   *goings
	givenUp atomic.Uint64   // bytes that pools which containers no longer go to never got
	looking sync.WaitGroup  // the goroutines that follow the configuration
	ctx     context.Context // ends when they shall
	endLook context.CancelFunc
	poison  *poison.Store

	calls keyLock // one start or stop of a container at a time, so that the same call made twice has one effect
	asked *calls  // by the engine

	drainOnly atomic.Bool // nothing is shipped, see crashloop.go

	mu     sync.Mutex // guards what follows; taken before a container's lock
	later  *time.Timer
	closed bool
}

// Open reads the state that a former process left, goes on reading the FIFOs
// that it names, then shipping. A stream that makes trouble is reported and
// holds up no other.
func Open(cfg Config, log *slog.Logger) (*Plugin, error) {
	if cfg.Misset != nil {
		cfg = cfg.harmless()
	}
	sp, where, err := place.Open(place.Settings{State: cfg.StateDir, Mount: cfg.SpoolMount, MountedFrom: cfg.SpoolMountedFrom},
		spool.Config{MaxBytes: cfg.SpoolMax, MinFree: cfg.MinFree, SegmentBytes: segmentBytes, FrameLen: record.Size, Name: nameOf}, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Plugin{endTidy: cancel, cfg: cfg, log: log, spool: sp, place: where, pumps: stream.New(log), ship: ship.New(log), going: newGoings(), asked: newCalls()}
	p.ctx, p.endLook = context.WithCancel(ctx)
	host := pool.Host{Names: resolve.New(resolve.Host(), log), Config: reload.Dir(cfg.StateDir), Etc: cmp.Or(cfg.Etc, resolve.Host().Etc), Journal: cfg.JournalMount, Log: log}
	p.pools = pool.Open(p.ship, host, cfg.StateDir)
	p.ship.Retired = p.going.retired
	if p.former, err = loadFormer(filepath.Join(cfg.StateDir, "pools.json")); err != nil {
		log.Error("pools that the configuration no longer has are not known; what they are owed waits a while for one that has them", "err", err, "while", cfg.LeaveTime)
	}
	p.conf = reload.Open(cfg.reload(host, p.keepFormer), log)
	p.history = openHistory(cfg, p.ship, log)
	p.poison = openPoison(cfg, p.ship, log)
	p.tidy.Go(func() { p.history.Run(ctx) })
	p.takeOver()
	all := sp.Streams()
	for _, st := range all {
		p.resumeReading(st)
	}
	if err := p.misset(); err != nil {
		p.drainOnly.Store(true)
		log.Error("no container is taken; what those write that run waits in the spool", "err", err)
	} else if noteStart(cfg.StateDir, time.Now(), log) {
		p.beginDrainOnly()
	} else {
		for _, st := range all {
			p.look(st)
		}
	}
	p.conf.Applied = p.reconfigure
	p.tidy.Go(func() { sp.Run(ctx) })
	p.looking.Go(func() { p.runLooks(p.ctx) })
	p.looking.Go(func() { p.conf.Follow(p.ctx) })
	if n := p.pumps.Len(); n > 0 {
		log.Info("went on reading the containers that a former process was reading", "containers", n)
	}
	return p, nil
}

// Register adds the engine's calls to the server.
func (p *Plugin) Register(s *pluginserver.Server) { engine.Register(s, observed{p, p.asked}) }

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
	p.endLook()
	p.looking.Wait()
	p.pools.Close()
	p.ship.Close()
	p.endTidy()
	p.tidy.Wait()
	if err := errors.Join(noteStop(p.cfg.StateDir), p.place.Close()); err != nil {
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
			p.log.Warn("a FIFO is gone; its session is over", "container", st.Name(), "stream", st.ID(), "err", err)
			if err := se.Detach(); err != nil {
				p.log.Error("a session could not be ended", "container", st.Name(), "stream", st.ID(), "err", err)
			}
		}
	}
}

// keepFormer notes what the next configuration does not have and is still needed.
func (p *Plugin) keepFormer(was, next *config.Config) ([]*config.Pool, error) {
	owed := map[string]bool{}
	for _, st := range p.spool.Streams() {
		for _, r := range st.Routes() {
			name, _ := spool.SplitRoute(r)
			owed[name] = true
		}
	}
	return p.former.keep(was, next, owed)
}

// reconfigure puts a configuration to work.
func (p *Plugin) reconfigure(next *config.Config) {
	p.pools.Define(next)
	p.going.look(p.spool.Streams()...)
}

// Start implements engine.Driver. Nothing in it waits for a collector.
func (p *Plugin) Start(_ context.Context, file string, info *container.Info) error {
	if err := p.misset(); err != nil && !p.live(info.ContainerID) {
		return err
	}
	conf := p.conf.Current()
	pl, err := p.plan(info, conf, !p.live(info.ContainerID))
	if err != nil {
		return err
	}
	done, err := p.open(pl, !p.live(info.ContainerID))
	if err != nil {
		return err
	}
	defer done()
	raw, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode what is known of the container: %w", err)
	}
	params := spool.Params{Container: info.ContainerID, Info: raw, KeepBytes: pl.options.KeepBytes}
	if err := p.policies(pl.options, &params); err != nil {
		return err
	}
	params.OfRoutes = p.ofRoutes(conf, pl, pl.routes())
	defer p.calls.lock(info.ContainerID)()
	if p.spool.Of(info.ContainerID) == nil { // else it has cursors, perhaps of other pools
		params.Routes = pl.routes()
	}
	se, created, err := p.spool.Attach(params, file)
	if err != nil {
		return err
	}
	if err = p.arrange(se.Stream(), pl); err == nil {
		err = p.pumps.Start(se)
	}
	if err != nil {
		if created {
			err = errors.Join(err, se.Detach())
		}
		return err
	}
	if p.conf.Current() != conf {
		p.going.look(se.Stream()) // whoever looked at all streams since may have missed it
	}
	if err := p.shipAll(se.Stream(), pl); err != nil {
		p.going.look(se.Stream()) // which says why; it is no reason not to start
	}
	return nil
}

// live reports whether a container logs already. It is given to us again then,
// after a restart of the engine, and cannot be refused what it has.
func (p *Plugin) live(container string) bool {
	st := p.spool.Of(container)
	return st != nil && st.Live()
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

func (p *Plugin) meta(stream string, info *container.Info, o container.Options) *ship.Meta {
	return &ship.Meta{
		Stream: stream, ContainerID: info.ContainerID, ContainerName: info.Name(),
		ImageID: info.ContainerImageID, ImageName: info.ContainerImageName, Command: o.Command,
		Created: info.ContainerCreated, Host: p.cfg.HostName, Tag: o.Tag, Attrs: o.Attrs,
		Engine: info.DaemonName, Version: p.cfg.Version, Workload: info.Workload(), Process: o.Process,
		Key: o.HashKey, PerRecord: o.PerRecord,
	}
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

// nameOf is a container's name out of what the spool keeps of it.
func nameOf(info json.RawMessage) string {
	var of container.Info
	if json.Unmarshal(info, &of) != nil {
		return ""
	}
	return of.Name()
}
