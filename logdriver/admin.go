package logdriver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/container"
)

// StreamStatus is one stream as an operator sees it.
type StreamStatus struct {
	Stream         string    `json:"stream"`
	Container      string    `json:"container"`
	Name           string    `json:"name"`
	Live           bool      `json:"live"`                   // a container is attached
	Collector      string    `json:"collector,omitempty"`    // where its records go now
	SpooledBytes   uint64    `json:"spooled_bytes"`          // on the disk, acknowledged or not
	BacklogBytes   uint64    `json:"backlog_bytes"`          // not acknowledged
	BacklogSince   time.Time `json:"backlog_since,omitzero"` // when about the oldest of these was written
	AcknowledgedTo uint64    `json:"acknowledged_to_offset"`
	End            uint64    `json:"end_offset"`
}

// CollectorStatus is one collector of one pool.
type CollectorStatus struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Streams int    `json:"streams"`
}

// Status is the whole plugin as an operator sees it.
type Status struct {
	SpoolBytes   int64             `json:"spool_bytes"`
	SpoolMax     int64             `json:"spool_max_bytes"`
	DroppedBytes int64             `json:"dropped_bytes"` // since the process began
	DrainOnly    bool              `json:"drain_only"`    // nothing is shipped, after a loop of crashes
	Collectors   []CollectorStatus `json:"collectors"`
	Streams      []StreamStatus    `json:"streams"`
}

// Status looks at everything.
func (p *Plugin) Status() Status {
	used, dropped := p.spool.Used()
	s := Status{DrainOnly: p.drainOnly.Load(), SpoolBytes: used, SpoolMax: p.cfg.SpoolMax, DroppedBytes: dropped, Collectors: []CollectorStatus{}, Streams: []StreamStatus{}}
	for _, c := range p.ship.Collectors() {
		s.Collectors = append(s.Collectors, CollectorStatus(c))
	}
	for _, st := range p.spool.Streams() {
		one := StreamStatus{
			Stream: st.ID(), Container: st.Container(), Live: st.Live(), Collector: p.ship.Where(st.ID()),
			SpooledBytes: st.Bytes(), AcknowledgedTo: st.Cursor(routeName), End: st.End(),
		}
		one.BacklogBytes, one.BacklogSince = st.Backlog(routeName)
		var info container.Info
		if json.Unmarshal(st.Info(), &info) == nil {
			one.Name = info.Name()
		}
		s.Streams = append(s.Streams, one)
	}
	slices.SortFunc(s.Streams, func(a, b StreamStatus) int { return strings.Compare(a.Name+a.Stream, b.Name+b.Stream) })
	slices.SortFunc(s.Collectors, func(a, b CollectorStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// drainPoll is how often a drain looks: no single event says that all streams
// are delivered.
const drainPoll = 100 * time.Millisecond

// Drain returns when everything that is spooled has been acknowledged, or with
// ctx's error and what is left.
func (p *Plugin) Drain(ctx context.Context) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		left, streams := uint64(0), 0
		for _, st := range p.spool.Streams() {
			if b, _ := st.Backlog(routeName); b > 0 {
				left, streams = left+b, streams+1
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d bytes of %d containers are not delivered yet: %w", left, streams, ctx.Err())
		case <-tick.C:
		}
	}
}

// Admin returns the server of the plugin's metrics, /status and /drain.
func (p *Plugin) Admin(log *slog.Logger) *admin.Server {
	s := admin.New(log, &metrics{p})
	s.Handle("/status", func(*http.Request) (any, error) { return p.Status(), nil })
	s.Handle("/drain", func(r *http.Request) (any, error) {
		return map[string]bool{"drained": true}, p.Drain(r.Context())
	})
	return s
}

// metrics reads the plugin's counters when it is asked for them.
type metrics struct{ p *Plugin }

const namespace = "dockline_log_"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+name, help, labels, nil)
}

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	stats := &m.p.ship.Stats
	_, dropped := m.p.spool.Used()
	for _, c := range []struct {
		name, help string
		value      float64
	}{
		{"records_sent_total", "Records handed to collectors, repetitions included.", float64(stats.Sent.Load())},
		{"sent_bytes_total", "Bytes handed to collectors.", float64(stats.SentBytes.Load())},
		{"batches_sent_total", "Batches handed to collectors.", float64(stats.Batches.Load())},
		{"records_acknowledged_total", "Records that collectors acknowledged.", float64(stats.Acked.Load())},
		{"records_resent_total", "Records that were under way when a connection broke.", float64(stats.Resent.Load())},
		{"connection_failures_total", "Connections to collectors that failed or broke.", float64(stats.Failures.Load())},
		{"streams_moved_total", "Streams handed from one collector to another.", float64(stats.Moved.Load())},
		{"lost_bytes_total", "Bytes that were gone before they could be shipped.", float64(stats.LostBytes.Load())},
		{"quarantined_bytes_total", "Bytes that were no records.", float64(stats.QuarantinedBytes.Load())},
		{"read_errors_total", "Reads of the spool that failed.", float64(stats.ReadErrors.Load())},
		{"spool_dropped_bytes_total", "Bytes dropped or evicted before every collector had them.", float64(dropped)},
	} {
		ch <- prometheus.MustNewConstMetric(desc(c.name, c.help), prometheus.CounterValue, c.value)
	}
	m.gauges(ch)
}

func (m *metrics) gauges(ch chan<- prometheus.Metric) {
	used, _ := m.p.spool.Used()
	var backlog uint64
	var oldest time.Time
	live, ended := 0, 0
	for _, st := range m.p.spool.Streams() {
		b, since := st.Backlog(routeName)
		backlog += b
		if !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
		if st.Live() {
			live++
		} else {
			ended++
		}
	}
	age := 0.0
	if !oldest.IsZero() {
		age = max(0, time.Since(oldest).Seconds())
	}
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(desc(name, help), prometheus.GaugeValue, v)
	}
	gauge("spool_bytes", "Disk space that the spool takes.", float64(used))
	gauge("spool_max_bytes", "Disk space that the spool may take.", float64(m.p.cfg.SpoolMax))
	gauge("backlog_bytes", "Bytes that are spooled and not acknowledged.", float64(backlog))
	drainOnly := 0.0
	if m.p.drainOnly.Load() {
		drainOnly = 1
	}
	gauge("drain_only", "1 while nothing is shipped, after a loop of crashes.", drainOnly)
	gauge("backlog_age_seconds", "How long about the oldest of these has waited.", age)
	streams := desc("streams", "Streams in the spool.", "state")
	ch <- prometheus.MustNewConstMetric(streams, prometheus.GaugeValue, float64(live), "live")
	ch <- prometheus.MustNewConstMetric(streams, prometheus.GaugeValue, float64(ended), "ended")
	m.collectors(ch)
}

// collectors reports each name once: healthy if it is so in every pool.
func (m *metrics) collectors(ch chan<- prometheus.Metric) {
	up, streams := map[string]float64{}, map[string]int{}
	for _, c := range m.p.ship.Collectors() {
		if _, seen := up[c.Name]; !seen {
			up[c.Name] = 1
		}
		if !c.Healthy {
			up[c.Name] = 0
		}
		streams[c.Name] += c.Streams
	}
	healthy := desc("collector_healthy", "Whether a collector takes the streams that prefer it.", "collector")
	going := desc("collector_streams", "Streams whose records go to a collector.", "collector")
	for name, v := range up {
		ch <- prometheus.MustNewConstMetric(healthy, prometheus.GaugeValue, v, name)
		ch <- prometheus.MustNewConstMetric(going, prometheus.GaugeValue, float64(streams[name]), name)
	}
}
