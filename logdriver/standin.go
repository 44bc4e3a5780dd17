package logdriver

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/place"
	"github.com/dockline/dockline/logdriver/refusal"
	"github.com/dockline/dockline/logdriver/rescue"
	"github.com/dockline/dockline/logdriver/spool"
)

// Driver is the log driver as the process sees it.
type Driver interface {
	Register(*pluginserver.Server) // adds the engine's calls
	Admin(*slog.Logger) *shared.Server
	Close()
}

// Start opens the plugin, or what stands in for it: where a newer version wrote the
// spool, what keeps containers going until that version is back, and where the spool
// is out of reach, what refuses them.
func Start(cfg Config, log *slog.Logger) (Driver, error) {
	p, err := Open(cfg, log)
	var other *spool.VersionError
	var elsewhere *place.Error
	switch {
	case errors.As(err, &other):
		if cfg.Misset != nil {
			cfg = cfg.harmless()
		}
		return openDowngraded(cfg, other, log)
	case errors.As(err, &elsewhere):
		return outOfReach{refusal.Open(filepath.Dir(cfg.StateDir), err, log)}, nil
	case err != nil:
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
func (d downgraded) Admin(log *slog.Logger) *shared.Server {
	s := shared.New(log, d)
	s.Refuse(d.Why)
	s.Ready("records are shipped", d.Why)
	return s
}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (d downgraded) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (d downgraded) Collect(ch chan<- prometheus.Metric) {
	used, dropped := d.Used()
	admin.StandIn(ch, "downgraded", dropped, droppedBesides)
	admin.Metrics.Put(ch, "put_aside_bytes", float64(used))
}

type outOfReach struct{ *refusal.Driver }

// Register implements Driver.
func (r outOfReach) Register(s *pluginserver.Server) { engine.Register(s, r) }

// Admin implements Driver.
func (r outOfReach) Admin(log *slog.Logger) *shared.Server {
	s := shared.New(log, r)
	s.Ready("spool is within reach", r.Why)
	s.Refuse(r.Why)
	return s
}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (r outOfReach) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r outOfReach) Collect(ch chan<- prometheus.Metric) {
	admin.StandIn(ch, "refusing", r.Dropped(), "refused")
}
