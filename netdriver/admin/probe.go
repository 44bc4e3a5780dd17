package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/netdriver/network"
)

// probes are what became of questions to gateways and peers.
func (m *metrics) probes(ch chan<- prometheus.Metric) {
	if m.p.Probe == nil {
		return
	}
	all := m.p.Probe.Stats()
	Metrics.Put(ch, "probe_targets", float64(len(all.Targets)))
	Metrics.Put(ch, "probe_targets_left_out", float64(all.LeftOut))
	Metrics.Put(ch, "probe_interval_seconds", all.Every.Seconds())
	for _, t := range all.Targets {
		if t.Sent == 0 {
			continue // it is not yet its turn
		}
		labels := []string{network.Short(t.Network), t.Addr.String(), string(t.Protocol)}
		Metrics.Put(ch, "probe_sent_total", float64(t.Sent), labels...)
		Metrics.Put(ch, "probe_lost_total", float64(t.Lost), labels...)
		Metrics.PutHistogram(ch, "probe_rtt_seconds", t.Answered, t.Sum.Seconds(), t.Below, labels...)
		Metrics.Put(ch, "probe_jitter_seconds_total", t.Jitter.Seconds(), labels...)
		Metrics.Put(ch, "probe_jitter_samples_total", float64(t.Jitters), labels...)
		if !t.Success.IsZero() {
			Metrics.Put(ch, "probe_last_success_timestamp_seconds", float64(t.Success.UnixMilli())/1000, labels...)
		}
	}
}
