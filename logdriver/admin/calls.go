package admin

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
)

// calls takes note of how long the engine's calls took.
type calls struct {
	took   *prometheus.HistogramVec
	errors *prometheus.CounterVec
}

func newCalls() *calls {
	c := &calls{
		took:   Metrics.Histograms("call_duration_seconds", prometheus.ExponentialBucketsRange(0.0005, 30, 12)),
		errors: Metrics.Counters("call_errors_total"),
	}
	for _, call := range []string{"Start", "Stop", "ReadLogs"} {
		c.errors.WithLabelValues(call)
	}
	return c
}

func (c *calls) observe(call string, began time.Time, err error) error {
	c.took.WithLabelValues(call).Observe(time.Since(began).Seconds())
	if err != nil {
		c.errors.WithLabelValues(call).Inc()
	}
	return err
}

// Observed is a driver whose calls are noted.
func (p *Plugin) Observed(d engine.Driver) engine.Driver { return observed{d, p.asked()} }

type observed struct {
	engine.Driver
	calls *calls
}

// Start implements engine.Driver.
func (o observed) Start(ctx context.Context, file string, info *container.Info) error {
	return o.calls.observe("Start", time.Now(), o.Driver.Start(ctx, file, info))
}

// Stop implements engine.Driver.
func (o observed) Stop(ctx context.Context, file string) error {
	return o.calls.observe("Stop", time.Now(), o.Driver.Stop(ctx, file))
}

// ReadLogs implements engine.Driver.
func (o observed) ReadLogs(ctx context.Context, info *container.Info, config engine.ReadConfig, w io.Writer) error {
	return o.calls.observe("ReadLogs", time.Now(), o.Driver.ReadLogs(ctx, info, config, w))
}
