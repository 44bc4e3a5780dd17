package promtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/metric"
)

// panel is what a Grafana dashboard's JSON says of a panel.
type panel struct {
	Title   string
	Type    string
	Panels  []panel // of a row
	Targets []struct{ Expr, LegendFormat string }
}

type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
}

// filled stands for what Grafana puts in the place of its variables.
var filled = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$instance", ".*", "$network", ".*")

var (
	legendLabel = regexp.MustCompile(`{{\s*(\w+)\s*}}`)
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	grouping    = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) \(([^)]*)\)`)
	selector    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	ours        = regexp.MustCompile(`\bdockline_(?:log|net)_\w+`)
)

// CheckDashboard asks every query of a Grafana dashboard. Each has to give
// series, with metrics of the table, and with the labels that it groups by and
// that its legend shows.
func (p *Prometheus) CheckDashboard(file string, table *metric.Table) {
	p.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			p.checkVariable(v.Name, v.Query, table)
		}
	}
	queries := p.checkPanels(d.Panels, table)
	if queries == 0 {
		p.t.Errorf("%s has no query", file)
	}
	p.t.Logf("%s: %d queries", file, queries)
}

func (p *Prometheus) checkVariable(name string, query json.RawMessage, table *metric.Table) {
	var q struct{ Query string }
	if err := json.Unmarshal(query, &q); err != nil {
		p.t.Fatal(err)
	}
	m := labelValues.FindStringSubmatch(q.Query)
	if m == nil {
		p.t.Errorf("the variable %s is not of the form label_values(SERIES, LABEL): %s", name, q.Query)
		return
	}
	p.check("the variable "+name, m[1], []string{m[2]}, table)
}

func (p *Prometheus) checkPanels(all []panel, table *metric.Table) (queries int) {
	for _, one := range all {
		queries += p.checkPanels(one.Panels, table)
		for _, t := range one.Targets {
			queries++
			var labels []string
			for _, m := range legendLabel.FindAllStringSubmatch(t.LegendFormat, -1) {
				labels = append(labels, m[1])
			}
			p.check(one.Title, t.Expr, labels, table)
		}
		if one.Type != "row" && one.Type != "text" && len(one.Targets) == 0 {
			p.t.Errorf("panel %q has no query", one.Title)
		}
	}
	return queries
}

func (p *Prometheus) check(what, expr string, labels []string, table *metric.Table) {
	if strings.Contains(filled.Replace(expr), "$") {
		p.t.Errorf("%s: a variable that is not known in %s", what, expr)
		return
	}
	if err := Check(expr, table); err != nil {
		p.t.Errorf("%s: %v", what, err)
	}
	got := p.Query(filled.Replace(expr))
	if len(got) == 0 {
		p.t.Errorf("%s: nothing for %s", what, expr)
	}
	for _, label := range labels {
		for _, s := range got {
			if s.Metric[label] == "" {
				p.t.Errorf("%s: no label %s on %v, of %s", what, label, s.Metric, expr)
			}
		}
	}
}

// Check wants every metric of ours in an expression in the table, and every label
// that it selects or groups by on one of these, or given by Prometheus.
func Check(expr string, table *metric.Table) error {
	known := []string{"instance", "job", "le"}
	for _, name := range ours.FindAllString(expr, -1) {
		m, ok := Find(table, name)
		if !ok {
			return fmt.Errorf("there is no metric %s: %s", name, expr)
		}
		known = append(known, m.Labels...)
	}
	var used []string
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		used = append(used, m[1])
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			used = append(used, strings.TrimSpace(label))
		}
	}
	for _, label := range used {
		if !slices.Contains(known, label) {
			return fmt.Errorf("no metric there has the label %q: %s", label, expr)
		}
	}
	return nil
}

// Find returns the metric of the table whose series have the name.
func Find(table *metric.Table, name string) (metric.Metric, bool) {
	all := table.All()
	if m, ok := all[name]; ok {
		return m, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if m, ok := all[strings.TrimSuffix(name, suffix)]; ok && strings.HasSuffix(name, suffix) && m.Type == metric.Histogram {
			return m, true
		}
	}
	return metric.Metric{}, false
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (dockline_\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`(?m)^(dockline_\w+)(?:{(.*)})? `)
	labelName  = regexp.MustCompile(`(?:^|,)(\w+)="`)
)

// Scrape reads /metrics of a handler, has promtool check it, and compares it to
// the table: name, type and labels. It returns the names that are there.
func Scrape(t testing.TB, h http.Handler, table *metric.Table) map[string]bool {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics (scripts/setup.sh installs it): %v\n%s", err, out)
	}
	seen := map[string]bool{}
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		if of, ok := table.All()[m[1]]; !ok || string(of.Type) != m[2] {
			t.Errorf("%s is a %s, of which the table says %q", m[1], m[2], of.Type)
		}
		seen[m[1]] = true
	}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		of, _ := Find(table, m[1])
		var labels []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		want := slices.Sorted(slices.Values(of.Labels))
		if slices.Sort(labels); !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %q, of which the table says %q", m[1], labels, want)
		}
	}
	return seen
}
