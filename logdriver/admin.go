package logdriver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/spool"
)

// StreamStatus is one stream as an operator sees it.
type StreamStatus struct {
	Stream         string       `json:"stream"`
	Container      string       `json:"container"`
	Name           string       `json:"name"`
	Live           bool         `json:"live"`                   // a container is attached
	Collector      string       `json:"collector,omitempty"`    // where its records go now, in its first pool
	PerRecord      bool         `json:"per_record"`             // each record has its own collector
	Split          int          `json:"split"`                  // over how many collectors it is spread in time slices; 1: not split
	Rate           float64      `json:"bytes_per_second"`       // shipped, lately
	SpooledBytes   uint64       `json:"spooled_bytes"`          // on the disk, acknowledged or not
	Segments       int          `json:"segments"`               // files that these are in
	BacklogBytes   uint64       `json:"backlog_bytes"`          // not acknowledged, by the pool that is furthest behind
	BacklogSince   time.Time    `json:"backlog_since,omitzero"` // when about the oldest of these was written
	AcknowledgedTo uint64       `json:"acknowledged_to_offset"`
	OnFull         string       `json:"on_full"`
	GivesWay       bool         `json:"gives_way"` // its on_full acts now: what it writes is dropped, or slowed down
	End            uint64       `json:"end_offset"`
	Pools          []PoolStatus `json:"pools"` // that it goes to
}

// PoolStatus is one pool that a stream goes to.
type PoolStatus struct {
	Pool           string    `json:"pool"`
	OnFull         string    `json:"on_full"`                // what gives way for what it has not got, when the spool is full
	Collector      string    `json:"collector,omitempty"`    // where the records go now
	Until          uint64    `json:"until_offset,omitempty"` // the stream goes there no longer, but for what is before that
	BacklogBytes   uint64    `json:"backlog_bytes"`
	BacklogSince   time.Time `json:"backlog_since,omitzero"`
	AcknowledgedTo uint64    `json:"acknowledged_to_offset"`
}

// poolsOf returns which pools a stream goes to. at is where, by stream and pool.
func (p *Plugin) poolsOf(st *spool.Stream, at map[[2]string]ship.Place) []PoolStatus {
	all := []PoolStatus{}
	for _, r := range st.Routes() {
		name, until := spool.SplitRoute(r)
		one := PoolStatus{Pool: name, OnFull: st.OnFullOf(r).String(), AcknowledgedTo: st.Cursor(r)}
		if isLeaving(r) {
			one.Until = until
		}
		one.BacklogBytes, one.BacklogSince = st.Backlog(r)
		if g := p.going.of(st.ID(), r); g != nil {
			one.Collector = at[[2]string{st.ID(), g.pool}].Collector
		}
		all = append(all, one)
	}
	return all
}

// backlog returns what the pool that is furthest behind has not acknowledged.
func backlog(st *spool.Stream) (most uint64, oldest time.Time) {
	for _, r := range st.Routes() {
		b, since := st.Backlog(r)
		most = max(most, b)
		if !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return most, oldest
}

// CollectorStatus is one collector of one pool.
type CollectorStatus struct {
	Name    string  `json:"name"`
	Healthy bool    `json:"healthy"`
	Leaving bool    `json:"leaving"` // in the pool no longer, but not finished with
	Streams int     `json:"streams"`
	Shed    float64 `json:"shed"`                       // part of the keys that do not go to it because it pushes back
	AckTime float64 `json:"acknowledges_after_seconds"` // lately; 0: nothing was acknowledged
}

// Status is the whole plugin as an operator sees it.
type Status struct {
	SpoolBytes   int64             `json:"spool_bytes"`
	SpoolMax     int64             `json:"spool_max_bytes"`
	DroppedBytes int64             `json:"dropped_bytes"` // since the process began
	Spool        spool.Health      `json:"spool"`
	Config       ConfigStatus      `json:"config"`
	DrainOnly    bool              `json:"drain_only"` // nothing is shipped, after a loop of crashes
	Collectors   []CollectorStatus `json:"collectors"`
	Sources      []SourceStatus    `json:"sources"` // of collectors that are not listed
	Streams      []StreamStatus    `json:"streams"`
}

// Status looks at everything.
func (p *Plugin) Status() Status {
	used, dropped := p.spool.Used()
	s := Status{Config: p.conf.Status(), DrainOnly: p.drainOnly.Load(), SpoolBytes: used, SpoolMax: p.cfg.SpoolMax, DroppedBytes: dropped, Spool: p.spool.Health(), Collectors: []CollectorStatus{}, Sources: p.pools.status(), Streams: []StreamStatus{}}
	for _, c := range p.ship.Collectors() {
		s.Collectors = append(s.Collectors, CollectorStatus{c.Name, c.Healthy, c.Leaving, c.Streams, c.Shed, c.AckTime.Seconds()})
	}
	at := map[[2]string]ship.Place{}
	for _, place := range p.ship.Places() {
		at[[2]string{place.Stream, place.Pool}] = place
	}
	for _, st := range p.spool.Streams() {
		one := StreamStatus{
			Stream: st.ID(), Container: st.Container(), Live: st.Live(), Pools: p.poolsOf(st, at),
			SpooledBytes: st.Bytes(), Segments: st.Segments(), End: st.End(),
			OnFull: st.OnFull().String(), GivesWay: st.GivesWay(),
		}
		one.BacklogBytes, one.BacklogSince = backlog(st)
		one.AcknowledgedTo = st.End()
		for key, place := range at {
			if key[0] == st.ID() {
				one.PerRecord, one.Split, one.Rate = place.PerRecord, max(one.Split, place.Split), max(one.Rate, place.Rate)
			}
		}
		for _, pool := range one.Pools {
			one.Collector = cmp.Or(one.Collector, pool.Collector)
			one.AcknowledgedTo = min(one.AcknowledgedTo, pool.AcknowledgedTo)
		}
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
// what is left when ctx ends.
func (p *Plugin) Drain(ctx context.Context) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		left, streams := uint64(0), 0
		for _, st := range p.spool.Streams() {
			if b, _ := backlog(st); b > 0 {
				left, streams = left+b, streams+1
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of %d containers are not delivered yet%s", units.BytesSize(float64(left)), streams, p.why())
		case <-tick.C:
		}
	}
}

// why says why nothing is delivered, where that is known.
func (p *Plugin) why() string {
	if p.drainOnly.Load() {
		return "; nothing is shipped for a while, for dockline-log died again and again right after its start"
	}
	if c := p.conf.Status(); c.Version == "" {
		return "; no configuration is known: " + cmp.Or(c.Error, c.Refused)
	}
	var down []string
	for _, c := range p.ship.Collectors() {
		if !c.Healthy {
			down = append(down, c.Name)
		}
	}
	said := ""
	if len(down) > 0 {
		slices.Sort(down)
		said = "; collectors that cannot be reached: " + strings.Join(slices.Compact(down), ", ")
	}
	for _, src := range p.pools.status() {
		if src.Error != "" && src.Collectors == 0 {
			said += fmt.Sprintf("; %s names no collectors: %s", src.Source, src.Error)
		}
	}
	return said
}

// Admin returns the server of the plugin's metrics, /status, /drain, /where and
// /poison.
func (p *Plugin) Admin(log *slog.Logger) *admin.Server {
	s := admin.New(log, &metrics{p})
	s.Handle("/status", func(*http.Request) (any, error) { return p.Status(), nil })
	s.Handle("/drain", func(r *http.Request) (any, error) {
		ctx := r.Context()
		if v := r.URL.Query().Get("timeout"); v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				return nil, fmt.Errorf("timeout=%q: %w", v, err)
			}
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		return map[string]bool{"drained": true}, p.Drain(ctx)
	})
	s.Handle("/where", p.where)
	s.Handle("/poison", p.putAside)
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
	syncs := m.p.spool.Syncs()
	health := m.p.spool.Health()
	for _, c := range []struct {
		name, help string
		value      float64
	}{
		{"records_sent_total", "Records handed to collectors, repetitions included.", float64(stats.Sent.Load())},
		{"sent_bytes_total", "Bytes handed to collectors.", float64(stats.SentBytes.Load())},
		{"batches_sent_total", "Batches handed to collectors.", float64(stats.Batches.Load())},
		{"records_acknowledged_total", "Records that collectors acknowledged.", float64(stats.Acked.Load())},
		{"records_divided_total", "Records that were sent in pieces, for they were too long for a collector.", float64(stats.Divided.Load())},
		{"records_resent_total", "Records that were under way when a connection broke.", float64(stats.Resent.Load())},
		{"connection_failures_total", "Connections to collectors that failed or broke.", float64(stats.Failures.Load())},
		{"streams_moved_total", "Streams handed from one collector to another.", float64(stats.Moved.Load())},
		{"pushbacks_total", "Times that a collector was relieved of streams because it pushed back.", float64(stats.Pushbacks.Load())},
		{"lost_bytes_total", "Bytes that were gone before they could be shipped.", float64(stats.LostBytes.Load())},
		{"quarantined_bytes_total", "Bytes that were no records.", float64(stats.QuarantinedBytes.Load())},
		{"read_errors_total", "Reads of the spool that failed.", float64(stats.ReadErrors.Load())},
		{"syncs_total", "Times that a container's data was synced to the disk.", float64(syncs.Done)},
		{"sync_seconds_total", "How long that took, altogether.", syncs.Took.Seconds()},
		{"slow_syncs_total", "Of these, those that took more than a second.", float64(syncs.Slow)},
		{"sync_errors_total", "Of these, those that failed: a power cut may take what was written.", float64(syncs.Failed)},
		{"throttled_seconds_total", "How long containers with on-full=throttle were held up, all together.", m.p.pumps.Slowed().Seconds()},
		{"spooled_bytes_total", "Bytes moved from containers' pipes into the spool.", float64(health.Spooled)},
		{"slow_splices_total", "Moves of bytes into the spool that took longer than a second: its disk is slow.", float64(health.Slow)},
		{"cursor_errors_total", "Cursors that could not be written; their records are sent again after a restart.", float64(health.CursorErrors)},
		{"given_up_bytes_total", "Bytes that a pool to which a container no longer goes has never got.", float64(m.p.givenUp.Load())},
		{"quarantine_lost_bytes_total", "Damaged bytes that the quarantine had no room for.", float64(health.QuarantineLost)},
		{"records_filtered_total", "Records that include or exclude left out, for each pool.", float64(stats.Process.Filtered.Load())},
		{"records_over_rate_total", "Records that were dropped because their container wrote more than its rate, for each pool.", float64(stats.Process.RateDropped.Load())},
		{"rate_delays_total", "Times that a stream was held up for its rate.", float64(stats.Process.Delayed.Load())},
		{"lines_joined_total", "Lines that became part of the record before them.", float64(stats.Process.Joined.Load())},
		{"parse_failures_total", "Records that were not what parse says.", float64(stats.Process.ParseFailures.Load())},
		{"redactions_total", "Secrets that were hidden.", float64(stats.Process.Redactions.Load())},
		{"withheld_bytes_total", "Bytes that were left out because they were too many to be searched for secrets.", float64(stats.Process.Withheld.Load())},
		{"records_truncated_total", "Records that were longer than max-line.", float64(stats.Process.Truncated.Load())},
		{"records_not_utf8_total", "Records whose bytes were escaped or replaced because they were not UTF-8.", float64(stats.Process.InvalidUTF8.Load())},
	} {
		ch <- prometheus.MustNewConstMetric(desc(c.name, c.help), prometheus.CounterValue, c.value)
	}
	m.dropped(ch)
	m.poison(ch)
	m.health(ch, health)
	m.gauges(ch)
}

func (m *metrics) dropped(ch chan<- prometheus.Metric) {
	bytes := desc("spool_dropped_bytes_total", "Bytes dropped or evicted before every collector had them, by the on-full that said so, or disk for one that took nothing.", "reason")
	records := desc("spool_dropped_records_total", "Records among them, chunks of long lines each, where they were counted.", "reason")
	for _, d := range m.p.spool.Dropped() {
		ch <- prometheus.MustNewConstMetric(bytes, prometheus.CounterValue, float64(d.Bytes), d.Reason)
		if d.Records >= 0 {
			ch <- prometheus.MustNewConstMetric(records, prometheus.CounterValue, float64(d.Records), d.Reason)
		}
	}
}

func (m *metrics) health(ch chan<- prometheus.Metric, h spool.Health) {
	for _, g := range []struct {
		name, help string
		value      int64
	}{
		{"segments", "Files that hold what containers wrote.", int64(h.Segments)},
		{"quarantine_files", "Files that hold damaged bytes.", int64(h.QuarantineFiles)},
		{"quarantine_bytes", "Damaged bytes on the disk, of all processes so far.", h.QuarantineBytes},
		{"stuck_splices", "Moves of bytes into the spool that have been going on for longer than a second.", int64(h.Stuck)},
	} {
		ch <- prometheus.MustNewConstMetric(desc(g.name, g.help), prometheus.GaugeValue, float64(g.value))
	}
}

func (m *metrics) gauges(ch chan<- prometheus.Metric) {
	used, _ := m.p.spool.Used()
	var behind uint64
	var oldest time.Time
	live, ended := 0, 0
	giving := map[string]float64{}
	for _, st := range m.p.spool.Streams() {
		b, since := backlog(st)
		behind += b
		if !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
		if st.GivesWay() {
			giving[st.OnFull().String()]++
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
	gauge("backlog_bytes", "Bytes that are spooled and not acknowledged.", float64(behind))
	drainOnly := 0.0
	if m.p.drainOnly.Load() {
		drainOnly = 1
	}
	gauge("drain_only", "1 while nothing is shipped, after a loop of crashes.", drainOnly)
	gauge("backlog_age_seconds", "How long about the oldest of these has waited.", age)
	streams := desc("streams", "Streams in the spool.", "state")
	ch <- prometheus.MustNewConstMetric(streams, prometheus.GaugeValue, float64(live), "live")
	ch <- prometheus.MustNewConstMetric(streams, prometheus.GaugeValue, float64(ended), "ended")
	givesWay := desc("streams_giving_way", "Live streams whose on-full acts now, because the spool is full: dropped anew, or slowed down.", "on_full")
	for _, o := range []spool.OnFull{spool.DropNewest, spool.Throttle} {
		ch <- prometheus.MustNewConstMetric(givesWay, prometheus.GaugeValue, giving[o.String()], o.String())
	}
	m.collectors(ch)
	m.split(ch)
	m.sources(ch)
	m.placement(ch)
	m.config(ch)
}

func (m *metrics) config(ch chan<- prometheus.Metric) {
	s := m.p.conf.Status()
	truth := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	for _, one := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
		labels     []string
	}{
		{"config_info", "1 for the configuration that is in force.", prometheus.GaugeValue, truth(s.Version != ""), []string{"source", s.Source, "version", s.Version}},
		{"config_taken_timestamp_seconds", "When it was taken, in seconds since 1970; 0 while none is known.", prometheus.GaugeValue, float64(max(0, s.Since.Unix())), nil},
		{"config_refused", "1 while the source has a version that is refused.", prometheus.GaugeValue, truth(s.Refused != ""), nil},
		{"config_source_failing", "1 while the source cannot be read.", prometheus.GaugeValue, truth(s.Error != ""), nil},
		{"config_applied_total", "Versions that were taken.", prometheus.CounterValue, float64(s.Applied), nil},
		{"config_refusals_total", "Versions that were refused.", prometheus.CounterValue, float64(s.Refusals), nil},
		{"config_source_failures_total", "Times that the source could not be read.", prometheus.CounterValue, float64(s.Failures), nil},
	} {
		var names, values []string
		for i := 0; i+1 < len(one.labels); i += 2 {
			names, values = append(names, one.labels[i]), append(values, one.labels[i+1])
		}
		ch <- prometheus.MustNewConstMetric(desc(one.name, one.help, names...), one.kind, one.value, values...)
	}
}

// sources reports each source once, though several pools may follow it.
func (m *metrics) sources(ch chan<- prometheus.Metric) {
	all := map[string]SourceStatus{}
	for _, s := range m.p.pools.status() { // the one that said it last comes last
		s.Failures += all[s.Source].Failures
		s.Error = cmp.Or(s.Error, all[s.Source].Error)
		all[s.Source] = s
	}
	failing := desc("source_failing", "1 while a source of collectors does not say who they are; those that it named last stay.", "source")
	failures := desc("source_failures_total", "Times that a source of collectors did not say who they are.", "source")
	named := desc("source_collectors", "Collectors that a source named last.", "source")
	said := desc("source_said_timestamp_seconds", "When a source last said who the collectors are, in seconds since 1970; 0 if not since the process began.", "source")
	for name, s := range all {
		bad, at := 0.0, 0.0
		if s.Error != "" {
			bad = 1
		}
		if !s.Since.IsZero() {
			at = float64(s.Since.UnixMilli()) / 1000
		}
		ch <- prometheus.MustNewConstMetric(failing, prometheus.GaugeValue, bad, name)
		ch <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(s.Failures), name)
		ch <- prometheus.MustNewConstMetric(named, prometheus.GaugeValue, float64(s.Collectors), name)
		ch <- prometheus.MustNewConstMetric(said, prometheus.GaugeValue, at, name)
	}
}

// split reports the streams that several collectors share, in time slices.
func (m *metrics) split(ch chan<- prometheus.Metric) {
	places := desc("stream_split", "Over how many collectors a heavy stream is spread in time slices; only those that are.", "stream")
	rate := desc("stream_split_bytes_per_second", "Rate of a heavy stream that is spread over several collectors.", "stream")
	all := map[string]ship.Place{}
	for _, p := range m.p.ship.Places() {
		if p.Split > all[p.Stream].Split {
			all[p.Stream] = p
		}
	}
	for stream, p := range all {
		if p.Split > 1 {
			ch <- prometheus.MustNewConstMetric(places, prometheus.GaugeValue, float64(p.Split), stream)
			ch <- prometheus.MustNewConstMetric(rate, prometheus.GaugeValue, p.Rate, stream)
		}
	}
}

// collectors reports each name once: healthy if it is so in every pool.
func (m *metrics) collectors(ch chan<- prometheus.Metric) {
	up, streams, shed, acks := map[string]float64{}, map[string]int{}, map[string]float64{}, map[string]float64{}
	for _, c := range m.p.ship.Collectors() {
		if _, seen := up[c.Name]; !seen {
			up[c.Name] = 1
		}
		if !c.Healthy {
			up[c.Name] = 0
		}
		streams[c.Name] += c.Streams
		shed[c.Name], acks[c.Name] = max(shed[c.Name], c.Shed), max(acks[c.Name], c.AckTime.Seconds())
	}
	healthy := desc("collector_healthy", "Whether a collector takes the streams that prefer it.", "collector")
	going := desc("collector_streams", "Streams whose records go to a collector.", "collector")
	relieved := desc("collector_shed_ratio", "Part of the keys that do not go to a collector because it pushes back.", "collector")
	answers := desc("collector_ack_seconds", "How long batches took lately until a collector acknowledged them.", "collector")
	for name, v := range up {
		ch <- prometheus.MustNewConstMetric(relieved, prometheus.GaugeValue, shed[name], name)
		ch <- prometheus.MustNewConstMetric(answers, prometheus.GaugeValue, acks[name], name)
		ch <- prometheus.MustNewConstMetric(healthy, prometheus.GaugeValue, v, name)
		ch <- prometheus.MustNewConstMetric(going, prometheus.GaugeValue, float64(streams[name]), name)
	}
}
