package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/netdriver/ipam/etcd"
)

// The metrics of the cluster's addresses, where there is an etcd.
var (
	descUp         = desc("cluster_up", "Whether etcd answers.")
	descLost       = desc("cluster_lost_total", "How often etcd ceased to answer.")
	descClaims     = desc("cluster_claims_total", "Claims of addresses: claimed, offline (from what was this host's already), taken by others, failed because nobody could be asked.", "result")
	descAhead      = desc("cluster_reserve", "Addresses that this host has for when etcd is away.")
	descHosts      = desc("cluster_hosts", "Hosts of the cluster by whether they are alive.", "state")
	descDisputes   = desc("cluster_conflicts", "Addresses in use here that are another host's in etcd.")
	descDisputesN  = desc("cluster_conflicts_total", "How often one was found.")
	descForeign    = desc("cluster_quarantined", "Addresses that no host gives out because a machine has them that got them from nobody.")
	descForeignN   = desc("cluster_quarantined_total", "How many this host put there.")
	descLeaked     = desc("cluster_leaked_total", "Addresses of this host given back that nobody here knew.")
	descReclaimedN = desc("cluster_reclaimed_total", "Addresses of lost hosts that were reclaimed here.")
)

// cluster reads what there is when it is asked for.
type cluster struct{ b *etcd.Backend }

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (cluster) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c cluster) Collect(ch chan<- prometheus.Metric) {
	s, n := c.b.Status(), &c.b.Stats
	up, hosts := 0.0, map[bool]float64{}
	if s.Fault == "" {
		up = 1
	}
	for _, h := range s.Hosts {
		hosts[h.Alive]++
	}
	gauge(ch, descUp, up)
	gauge(ch, descAhead, float64(s.Reserve))
	gauge(ch, descHosts, hosts[true], "alive")
	gauge(ch, descHosts, hosts[false], "lost")
	gauge(ch, descDisputes, float64(len(s.Conflicts)))
	gauge(ch, descForeign, float64(len(s.Foreign)))
	counter(ch, descLost, n.Lost.Load())
	counter(ch, descClaims, n.Claims.Load(), "claimed")
	counter(ch, descClaims, n.Offline.Load(), "offline")
	counter(ch, descClaims, n.Taken.Load(), "taken")
	counter(ch, descClaims, n.Failed.Load(), "failed")
	counter(ch, descDisputesN, n.Conflicts.Load())
	counter(ch, descForeignN, n.Foreign.Load())
	counter(ch, descLeaked, n.Leaked.Load())
	counter(ch, descReclaimedN, n.Reclaimed.Load())
}
