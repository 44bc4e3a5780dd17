package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// source is what asks which Prometheus to use.
const source = "DS_PROMETHEUS"

type datasource struct{ Type, UID string }

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
			Datasource datasource
		}
	}
}

type panel struct {
	ID          int
	Title, Type string
	Datasource  datasource
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Panels      []panel
	Targets     []struct {
		RefID, Expr string
		Datasource  datasource
	}
}

// What Grafana provisions is JSON with ids that it takes, each once. Whether a
// query finds anything is tested beside each plugin.
func TestDashboardsCanBeProvisioned(t *testing.T) {
	files, err := filepath.Glob(top + "/plugin-config/grafana/dashboards/*.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	uids := map[string]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var d dashboard
			if err := json.Unmarshal(data, &d); err != nil {
				t.Fatal(err)
			}
			if uids[d.UID] || d.UID == "" || d.Title == "" || d.SchemaVersion == 0 {
				t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
			}
			uids[d.UID] = true
			for _, v := range d.Templating.List {
				if v.Type == "datasource" && (v.Name != source || v.Query != "prometheus") || v.Type == "query" && v.Datasource != ask {
					t.Errorf("the variable %s is of %v", v.Name, v.Datasource)
				}
			}
			checkPanels(t, d.Panels)
		})
	}
}

var ask = datasource{"prometheus", "${" + source + "}"}

func checkPanels(t *testing.T, all []panel) {
	t.Helper()
	var flat []panel
	for _, p := range all {
		flat = append(append(flat, p), p.Panels...)
	}
	ids := map[int]bool{}
	for i, p := range flat {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("%q: the id %d is there twice, or none", p.Title, p.ID)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%q lies at %+v", p.Title, g)
		}
		for _, q := range flat[:i] {
			if a, b := p.GridPos, q.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%q lies over %q", p.Title, q.Title)
			}
		}
		if p.Type != "row" {
			checkPanel(t, p)
		}
	}
}

func checkPanel(t *testing.T, p panel) {
	t.Helper()
	if p.Datasource != ask || p.Title == "" {
		t.Errorf("%q asks %v", p.Title, p.Datasource)
	}
	var refs []string
	for _, q := range p.Targets {
		if q.Datasource != ask || q.RefID == "" || slices.Contains(refs, q.RefID) {
			t.Errorf("%q: query %q asks %v", p.Title, q.RefID, q.Datasource)
		}
		refs = append(refs, q.RefID)
		if err := fits(p.FieldConfig.Defaults.Unit, q.Expr); err != nil {
			t.Errorf("%q: %v", p.Title, err)
		}
		if strings.Contains(q.Expr, "_total") && !strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "increase(") {
			t.Errorf("%q shows a counter as it is: %s", p.Title, q.Expr)
		}
		if strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "[$__rate_interval]") {
			t.Errorf("%q: a rate over a time that does not fit the scrapes': %s", p.Title, q.Expr)
		}
	}
}

var metricName = regexp.MustCompile(`\b(?:dockline|process|go)_\w+`)

// fits wants the unit in which an expression has its values.
func fits(unit, expr string) error {
	name, rate := metricName.FindString(expr), strings.Contains(expr, "rate(")
	want := []string{"short"}
	switch {
	case strings.Contains(expr, "_seconds_total") && strings.Contains(expr, "_samples_total"): // a mean
		want = []string{"s"}
	case strings.Contains(expr, " / "), strings.Contains(name, "_ratio"), rate && strings.Contains(name, "_seconds_total"):
		want = []string{"percentunit"}
	case strings.Contains(name, "_seconds"):
		want = []string{"s"}
	case strings.Contains(name, "_bytes") && rate:
		want = []string{"Bps"}
	case strings.Contains(name, "_bytes"):
		want = []string{"bytes"}
	case strings.Contains(name, "_packets"), rate && regexp.MustCompile(`_(?:rx|tx|wire)_`).MatchString(name):
		want = []string{"pps"}
	case rate:
		want = []string{"cps", "short"}
	}
	if !slices.Contains(want, unit) {
		return fmt.Errorf("%s is in %q, not in %s", expr, want, unit)
	}
	return nil
}
