// Package metric declares the metrics of a plugin, each once, in a table: what
// is served is checked against it, and the documentation is made of it.
package metric

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Type is a metric's type as Prometheus knows it.
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Metric is one metric.
type Metric struct {
	Name   string // without the plugin's prefix
	Type   Type
	Labels []string
	Help   string // what it is
	Do     string // what an operator makes of it, for the documentation only
}

// Group is a part of the table with a heading, for people.
type Group struct {
	Title   string
	Metrics []Metric
}

type entry struct {
	Metric
	desc *prometheus.Desc
}

// Table is all metrics of a plugin.
type Table struct {
	prefix string
	groups []Group
	byName map[string]entry
	began  time.Time // the process, nearly
}

// New returns the table of the metrics whose names begin with the prefix. It
// panics if one is there twice or not described.
func New(prefix string, groups ...Group) *Table {
	t := &Table{prefix: prefix, groups: groups, byName: map[string]entry{}, began: time.Now()}
	for _, g := range groups {
		for _, m := range g.Metrics {
			if _, twice := t.byName[m.Name]; twice || m.Help == "" || m.Type == "" {
				panic("metric " + m.Name + " is there twice, or not described")
			}
			t.byName[m.Name] = entry{m, prometheus.NewDesc(prefix+m.Name, m.Help, m.Labels, nil)}
		}
	}
	return t
}

func (t *Table) entry(name string) entry {
	e, ok := t.byName[name]
	if !ok {
		panic("metric " + name + " is not in the table")
	}
	return e
}

// Put hands over the value of a gauge, or of a counter that began with the process,
// with the values of its labels.
func (t *Table) Put(ch chan<- prometheus.Metric, name string, value float64, labels ...string) {
	e := t.entry(name)
	if e.Type == Counter {
		ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(e.desc, prometheus.CounterValue, value, t.began, labels...)
		return
	}
	ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, value, labels...)
}

// PutFormer is Put for a counter that was there before the process: the kernel's, say.
func (t *Table) PutFormer(ch chan<- prometheus.Metric, name string, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(t.entry(name).desc, prometheus.CounterValue, value, labels...)
}

// PutHistogram hands over a histogram: how many values there were, their sum, and
// how many of them were not greater than each of the bounds.
func (t *Table) PutHistogram(ch chan<- prometheus.Metric, name string, count uint64, sum float64, below map[float64]uint64, labels ...string) {
	ch <- prometheus.MustNewConstHistogram(t.entry(name).desc, count, sum, below, labels...)
}

// Truth is how a metric says whether something is so.
func Truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Counters returns a counter that is kept rather than collected.
func (t *Table) Counters(name string) *prometheus.CounterVec {
	e := t.entry(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: t.prefix + name, Help: e.Help}, e.Labels)
}

// Histograms returns a histogram.
func (t *Table) Histograms(name string, buckets []float64) *prometheus.HistogramVec {
	e := t.entry(name)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: t.prefix + name, Help: e.Help, Buckets: buckets}, e.Labels)
}

// All returns the metrics by their whole names.
func (t *Table) All() map[string]Metric {
	all := map[string]Metric{}
	for name, e := range t.byName {
		all[t.prefix+name] = e.Metric
	}
	return all
}

// Markdown returns the table as the documentation shows it.
func (t *Table) Markdown() string {
	var b strings.Builder
	for _, g := range t.groups {
		fmt.Fprintf(&b, "### %s\n\n| metric | type | labels | what it is | what to make of it |\n|---|---|---|---|---|\n", g.Title)
		for _, m := range g.Metrics {
			labels := ""
			if len(m.Labels) > 0 {
				labels = "`" + strings.Join(m.Labels, "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s | %s |\n", t.prefix, m.Name, m.Type, labels, m.Help, m.Do)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}
