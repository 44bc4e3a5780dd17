// Package admin shows an operator what the network plugin means to have, what
// there is, and where the two differ, as a status in JSON and as metrics.
//
// It stands beside engine, above everything that it looks at. What it shows is
// read when it is asked for. It changes nothing but reservations of addresses.
package admin

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
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

// Plugin is what is shown. All fields but Leases and Cluster are needed.
type Plugin struct {
	Host      Host
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	IPAM      *ipam.Manager
	Leases    *dhcp.Manager
	Watch     *watch.Manager
	Cluster   *etcd.Backend // nil: there is none
	Log       *slog.Logger

	once  sync.Once
	calls *prometheus.HistogramVec
	fails *prometheus.CounterVec
	took  prometheus.Histogram // of reconciles

	mu      sync.Mutex // guards all below
	errors  uint64     // reconciles that ended in one
	actions map[string]uint64
	last    reconcile.Report
	at      time.Time
}

func (p *Plugin) init() {
	p.once.Do(func() {
		p.actions = map[string]uint64{}
		p.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: namespace + "call_duration_seconds", Help: "How long calls of the engine took.",
			Buckets: prometheus.ExponentialBucketsRange(0.0001, 10, 16),
		}, []string{"call"})
		p.took = prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: namespace + "reconcile_duration_seconds", Help: "How long reconciles took.",
			Buckets: prometheus.ExponentialBucketsRange(0.001, 10, 13),
		})
		p.fails = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: namespace + "call_errors_total", Help: "Calls of the engine that ended in an error.",
		}, []string{"call"})
	})
}

// Observe takes note of a call of the engine.
func (p *Plugin) Observe(call string, took time.Duration, err error) {
	p.init()
	p.calls.WithLabelValues(call).Observe(took.Seconds())
	if err != nil {
		p.fails.WithLabelValues(call).Inc()
	}
}

// Reconciled takes note of a reconcile.
func (p *Plugin) Reconciled(rep reconcile.Report, err error) {
	p.init()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took.Observe(rep.Took.Seconds())
	if err != nil {
		p.errors++
	}
	for action, n := range map[string]int{"repaired": rep.Repaired, "adopted": rep.Adopted, "abandoned": rep.Abandoned, "released": rep.Released} {
		p.actions[action] += uint64(n) //nolint:gosec // a count
	}
	p.last, p.at = rep, time.Now()
}

// Server returns the server of the metrics, /status and the calls of reservations.
func (p *Plugin) Server() *shared.Server {
	p.init()
	all := []prometheus.Collector{p.calls, p.fails, p.took, &metrics{p}}
	if p.Cluster != nil {
		all = append(all, cluster{p.Cluster})
	}
	s := shared.New(p.Log, all...)
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
