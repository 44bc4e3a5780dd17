package logdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/rescue"
	"github.com/dockline/dockline/logdriver/spool"
)

// Driver is the log driver as the process sees it.
type Driver interface {
	Register(*pluginserver.Server) // adds the engine's calls
	Admin(*slog.Logger) *admin.Server
	Close()
}

// Start opens the plugin, or where a newer version wrote the spool, what keeps
// containers going until that version is back.
func Start(cfg Config, log *slog.Logger) (Driver, error) {
	p, err := Open(cfg, log)
	var other *spool.VersionError
	if errors.As(err, &other) {
		if cfg.Misset != nil {
			cfg = cfg.harmless()
		}
		return openDowngraded(cfg, other, log)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// rescueShare is the part of SPOOL_MAX that may be put aside, beside the spool.
const rescueShare = 4

// droppedBesides is the reason for what does not fit there.
const droppedBesides = "drop-newest"

type downgraded struct{ *rescue.Driver }

func openDowngraded(cfg Config, why *spool.VersionError, log *slog.Logger) (Driver, error) {
	c := spool.Config{MaxBytes: max(cfg.SpoolMax/rescueShare, minSpool), MinFree: cfg.MinFree, SegmentBytes: segmentBytes}
	aside, err := spool.OpenRescue(why.Dir, c, log)
	if err != nil {
		return nil, err
	}
	d, err := rescue.Open(aside, filepath.Dir(cfg.StateDir), why, log)
	if err != nil {
		return nil, err
	}
	return downgraded{d}, nil
}

// Register implements Driver.
func (d downgraded) Register(s *pluginserver.Server) { engine.Register(s, d) }

// Admin implements Driver. There is no status, and nothing is drained.
func (d downgraded) Admin(log *slog.Logger) *admin.Server {
	s := admin.New(log, d)
	s.Refuse(d.Why)
	s.Ready("records are shipped", d.Why)
	return s
}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (d downgraded) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (d downgraded) Collect(ch chan<- prometheus.Metric) {
	used, dropped := d.Used()
	besides(ch, dropped, droppedBesides)
	modes(ch, map[string]bool{"downgraded": true})
	Metrics.Put(ch, "put_aside_bytes", float64(used))
}

// takeOver makes what was put aside after a downgrade part of the spool. It is
// called before anything is read from a FIFO.
func (p *Plugin) takeOver() {
	all, err := p.spool.Rescued()
	if err != nil {
		p.log.Error("what was put aside after a downgrade cannot be read", "err", err)
	}
	for _, r := range all {
		if err := p.takeOverOne(r); err != nil {
			p.log.Error("what was put aside after a downgrade stays there", "fifo", r.FIFO, "err", err)
		}
	}
	if len(all) > 0 {
		p.log.Info("took over what was put aside after a downgrade", "fifos", len(all))
	}
}

func (p *Plugin) takeOverOne(r *spool.Rescued) error {
	se := p.spool.SessionOf(r.FIFO)
	if se == nil {
		var info container.Info
		switch {
		case r.Info == nil && r.Empty(): // left by an engine that has died
			return r.Forget()
		case r.Info == nil:
			return errors.New("nobody knows which container it belongs to")
		}
		if err := json.Unmarshal(r.Info, &info); err != nil {
			return fmt.Errorf("read what it belongs to: %w", err)
		}
		pl, err := p.plan(&info, p.conf.current(), false)
		if err != nil {
			p.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
			pl.missing = []string{config.DefaultPool}
		}
		params := spool.Params{Container: info.ContainerID, Info: r.Info, KeepBytes: pl.options.KeepBytes, OnFull: p.cfg.OnFull, Sync: p.cfg.Sync}
		if p.spool.Of(info.ContainerID) == nil {
			params.Routes = pl.routes()
		}
		if err := p.policies(pl.options, &params); err != nil {
			p.log.Error("a container's options are not understood", "container", info.Name(), "err", err)
		}
		if se, _, err = p.spool.Attach(params, r.FIFO); err != nil {
			return err
		}
	}
	return se.Adopt(r)
}
