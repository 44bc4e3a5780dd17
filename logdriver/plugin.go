package logdriver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/dispatch"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/history"
	"github.com/dockline/dockline/logdriver/place"
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
	streams *dispatch.Dispatcher
	looking sync.WaitGroup  // the goroutines that follow the configuration
	ctx     context.Context // ends when they shall
	endLook context.CancelFunc

	shown *admin.Plugin // to operators

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
	p := &Plugin{endTidy: cancel, cfg: cfg, log: log, spool: sp, place: where, pumps: stream.New(log), ship: ship.New(log)}
	p.ctx, p.endLook = context.WithCancel(ctx)
	host := pool.Host{Names: resolve.New(resolve.Host(), log), Config: reload.Dir(cfg.StateDir), Etc: cmp.Or(cfg.Etc, resolve.Host().Etc), Journal: cfg.JournalMount, Log: log}
	p.pools = pool.Open(p.ship, host, cfg.StateDir)
	p.streams = dispatch.Open(p.ctx, cfg.dispatch(), sp, p.ship, p.pools, log)
	p.conf = reload.Open(cfg.reload(host, p.streams.Keep), log)
	p.streams.Configuration = p.conf
	p.history = openHistory(cfg, p.ship, log)
	p.shown = &admin.Plugin{
		Spool: sp, Pumps: p.pumps, Streams: p.streams, Config: p.conf, Pools: p.pools, Ship: p.ship, History: p.history, Poison: openPoison(cfg, p.ship, log),
		Log: log, SpoolMax: cfg.SpoolMax, Misset: p.misset(), PauseFor: drainOnlyFor, PerContainer: cfg.PerContainer,
	}
	p.tidy.Go(func() { p.history.Run(ctx) })
	p.streams.TakeOver()
	for _, st := range sp.Streams() {
		p.resumeReading(st)
	}
	if err := p.misset(); err != nil {
		p.streams.Paused.Store(true)
		log.Error("no container is taken; what those write that run waits in the spool", "err", err)
	} else if noteStart(cfg.StateDir, time.Now(), log) {
		p.beginDrainOnly()
	} else {
		p.streams.LookAll()
	}
	p.conf.Applied = p.streams.Reconfigure
	p.tidy.Go(func() { sp.Run(ctx) })
	p.looking.Go(func() { p.streams.Run(p.ctx) })
	p.looking.Go(func() { p.conf.Follow(p.ctx) })
	if n := p.pumps.Len(); n > 0 {
		log.Info("went on reading the containers that a former process was reading", "containers", n)
	}
	return p, nil
}

// Register adds the engine's calls to the server.
func (p *Plugin) Register(s *pluginserver.Server) { engine.Register(s, p.shown.Observed(p)) }

// Status looks at everything.
func (p *Plugin) Status() admin.Status { return p.shown.Status() }

// Admin implements Driver.
func (p *Plugin) Admin(log *slog.Logger) *shared.Server { return p.shown.Server(log) }

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

// Start implements engine.Driver. Nothing in it waits for a collector.
func (p *Plugin) Start(_ context.Context, file string, info *container.Info) error {
	if err := p.misset(); err != nil && !p.spool.Live(info.ContainerID) {
		return err
	}
	return p.streams.Start(file, info, p.pumps.Start)
}

// Stop implements engine.Driver.
func (p *Plugin) Stop(_ context.Context, file string) error {
	id := p.pumps.Container(file)
	if id == "" {
		return nil
	}
	defer p.streams.Lock(id)()
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
