package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/watch"
)

const namespace = "dockline_net_"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+name, help, labels, nil)
}

// The metrics that are read when they are asked for. Networks and endpoints are
// labelled with their ids as the docker command shows them.
var (
	descAsked       = desc("wire_questions_total", "ARP probes and neighbour solicitations sent.")
	descAnnounced   = desc("wire_announcements_total", "Addresses of endpoints announced.")
	descAnswered    = desc("wire_addresses_found_total", "Addresses of our pools that were found in use by other machines.")
	descConflictsN  = desc("conflicts_total", "Conflicts that began: another machine has the address of an endpoint.")
	descEvents      = desc("wire_events_total", "What happened to addresses on the wires: quarantined, freed, conflict, settled.", "event")
	descConflicts   = desc("conflicts", "Addresses of endpoints that another machine has as well.", "network")
	descWatched     = desc("wire_watched", "Whether the network's wire can be looked at.", "network")
	descAddresses   = desc("pool_addresses", "Addresses of a pool's range: given, kept in reserve as known to be free, and in use by other machines.", "network", "pool", "state")
	descSize        = desc("pool_size", "Addresses that a pool's range has.", "network", "pool")
	descEndpoints   = desc("endpoints", "Endpoints by whether they are in a sandbox.", "network", "state")
	descDifferences = desc("differences", "What is not as it is meant to be, of a network and its endpoints.", "network")
	descStrays      = desc("strays", "Links of ours that belong to nothing that is known.")
	descErrors      = desc("reconcile_errors_total", "Reconciles that ended in an error.")
	descActions     = desc("reconcile_actions_total", "What reconciles put right.", "action")
	descLast        = desc("reconcile_last_timestamp_seconds", "When the last reconcile ended, in Unix time.")

	directions = []string{"rx", "tx"}
	traffic    = []string{"bytes", "packets", "errors", "dropped"}
)

// metrics reads what there is when it is asked for.
type metrics struct{ p *Plugin }

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	stats := &m.p.Watch.Stats
	counter(ch, descAsked, stats.Asked.Load())
	counter(ch, descAnnounced, stats.Announced.Load())
	counter(ch, descAnswered, stats.Answered.Load())
	counter(ch, descConflictsN, stats.Conflicts.Load())
	_, events := m.p.Watch.Events()
	for _, what := range watch.Happenings {
		counter(ch, descEvents, events[what], string(what))
	}
	m.reconciles(ch)
	m.leaseEvents(ch)
	s, err := m.p.Status()
	if err != nil {
		m.p.Log.Warn("metrics of networks cannot be read", "err", err)
		return
	}
	gauge(ch, descStrays, float64(len(s.Strays)))
	for _, n := range s.Networks {
		m.network(ch, n)
		m.leases(ch, n)
	}
	m.counters(ch, s)
}

func (m *metrics) reconciles(ch chan<- prometheus.Metric) {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	counter(ch, descErrors, m.p.errors)
	if !m.p.at.IsZero() {
		gauge(ch, descLast, float64(m.p.at.UnixMilli())/1000)
	}
	for action, n := range m.p.actions {
		counter(ch, descActions, n, action)
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
	gauge(ch, descEndpoints, float64(joined), id, "joined")
	gauge(ch, descEndpoints, float64(len(n.Endpoints)-joined), id, "created")
	gauge(ch, descDifferences, float64(differences), id)
	wire := n.Wire
	if wire == nil {
		wire = &watch.Status{}
	} else {
		up := 0.0
		if wire.Fault == "" {
			up = 1
		}
		gauge(ch, descWatched, up, id)
		gauge(ch, descConflicts, float64(len(wire.Conflicts)), id)
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
		gauge(ch, descAddresses, float64(len(p.Given)), id, pool, "given")
		gauge(ch, descAddresses, float64(reserve), id, pool, "reserve")
		gauge(ch, descAddresses, float64(used), id, pool, "quarantined")
		gauge(ch, descSize, p.Size, id, pool)
	}
}

// counters are those of the kernel: of each network's own link, the bridge or
// the parent, and of each endpoint's in its sandbox, as the container sees it.
func (m *metrics) counters(ch chan<- prometheus.Metric, s Status) {
	links, err1 := m.p.Host.LinkCounters()
	ends, err2 := m.p.Host.EndpointCounters()
	if err1 != nil || err2 != nil {
		m.p.Log.Warn("counters of the kernel cannot be read", "links", err1, "sandboxes", err2)
		return
	}
	for _, n := range s.Networks {
		id := network.Short(n.ID)
		for _, l := range []*Seen{n.Link, n.Parent} {
			if l != nil {
				emit(ch, "network", links[l.Name], []string{"network", "link"}, id, l.Name)
			}
		}
		for _, e := range n.Endpoints {
			if c, there := ends[e.ID]; there {
				emit(ch, "endpoint", c, []string{"network", "endpoint"}, id, network.Short(e.ID))
			}
		}
	}
}

func emit(ch chan<- prometheus.Metric, of string, c kernel.Counters, labels []string, values ...string) {
	all := [][]uint64{{c.RxBytes, c.RxPackets, c.RxErrors, c.RxDropped}, {c.TxBytes, c.TxPackets, c.TxErrors, c.TxDropped}}
	for i, direction := range directions {
		for j, what := range traffic {
			name := of + "_" + direction + "_" + what + "_total"
			counter(ch, desc(name, "The kernel's count of "+what+" ("+direction+") of the "+of+"'s link.", labels...), all[i][j], values...)
		}
	}
}
