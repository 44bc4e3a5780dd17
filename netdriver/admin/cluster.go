package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/metric"
	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

// cluster reads what there is when it is asked for.
type cluster struct{ b *etcd.Backend }

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (cluster) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c cluster) Collect(ch chan<- prometheus.Metric) {
	s, n := c.b.Status(), &c.b.Stats
	hosts := map[bool]float64{}
	for _, h := range s.Hosts {
		hosts[h.Alive]++
	}
	Metrics.Put(ch, "cluster_up", metric.Truth(s.Fault == ""))
	Metrics.Put(ch, "cluster_reserve", float64(s.Reserve))
	Metrics.Put(ch, "cluster_hosts", hosts[true], "alive")
	Metrics.Put(ch, "cluster_hosts", hosts[false], "lost")
	Metrics.Put(ch, "cluster_conflicts", float64(len(s.Conflicts)))
	Metrics.Put(ch, "cluster_quarantined", float64(len(s.Foreign)))
	Metrics.Put(ch, "cluster_lost_total", float64(n.Lost.Load()))
	Metrics.Put(ch, "cluster_claims_total", float64(n.Claims.Load()), "claimed")
	Metrics.Put(ch, "cluster_claims_total", float64(n.Offline.Load()), "offline")
	Metrics.Put(ch, "cluster_claims_total", float64(n.Taken.Load()), "taken")
	Metrics.Put(ch, "cluster_claims_total", float64(n.Failed.Load()), "failed")
	Metrics.Put(ch, "cluster_conflicts_total", float64(n.Conflicts.Load()))
	Metrics.Put(ch, "cluster_quarantined_total", float64(n.Foreign.Load()))
	Metrics.Put(ch, "cluster_leaked_total", float64(n.Leaked.Load()))
	Metrics.Put(ch, "cluster_reclaimed_total", float64(n.Reclaimed.Load()))
}
