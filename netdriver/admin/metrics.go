package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/metric"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/watch"
)

// maxEndpoints bounds how many have metrics of their own.
const maxEndpoints = 1000

// metrics reads what there is when it is asked for.
type metrics struct{ p *Plugin }

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	Metrics.Put(ch, "build_info", 1, build.Values()...)
	Metrics.Put(ch, "refusing", 0)
	stats := &m.p.Watch.Stats
	Metrics.Put(ch, "wire_questions_total", float64(stats.Asked.Load()))
	Metrics.Put(ch, "wire_announcements_total", float64(stats.Announced.Load()))
	Metrics.Put(ch, "wire_addresses_found_total", float64(stats.Answered.Load()))
	Metrics.Put(ch, "conflicts_total", float64(stats.Conflicts.Load()))
	_, events := m.p.Watch.Events()
	for _, what := range watch.Happenings {
		Metrics.Put(ch, "wire_events_total", float64(events[what]), string(what))
	}
	m.reconciles(ch)
	m.leaseEvents(ch)
	m.probes(ch)
	s, err := m.p.Status()
	if err != nil {
		m.p.Log.Warn("metrics of networks cannot be read", "err", err)
		return
	}
	Metrics.Put(ch, "strays", float64(len(s.Strays)))
	for _, n := range s.Networks {
		m.network(ch, n)
		m.leases(ch, n)
	}
	m.counters(ch, s)
}

func (m *metrics) reconciles(ch chan<- prometheus.Metric) {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	Metrics.Put(ch, "reconcile_errors_total", float64(m.p.errors))
	if !m.p.at.IsZero() {
		Metrics.Put(ch, "reconcile_last_timestamp_seconds", float64(m.p.at.UnixMilli())/1000)
	}
	for action, n := range m.p.actions {
		Metrics.Put(ch, "reconcile_actions_total", float64(n), action)
	}
}

func (m *metrics) network(ch chan<- prometheus.Metric, n Network) {
	id := network.Short(n.ID)
	joined, differences := 0, len(n.Difference)
	for _, e := range n.Endpoints {
		differences += len(e.Difference)
		if e.Joined {
			joined++
		}
	}
	Metrics.Put(ch, "endpoints", float64(joined), id, "joined")
	Metrics.Put(ch, "endpoints", float64(len(n.Endpoints)-joined), id, "created")
	Metrics.Put(ch, "differences", float64(differences), id)
	wire := n.Wire
	if wire == nil {
		wire = &watch.Status{}
	} else {
		Metrics.Put(ch, "wire_watched", metric.Truth(wire.Fault == ""), id)
		Metrics.Put(ch, "conflicts", float64(len(wire.Conflicts)), id)
	}
	for _, p := range n.Pools {
		reserve, used := 0, 0
		for _, a := range wire.Free {
			if p.Range.Contains(a) {
				reserve++
			}
		}
		for _, u := range wire.Used {
			if p.Range.Contains(u.Addr) {
				used++
			}
		}
		pool := p.Prefix.String()
		Metrics.Put(ch, "pool_addresses", float64(len(p.Given)), id, pool, "given")
		Metrics.Put(ch, "pool_addresses", float64(reserve), id, pool, "reserve")
		Metrics.Put(ch, "pool_addresses", float64(used), id, pool, "quarantined")
		if p.Size != nil && p.Free != nil {
			Metrics.Put(ch, "pool_size", *p.Size, id, pool)
			Metrics.Put(ch, "pool_free", *p.Free, id, pool)
		}
	}
}

// counters are those of the kernel: of each network's own link, the bridge or
// the parent, and of each endpoint's in its sandbox, as the container sees it.
func (m *metrics) counters(ch chan<- prometheus.Metric, s Status) {
	links, err := m.p.Host.LinkCounters()
	if err != nil {
		m.p.Log.Warn("counters of the kernel cannot be read", "err", err)
		return
	}
	for _, n := range s.Networks {
		for _, l := range []*Seen{n.Link, n.Parent} {
			if l == nil {
				continue
			}
			if c, there := links[l.Name]; there { // still: else its counters would seem to begin anew
				traffic(ch, "network", c, network.Short(n.ID), l.Name)
			}
		}
	}
	if m.p.PerContainer {
		m.endpoints(ch, s)
	}
}

// endpoints reports on those in sandboxes, the first of them by their ids where
// there are too many.
func (m *metrics) endpoints(ch chan<- prometheus.Metric, s Status) {
	ends, err := m.p.Host.EndpointCounters()
	if err != nil {
		m.p.Log.Warn("counters of the kernel in sandboxes cannot be read", "err", err)
		return
	}
	n := 0
	for _, of := range s.Networks {
		for _, e := range of.Endpoints {
			c, there := ends[e.ID]
			if !there {
				continue
			}
			if n++; n <= maxEndpoints {
				traffic(ch, "endpoint", c, network.Short(of.ID), network.Short(e.ID))
			}
		}
	}
	Metrics.Put(ch, "endpoints_left_out", float64(max(0, n-maxEndpoints)))
}

// traffic reports the kernel's count of packets of a link.
func traffic(ch chan<- prometheus.Metric, of string, c kernel.Counters, labels ...string) {
	for what, n := range map[string]uint64{
		"rx_bytes": c.RxBytes, "rx_packets": c.RxPackets, "rx_errors": c.RxErrors, "rx_dropped": c.RxDropped,
		"tx_bytes": c.TxBytes, "tx_packets": c.TxPackets, "tx_errors": c.TxErrors, "tx_dropped": c.TxDropped,
	} {
		Metrics.PutFormer(ch, of+"_"+what+"_total", float64(n), labels...)
	}
}
