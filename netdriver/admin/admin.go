// Package admin shows an operator what the network plugin means to have, what
// there is, and where the two differ, as a status in JSON and as metrics.
//
// It stands beside engine, above everything that it looks at. What it shows is
// read when it is asked for. It changes nothing but reservations of addresses.
package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/probe"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/trace"
	"github.com/dockline/dockline/netdriver/watch"
)

// Host is what this package asks of the kernel.
type Host interface {
	Links() ([]kernel.Link, error)
	Elsewhere() ([]kernel.Elsewhere, error)
	AddrsElsewhere(kernel.Elsewhere) ([]netip.Prefix, error)
	LinkCounters() (map[string]kernel.Counters, error)
	EndpointCounters() (map[string]kernel.Counters, error)
	Owner(alias string) (kernel.Owner, bool)
	EndpointAlias(networkID, endpointID string) string
}

// Plugin is what is shown. All fields but Leases, Probe and Cluster are needed.
type Plugin struct {
	Host      Host
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	IPAM      *ipam.Manager
	Leases    *dhcp.Manager
	Watch     *watch.Manager
	Probe     *probe.Manager // nil: nobody is asked time and again
	Cluster   *etcd.Backend  // nil: there is none
	Log       *slog.Logger
	// PerContainer has metrics of each endpoint.
	PerContainer bool

	once  sync.Once
	calls *prometheus.HistogramVec
	fails *prometheus.CounterVec
	took  *prometheus.HistogramVec // of reconciles

	mu      sync.Mutex // guards all below
	errors  uint64     // reconciles that ended in one
	failed  error      // what the last one ended in
	since   time.Time  // when the first was due
	actions map[string]uint64
	last    reconcile.Report
	at      time.Time
}

func (p *Plugin) init() {
	p.once.Do(func() {
		p.actions, p.since = map[string]uint64{"repaired": 0, "adopted": 0, "abandoned": 0, "released": 0}, time.Now()
		p.calls = Metrics.Histograms("call_duration_seconds", prometheus.ExponentialBucketsRange(0.0001, 10, 16))
		p.took = Metrics.Histograms("reconcile_duration_seconds", prometheus.ExponentialBucketsRange(0.001, 10, 13))
		p.fails = Metrics.Counters("call_errors_total")
	})
}

// Observe takes note of a call of the engine.
func (p *Plugin) Observe(call string, took time.Duration, err error) {
	p.init()
	p.calls.WithLabelValues(call).Observe(took.Seconds())
	fails := p.fails.WithLabelValues(call) // 0 is a value too
	if err != nil {
		fails.Inc()
	}
}

// Reconciled takes note of a reconcile.
func (p *Plugin) Reconciled(rep reconcile.Report, err error) {
	p.init()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took.WithLabelValues().Observe(rep.Took.Seconds())
	if err != nil {
		p.errors++
	}
	for action, n := range map[string]int{"repaired": rep.Repaired, "adopted": rep.Adopted, "abandoned": rep.Abandoned, "released": rep.Released} {
		p.actions[action] += uint64(n) //nolint:gosec // a count
	}
	p.last, p.at, p.failed = rep, time.Now(), err
}

// overdue is how long after the last reconcile the next one is missed; they are
// half a minute apart.
const overdue = 2 * time.Minute

// reconciles reports whether they still go on.
func (p *Plugin) reconciles() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.at
	if last.IsZero() {
		last = p.since
	}
	if since := time.Since(last); since > overdue {
		return fmt.Errorf("no reconcile has ended for %v; the kernel, or a sandbox, does not answer: disable and enable the plugin", since.Round(time.Second))
	}
	return nil
}

// reconciled reports whether what should be is.
func (p *Plugin) reconciled() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.at.IsZero():
		return errors.New("none has ended since the plugin started; wait for it")
	case p.failed != nil:
		return fmt.Errorf("the last one ended in an error: %w", p.failed)
	}
	return nil
}

func (p *Plugin) kernelAnswers() error {
	_, err := p.Host.Links()
	return err
}

// Server returns the server of the metrics, health, /status and the calls of
// reservations.
func (p *Plugin) Server() *shared.Server {
	p.init()
	all := []prometheus.Collector{p.calls, p.fails, p.took, &metrics{p}}
	if p.Cluster != nil {
		all = append(all, cluster{p.Cluster})
	}
	s := shared.New(p.Log, all...)
	s.Healthy("reconciles go on", p.reconciles)
	s.Healthy("the kernel answers", p.kernelAnswers)
	s.Ready("the last reconcile", p.reconciled)
	s.Handle("/status", func(*http.Request) (any, error) { return p.Status() })
	if p.Cluster != nil {
		s.Handle("/cluster", func(*http.Request) (any, error) { return p.Cluster.Status(), nil })
		s.Handle("/claims", func(r *http.Request) (any, error) { return p.Cluster.List(r.URL.Query().Get("host")), nil })
	}
	s.Handle("/events", func(*http.Request) (any, error) {
		last, _ := p.Watch.Events()
		return map[string]any{"events": append([]watch.Event{}, last...)}, nil
	})
	p.registerReservations(s)
	s.Handle(trace.Path, p.trace)
	return s
}

// Refusing returns the server of a plugin that refuses all calls.
func Refusing(why error, log *slog.Logger) *shared.Server {
	s := shared.New(log, refusing{})
	s.Ready("calls are taken", func() error { return why })
	s.Refuse(func() error { return why })
	return s
}

// refusing are its metrics.
type refusing struct{}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (refusing) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (refusing) Collect(ch chan<- prometheus.Metric) {
	Metrics.Put(ch, "build_info", 1, build.Values()...)
	Metrics.Put(ch, "refusing", 1)
}
