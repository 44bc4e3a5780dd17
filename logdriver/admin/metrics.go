package admin

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/metric"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/pool"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// idleCollector is how long the counters of a collector to which nothing goes any
// more are there: what a container logs that lives for a second would be in none
// otherwise.
const idleCollector = time.Hour

// maxContainers bounds how many have metrics of their own.
const maxContainers = 1000

// metrics reads the plugin's counters when it is asked for them.
type metrics struct{ p *Plugin }

// Describe implements prometheus.Collector: what there is shows when it is collected.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	Metrics.Put(ch, "build_info", 1, build.Values()...)
	m.shipped(ch)
	m.processed(ch)
	m.lost(ch)
	m.health(ch)
	m.streams(ch)
	m.collectors(ch)
	m.split(ch)
	m.sources(ch)
	m.placement(ch)
	m.config(ch)
}

func put(ch chan<- prometheus.Metric, values map[string]float64) {
	for name, v := range values {
		Metrics.Put(ch, name, v)
	}
}

func (m *metrics) shipped(ch chan<- prometheus.Metric) {
	stats := &m.p.Ship.Stats
	put(ch, map[string]float64{
		"records_sent_total":         float64(stats.Sent.Load()),
		"sent_bytes_total":           float64(stats.SentBytes.Load()),
		"batches_sent_total":         float64(stats.Batches.Load()),
		"records_acknowledged_total": float64(stats.Acked.Load()),
		"records_divided_total":      float64(stats.Divided.Load()),
		"records_resent_total":       float64(stats.Resent.Load()),
		"connection_failures_total":  float64(stats.Failures.Load()),
		"streams_moved_total":        float64(stats.Moved.Load()),
		"pushbacks_total":            float64(stats.Pushbacks.Load()),
		"lost_bytes_total":           float64(stats.LostBytes.Load()),
		"quarantined_bytes_total":    float64(stats.QuarantinedBytes.Load()),
		"read_errors_total":          float64(stats.ReadErrors.Load()),
	})
}

func (m *metrics) processed(ch chan<- prometheus.Metric) {
	stats := &m.p.Ship.Stats.Process
	put(ch, map[string]float64{
		"records_filtered_total":  float64(stats.Filtered.Load()),
		"records_over_rate_total": float64(stats.RateDropped.Load()),
		"rate_delays_total":       float64(stats.Delayed.Load()),
		"lines_joined_total":      float64(stats.Joined.Load()),
		"parse_failures_total":    float64(stats.ParseFailures.Load()),
		"redactions_total":        float64(stats.Redactions.Load()),
		"withheld_bytes_total":    float64(stats.Withheld.Load()),
		"records_truncated_total": float64(stats.Truncated.Load()),
		"records_not_utf8_total":  float64(stats.InvalidUTF8.Load()),
	})
}

// lost reports what did not get to all collectors. What was never lost shows as
// 0, so that the first loss is an increase.
func (m *metrics) lost(ch chan<- prometheus.Metric) {
	for _, d := range m.p.Spool.Dropped() {
		Metrics.Put(ch, "spool_dropped_bytes_total", float64(d.Bytes), d.Reason)
		if d.Records >= 0 {
			Metrics.Put(ch, "spool_dropped_records_total", float64(d.Records), d.Reason)
		}
	}
	for kind, n := range m.p.Poison.Counts() {
		Metrics.Put(ch, "records_refused_total", float64(n), kind.Collector, kind.Class)
	}
	Metrics.Put(ch, "given_up_bytes_total", float64(m.p.Streams.GivenUp()))
}

func (m *metrics) health(ch chan<- prometheus.Metric) {
	h, syncs := m.p.Spool.Health(), m.p.Spool.Syncs()
	used, _ := m.p.Spool.Used()
	put(ch, map[string]float64{
		"spool_bytes":                 float64(used),
		"spool_max_bytes":             float64(m.p.SpoolMax),
		"spool_limit_bytes":           float64(m.p.Spool.Limit()),
		"spooled_bytes_total":         float64(h.Spooled),
		"slow_splices_total":          float64(h.Slow),
		"stuck_splices":               float64(h.Stuck),
		"segments":                    float64(h.Segments),
		"cursor_errors_total":         float64(h.CursorErrors),
		"quarantine_files":            float64(h.QuarantineFiles),
		"quarantine_bytes":            float64(h.QuarantineBytes),
		"quarantine_lost_bytes_total": float64(h.QuarantineLost),
		"syncs_total":                 float64(syncs.Done),
		"sync_seconds_total":          syncs.Took.Seconds(),
		"slow_syncs_total":            float64(syncs.Slow),
		"sync_errors_total":           float64(syncs.Failed),
		"throttled_seconds_total":     m.p.Pumps.Slowed().Seconds(),
	})
	misset := m.p.Misset != nil
	modes(ch, map[string]bool{"drain_only": m.p.Streams.Paused.Load() && !misset, "refusing": misset})
}

// modes says in which of its states the plugin is. Every state says so of all:
// what is summed over hosts, or over metrics, would else miss those in another.
func modes(ch chan<- prometheus.Metric, is map[string]bool) {
	for _, name := range []string{"drain_only", "downgraded", "refusing"} {
		Metrics.Put(ch, name, metric.Truth(is[name]))
	}
}

// StandIn reports what there is of a driver that stands in for the plugin, while
// nothing is shipped: in which state that is, and how much was dropped for a reason.
func StandIn(ch chan<- prometheus.Metric, state string, dropped int64, reason string) {
	Metrics.Put(ch, "build_info", 1, build.Values()...)
	Metrics.Put(ch, "spool_dropped_bytes_total", float64(dropped), reason)
	put(ch, map[string]float64{"lost_bytes_total": 0, "given_up_bytes_total": 0})
	modes(ch, map[string]bool{state: true})
}

// behind is a stream and what of it is not acknowledged.
type behind struct {
	stream *spool.Stream
	bytes  uint64
	since  time.Time
}

func (b behind) age() float64 {
	if b.since.IsZero() {
		return 0
	}
	return max(0, time.Since(b.since).Seconds())
}

// poolBehind is a pool and what it has not acknowledged.
type poolBehind struct {
	bytes uint64
	age   float64
}

// pools returns those of the configuration. Others are owed something only.
func (m *metrics) pools() map[string]poolBehind {
	all := map[string]poolBehind{}
	if conf := m.p.Config.Current(); conf != nil {
		for name := range conf.Pools {
			all[name] = poolBehind{}
		}
	}
	return all
}

func poolOf(route string) string {
	name, _ := spool.SplitRoute(route)
	return name
}

func (m *metrics) streams(ch chan<- prometheus.Metric) {
	all, pools := []behind{}, m.pools()
	live, bytes, age, giving := 0, uint64(0), 0.0, map[spool.OnFull]float64{}
	for _, st := range m.p.Spool.Streams() {
		b := behind{stream: st}
		b.bytes, b.since = st.FurthestBehind()
		all = append(all, b)
		bytes, age = bytes+b.bytes, max(age, b.age())
		for _, r := range st.Routes() {
			one, name := behind{}, poolOf(r)
			one.bytes, one.since = st.Backlog(r)
			pools[name] = poolBehind{pools[name].bytes + one.bytes, max(pools[name].age, one.age())}
		}
		if st.GivesWay() {
			giving[st.OnFull()]++
		}
		if st.Live() {
			live++
		}
	}
	Metrics.Put(ch, "backlog_bytes", float64(bytes))
	Metrics.Put(ch, "backlog_age_seconds", age)
	for name, p := range pools {
		Metrics.Put(ch, "pool_backlog_bytes", float64(p.bytes), name)
		Metrics.Put(ch, "pool_backlog_age_seconds", p.age, name)
	}
	Metrics.Put(ch, "streams", float64(live), "live")
	Metrics.Put(ch, "streams", float64(len(all)-live), "ended")
	for _, o := range []spool.OnFull{spool.DropNewest, spool.Throttle} {
		Metrics.Put(ch, "streams_giving_way", giving[o], o.String())
	}
	if m.p.PerContainer {
		m.containers(ch, all)
	}
}

// containers reports on each of those that are furthest behind.
func (m *metrics) containers(ch chan<- prometheus.Metric, all []behind) {
	slices.SortFunc(all, func(a, b behind) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.stream.ID(), b.stream.ID()))
	})
	Metrics.Put(ch, "containers_left_out", float64(max(0, len(all)-maxContainers)))
	seen := map[string]bool{} // of a container with several streams, the one that is furthest behind
	for _, b := range all[:min(len(all), maxContainers)] {
		id := shortID(b.stream)
		if seen[id] {
			continue
		}
		seen[id] = true
		var info container.Info
		if err := json.Unmarshal(b.stream.Info(), &info); err != nil {
			m.p.Log.Debug("what is known of a container is not understood", "container", id, "err", err)
		}
		Metrics.Put(ch, "container_info", 1, id, info.Name())
		Metrics.PutFormer(ch, "container_logged_bytes_total", float64(b.stream.End()), id)
		Metrics.Put(ch, "container_spool_bytes", float64(b.stream.Bytes()), id)
		Metrics.Put(ch, "container_backlog_bytes", float64(b.bytes), id)
		Metrics.Put(ch, "container_backlog_age_seconds", b.age(), id)
		Metrics.Put(ch, "container_giving_way", metric.Truth(b.stream.GivesWay()), id)
	}
}

// shortID is the container's as `docker ps` shows it.
func shortID(st *spool.Stream) string {
	id := st.Container()
	return id[:min(12, len(id))]
}

// split reports the streams that several collectors share, in time slices.
func (m *metrics) split(ch chan<- prometheus.Metric) {
	all := map[string]ship.Place{}
	for _, p := range m.p.Ship.Places() {
		if p.Split > 1 && p.Split > all[p.Stream].Split {
			all[p.Stream] = p
		}
	}
	Metrics.Put(ch, "streams_split", float64(len(all)))
	if !m.p.PerContainer || len(all) > maxContainers {
		return
	}
	seen := map[string]bool{}
	for _, st := range m.p.Spool.Streams() {
		id := shortID(st)
		if p, ok := all[st.ID()]; ok && !seen[id] {
			seen[id] = true
			Metrics.Put(ch, "container_split", float64(p.Split), id)
			Metrics.Put(ch, "container_split_bytes_per_second", p.Rate, id)
		}
	}
}

func (m *metrics) config(ch chan<- prometheus.Metric) {
	s := m.p.Config.Status()
	Metrics.Put(ch, "config_info", metric.Truth(s.Version != ""), s.Source, s.Version)
	put(ch, map[string]float64{
		"config_taken_timestamp_seconds": float64(max(0, s.Since.Unix())),
		"config_refused":                 metric.Truth(s.Refused != ""),
		"config_source_failing":          metric.Truth(s.Error != ""),
		"config_applied_total":           float64(s.Applied),
		"config_refusals_total":          float64(s.Refusals),
		"config_source_failures_total":   float64(s.Failures),
	})
}

// sources reports each source once, though several pools may follow it.
func (m *metrics) sources(ch chan<- prometheus.Metric) {
	all := map[string]pool.SourceStatus{}
	for _, s := range m.p.Pools.Sources() { // the one that said it last comes last
		s.Failures += all[s.Source].Failures
		s.Error = cmp.Or(s.Error, all[s.Source].Error)
		all[s.Source] = s
	}
	for name, s := range all {
		Metrics.Put(ch, "source_failing", metric.Truth(s.Error != ""), name)
		Metrics.Put(ch, "source_failures_total", float64(s.Failures), name)
		Metrics.Put(ch, "source_collectors", float64(s.Collectors), name)
		Metrics.Put(ch, "source_said_timestamp_seconds", seconds(s.Since), name)
	}
}

// collectors reports each name once: healthy if it is so in every pool.
func (m *metrics) collectors(ch chan<- prometheus.Metric) {
	all := map[string]ship.CollectorStatus{}
	for _, c := range m.p.Ship.Collectors() {
		if other, twice := all[c.Name]; twice {
			c.Healthy = c.Healthy && other.Healthy
			c.Streams += other.Streams
			c.Shed, c.AckTime = max(c.Shed, other.Shed), max(c.AckTime, other.AckTime)
		}
		all[c.Name] = c
	}
	for name, c := range all {
		Metrics.Put(ch, "collector_healthy", metric.Truth(c.Healthy), name)
		Metrics.Put(ch, "collector_streams", float64(c.Streams), name)
		Metrics.Put(ch, "collector_shed_ratio", c.Shed, name)
		Metrics.Put(ch, "collector_ack_seconds", c.AckTime.Seconds(), name)
	}
	for name, c := range m.p.Ship.Counts(idleCollector) {
		Metrics.Put(ch, "collector_records_acknowledged_total", float64(c.Acked.Load()), name)
		Metrics.Put(ch, "collector_connection_failures_total", float64(c.Failures.Load()), name)
	}
}

// placement reports how the placement history is.
func (m *metrics) placement(ch chan<- prometheus.Metric) {
	s := m.p.History.Stats()
	put(ch, map[string]float64{
		"placement_history_bytes":                    float64(s.Bytes),
		"placement_history_streams":                  float64(s.Streams),
		"placement_history_intervals":                float64(s.Intervals),
		"placement_history_since_timestamp_seconds":  seconds(s.Since),
		"placement_history_oldest_timestamp_seconds": seconds(s.Oldest),
		"placement_history_unwritten":                metric.Truth(s.Unwritten),
		"placement_history_write_errors_total":       float64(s.WriteErrors),
	})
}
