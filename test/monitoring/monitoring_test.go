// Package monitoring holds rules, dashboards and documentation against the
// metrics that the plugins declare. That these are what they serve, and that each
// query finds something, is tested beside each plugin.
package monitoring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dockline/dockline/internal/metric"
	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/internal/testdoc"
	logadmin "github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/netdriver/admin"
)

//go:generate go test . -run ^TestDocument$ -update

const (
	top      = "../.."
	folder   = top + "/plugin-config/prometheus/"
	runbooks = "https://github.com/dockline/dockline/blob/main/"
)

var tables = map[string]*metric.Table{"log": logadmin.Metrics, "net": admin.Metrics}

// rule is one of a file of Prometheus rules.
type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func rules(t *testing.T, plugin string) (all []rule) {
	t.Helper()
	data, err := os.ReadFile(folder + "dockline-" + plugin + ".rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s (scripts/setup.sh installs it): %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtool(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml") // and the rules
	promtool(t, "test", "rules", "dockline-log.test.yml", "dockline-net.test.yml")
}

var templated = regexp.MustCompile(`\$labels\.(\w+)`)

// Every alert is tested, names metrics and labels that there are, says what to
// do, and leads to a part of the documentation that there is.
func TestAlerts(t *testing.T) {
	for plugin, table := range tables {
		tests, err := os.ReadFile(folder + "dockline-" + plugin + ".test.yml")
		if err != nil {
			t.Fatal(err)
		}
		recorded := map[string]string{}
		for _, r := range rules(t, plugin) {
			if r.Record != "" {
				recorded[r.Record] = r.Expr
			}
		}
		for _, r := range rules(t, plugin) {
			expr := r.Expr
			for name, of := range recorded {
				if r.Record == "" {
					expr = strings.ReplaceAll(expr, name, "("+of+")")
				}
			}
			if err := promtest.Check(expr, table); err != nil {
				t.Errorf("%s%s: %v", r.Alert, r.Record, err)
			}
			if r.Alert == "" {
				continue
			}
			if !strings.Contains(string(tests), `alertname="`+r.Alert+`"`) {
				t.Errorf("%s is not tested", r.Alert)
			}
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			for _, key := range []string{"summary", "description", "action", "runbook_url"} {
				if r.Annotations[key] == "" {
					t.Errorf("%s has no %s", r.Alert, key)
				}
				for _, m := range templated.FindAllStringSubmatch(r.Annotations[key], -1) {
					if err := promtest.Check(expr+` == {`+m[1]+`=""}`, table); err != nil {
						t.Errorf("%s: %s: %v", r.Alert, key, err)
					}
				}
			}
			if err := leadsSomewhere(r.Annotations["runbook_url"]); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
	}
}

var notInSlugs = regexp.MustCompile(`[^a-z0-9 _-]`)

// leadsSomewhere wants the page and the heading of a link to the documentation.
func leadsSomewhere(link string) error {
	path, ok := strings.CutPrefix(link, runbooks)
	if !ok {
		return fmt.Errorf("%s is no page of the documentation", link)
	}
	path, anchor, _ := strings.Cut(path, "#")
	text, err := os.ReadFile(filepath.Join(top, path))
	if err != nil || anchor == "" {
		return err
	}
	for line := range strings.Lines(string(text)) {
		heading := strings.TrimSpace(strings.TrimLeft(line, "#"))
		if strings.HasPrefix(line, "#") && strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(heading), ""), " ", "-") == anchor {
			return nil
		}
	}
	return fmt.Errorf("%s has no heading %s", path, anchor)
}

// docs/metrics.md says what the tables and the rules say.
func TestDocument(t *testing.T) {
	job, err := os.ReadFile(folder + "prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	testdoc.Check(t, top+"/docs/metrics.md",
		"<!-- job -->\n", string(job),
		"<!-- alerts log -->\n", alerts(rules(t, "log")), "<!-- alerts net -->\n", alerts(rules(t, "net")),
		"<!-- metrics log -->\n", logadmin.Metrics.Markdown()+"\n", "<!-- metrics net -->\n", admin.Metrics.Markdown(),
	)
}

var (
	value    = regexp.MustCompile(`{{ \$value[^}]*}}`)
	anyLabel = regexp.MustCompile(`{{ \$labels\.(\w+) }}`)
)

func alerts(all []rule) string {
	var b strings.Builder
	b.WriteString("| alert | severity | after | what it says | what to do |\n|---|---|---|---|---|\n")
	plain := func(s string) string {
		return strings.ReplaceAll(anyLabel.ReplaceAllString(value.ReplaceAllString(s, "N"), "*$1*"), "|", `\|`)
	}
	for _, r := range all {
		if r.Alert == "" {
			continue
		}
		after := r.For
		if after == "" {
			after = "at once"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.Alert, r.Labels["severity"], after, plain(r.Annotations["summary"]), plain(r.Annotations["action"]))
	}
	return b.String()
}
