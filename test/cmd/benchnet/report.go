package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

// histogram keeps every value: there are some ten thousand of them.
type histogram struct{ all []time.Duration }

func (h *histogram) add(d time.Duration) { h.all = append(h.all, d) }

// at returns the value that this share of all are not above, in milliseconds.
func (h *histogram) at(share float64) float64 {
	if h == nil || len(h.all) == 0 {
		return 0
	}
	slices.Sort(h.all)
	return float64(h.all[min(len(h.all)-1, int(share*float64(len(h.all))))].Microseconds()) / 1000
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// ratio is the median of the ratios of what was measured in the same round.
func ratio(a, b []float64) float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	return median(all)
}

func (b *bench) report() program.Figures {
	program.Print("\n| | Gbit/s | of host | CPU s per Gbit | of host | UDP p50 ms | p99 | p99.9 | docker run s |")
	program.Print("|---|---|---|---|---|---|---|---|---|")
	for _, v := range variants {
		h := b.latencies[v.name]
		program.Print("| %s | %.2f | %.2f | %.3f | %.2f | %.3f | %.3f | %.3f | %.2f |", v.name, median(b.throughput[v.name]), ratio(b.throughput[v.name], b.throughput["host"]),
			median(b.costs[v.name]), ratio(b.costs[v.name], b.costs["host"]),
			h.at(0.5), h.at(0.99), h.at(0.999), median(b.runTimes[v.name]))
	}
	var p99, bare99 float64
	program.Print("\n| endpoints there | mode | kernel alone p50 ms | p99 | CreateEndpoint p50 | p99 | Join p50 | p99 | both p50 | p99 | Leave and DeleteEndpoint p50 | p99 |")
	program.Print("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, e := range b.endpoint {
		program.Print("| %d | %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |", e.there, e.mode, e.bare.at(0.5), e.bare.at(0.99),
			e.create.at(0.5), e.create.at(0.99), e.join.at(0.5), e.join.at(0.99), e.both.at(0.5), e.both.at(0.99), e.end.at(0.5), e.end.at(0.99))
		p99, bare99 = max(p99, e.both.at(0.99)), max(bare99, e.bare.at(0.99))
	}
	program.Print("")
	var slowest float64
	for _, what := range []string{bridgeGone, portsOut, onePort} {
		m := median(b.reconciles[what])
		program.Print("reconcile, %s: %.0f ms", what, m)
		slowest = max(slowest, m)
	}
	program.Print("\nthe kernel alone: plain_vs_host=%.2f bridge_vs_plain=%.2f link_p99_ms=%.1f repair_ms=%.0f",
		ratio(b.throughput[plainVariant], b.throughput["host"]), ratio(b.throughput["dockline-net bridge"], b.throughput[plainVariant]), bare99, median(b.bareRepair))
	run := max(ratio(b.runTimes["dockline-net macvlan"], b.runTimes["built-in macvlan"]), ratio(b.runTimes["dockline-net bridge"], b.runTimes["built-in bridge"]))
	return program.Figures(fmt.Sprintf("macvlan_vs_host=%.2f bridge_vs_host=%.2f run_vs_builtin=%.2f endpoint_p99_ms=%.1f reconcile_500_ms=%.0f",
		ratio(b.throughput["dockline-net macvlan"], b.throughput["host"]), ratio(b.throughput["dockline-net bridge"], b.throughput["host"]), run, p99, slowest))
}
