package main

import (
	"fmt"
	"slices"

	"github.com/dockline/dockline/test/harness/program"
)

// median of one figure over the rounds of a variant.
func (b *bench) median(name string, of func(sample) float64) float64 {
	var all []float64
	for _, s := range b.results[name] {
		all = append(all, of(s))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func container(s sample) float64 { return s.container }
func done(s sample) float64      { return s.done }
func pluginCPU(s sample) float64 { return s.pluginCPU }
func engineCPU(s sample) float64 { return s.engineCPU }
func rss(s sample) float64       { return s.rss }

// report prints the table, and returns the last line.
func (b *bench) report() program.Figures {
	floor := b.median(null, container)
	million := float64(b.lines) / 1e6
	program.Print("\n%d lines of 120 bytes from one container; medians of %d rounds. Null plugin: %.2f s", b.lines, b.rounds, floor)
	program.Print("| | container s | delivered s | container / null | delivered / null | plugin CPU s/M | engine CPU s/M | plugin MiB | lost |")
	program.Print("|---|---|---|---|---|---|---|---|---|")
	var lost int64
	for _, v := range b.variants {
		var gone int64
		for _, s := range b.results[v.name] {
			gone += s.lost
		}
		if v.plugin == ours {
			lost += gone
		}
		c, d := b.median(v.name, container), b.median(v.name, done)
		program.Print("| %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f | %d |", v.name, c, d, ratio(c, floor), ratio(d, floor),
			b.median(v.name, pluginCPU)/million, b.median(v.name, engineCPU)/million, b.median(v.name, rss), gone)
	}
	var memory float64
	for _, s := range b.many {
		memory = s.rss
		lost += s.lost
	}
	c, d := b.median(jsonLines, container), b.median(jsonLines, done)
	return program.Figures(fmt.Sprintf("null_ratio=%.2f done_ratio=%.2f vs_syslog=%.2f vs_fluentd=%.2f cpu_s_per_million=%.2f rss_mib_1000=%.0f p99_ms=%.1f lost=%d",
		ratio(c, floor), ratio(d, floor), ratio(b.median("syslog", done), d), ratio(b.median("fluentd", done), d),
		b.median(jsonLines, pluginCPU)/million, memory, b.latency["json+tcp"].p99, lost))
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
