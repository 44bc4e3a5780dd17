package promtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var durations = regexp.MustCompile(`(\bfor: |\[|\boffset )(\d+)([smh])\b`)

// Lapse copies a file of rules to one in which time flies: a minute of what they
// wait and look back takes as long as minute. Thresholds that are times look like
// others: each is given as it stands in an expression, and what takes its place.
func Lapse(t testing.TB, file string, minute time.Duration, thresholds map[string]string) (lapsed string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := durations.ReplaceAllStringFunc(string(data), func(s string) string {
		m := durations.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		seconds := n * map[string]int{"s": 1, "m": 60, "h": 3600}[m[3]]
		return m[1] + model(time.Duration(seconds)*minute/60)
	})
	for was, is := range thresholds {
		if strings.Count(text, was) != 1 {
			t.Fatalf("%q is not there once in %s", was, file)
		}
		text = strings.Replace(text, was, is, 1)
	}
	lapsed = filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(lapsed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return lapsed
}

// alert is one that Prometheus says is active.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

func (p *Prometheus) firing(name string) (all []alert) {
	p.t.Helper()
	var data struct{ Alerts []alert }
	if err := p.get("/api/v1/alerts", &data); err != nil {
		p.t.Fatal(err)
	}
	return slices.DeleteFunc(data.Alerts, func(a alert) bool {
		return a.State != "firing" || name != "" && a.Labels["alertname"] != name
	})
}

// Firing returns the names of the alerts that fire now.
func (p *Prometheus) Firing() []string {
	p.t.Helper()
	names := map[string]bool{}
	for _, a := range p.firing("") {
		names[a.Labels["alertname"]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Fires waits until an alert fires, with these labels among others. Its
// annotations have to be whole, and to name what the labels name.
func (p *Prometheus) Fires(name string, labels ...string) {
	p.t.Helper()
	began := time.Now()
	var got alert
	ok := p.awaits(func() bool {
		for _, a := range p.firing(name) {
			if has(a.Labels, labels) {
				got = a
				return true
			}
		}
		return false
	})
	if !ok {
		p.t.Fatalf("%s%q does not fire within %v; what does: %q", name, labels, patience, p.Firing())
	}
	for key, text := range got.Annotations {
		if strings.Contains(text, "<no value>") || strings.Contains(text, "<error") {
			p.t.Errorf("%s: its %s is %q", name, key, text)
		}
	}
	p.t.Logf("%s fires after %v: %s: %s", name, time.Since(began).Round(time.Millisecond), got.Annotations["summary"], got.Annotations["description"])
}

func has(labels map[string]string, want []string) bool {
	for i := 0; i+1 < len(want); i += 2 {
		if labels[want[i]] != want[i+1] {
			return false
		}
	}
	return true
}

// Clears waits until alerts do not fire any more.
func (p *Prometheus) Clears(names ...string) {
	p.t.Helper()
	began := time.Now()
	for _, name := range names {
		if !p.awaits(func() bool { return len(p.firing(name)) == 0 }) {
			p.t.Fatalf("%s still fires after %v: %v", name, patience, p.firing(name))
		}
	}
	p.t.Logf("%q are clear after %v", names, time.Since(began).Round(time.Millisecond))
}

// Value waits until an expression has the value that the test knows to be right.
// What it is otherwise is said.
func (p *Prometheus) Value(expr string, want float64) {
	p.t.Helper()
	var got []Sample
	ok := p.awaits(func() bool {
		got = p.queryAt(expr, "")
		if len(got) != 1 {
			return false
		}
		v, err := strconv.ParseFloat(fmt.Sprint(got[0].Value[1]), 64)
		return err == nil && v == want
	})
	if !ok {
		p.t.Errorf("%s is %v, want %v", expr, got, want)
	}
}

// awaits polls: Prometheus tells nobody when it has scraped or evaluated.
func (p *Prometheus) awaits(done func() bool) bool {
	p.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
