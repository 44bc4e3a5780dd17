package logdriver

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
	"github.com/dockline/dockline/logdriver/place"
	"github.com/dockline/dockline/logdriver/refusal"
)

// busy is a host on which all kinds of things have happened.
func busy(t *testing.T) *host {
	t.Helper()
	addr, lines := picky(t, http.StatusBadRequest)
	other, _ := collector(t)
	h, put := configured(t, "")
	h.cfg.PerContainer = true
	h.restart()
	list := filepath.Join(t.TempDir(), "list")
	members(t, list, "json+tcp://"+other+"?name=listed")
	picked := `json+http://` + addr + `?name=picky&isolate-after=100ms`
	put("pools:\n  default: {collectors: '" + picked + "'}\n  dead: {collectors: 'json+tcp://" + downCollector(t) + "?name=dead'}\n" +
		"  listed: {collectors: 'file://" + inEtc + list + "'}\n  heavy: {collectors: ['json+tcp://" + other + "?name=h1', 'json+tcp://" + other + "?name=h2'], split-above: 1KiB/s}\n" +
		"defaults: {pools: [default]}\n")
	h.untilVersion("")
	r := h.run(1, nil)
	r.write("one", "poison \x01", "two")
	expect(t, lines, "one", "two")
	h.run(2, map[string]string{"pool": "dead"}).write("nobody takes this")
	h.run(3, map[string]string{"pool": "listed"}).write("three")
	put("pools: nonsense\n")
	h.until("the configuration is refused", func(s admin.Status) bool { return s.Config.Refused != "" })
	heavy := h.run(4, map[string]string{"pool": "heavy"})
	h.until("a stream is split", func(s admin.Status) bool {
		heavy.write(strings.Repeat("x", 1000))
		for _, st := range s.Streams {
			if st.Split > 1 {
				return true
			}
		}
		return false
	})
	h.until("a collector is down", func(s admin.Status) bool {
		for _, c := range s.Collectors {
			if c.Name == "dead" && !c.Healthy {
				return true
			}
		}
		return false
	})
	return h
}

// What a plugin at work serves is what the table says, all of it, as Prometheus
// wants it; every query of the dashboard finds series, and every rule is
// evaluated.
func TestMetricsAndDashboard(t *testing.T) {
	h := busy(t)
	served := h.plugin.Admin(quiet)
	seen := promtest.Scrape(t, served, admin.Metrics)
	for name := range admin.Metrics.All() {
		if !seen[name] && name != "dockline_log_put_aside_bytes" { // which only a downgraded one has
			t.Errorf("%s is in the table only", name)
		}
	}
	rules, err := filepath.Abs("../plugin-config/prometheus/dockline-log.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	p := promtest.Start(t, []string{rules}, "dockline-log", served)
	p.CheckRules()
	p.CheckDashboard("../plugin-config/grafana/dashboards/dockline-log.json", admin.Metrics)
}

func TestMetricsOfADowngrade(t *testing.T) {
	h := newHost(t, "")
	h.plugin.Close()
	h.version(99)
	d := h.downgrade()
	seen := promtest.Scrape(t, d.Admin(quiet), admin.Metrics)
	code, body := asked(d, "/readyz")
	h.version(1)
	d.Close()
	sums(t, seen)
	if !seen["dockline_log_put_aside_bytes"] {
		t.Errorf("%v", seen)
	}
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "no: records are shipped: ") {
		t.Errorf("%d %s", code, body)
	}
}

// sums wants what rules and dashboards add to each other: where one is missing, the
// sum is, too.
func sums(t *testing.T, seen map[string]bool) {
	t.Helper()
	for _, name := range []string{"drain_only", "downgraded", "refusing", "spool_dropped_bytes_total", "lost_bytes_total", "given_up_bytes_total"} {
		if !seen["dockline_log_"+name] {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestMetricsOfARefusal(t *testing.T) {
	r := outOfReach{refusal.Open(t.TempDir(), &place.Error{Was: "/a", Is: "/b"}, quiet)}
	defer r.Close()
	sums(t, promtest.Scrape(t, r.Admin(quiet), admin.Metrics))
	if code, body := asked(r, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "/a") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := asked(r, "/healthz"); code != http.StatusOK { // a restart would not help
		t.Errorf("%d %s", code, body)
	}
}

func asked(d Driver, path string) (int, string) {
	w := httptest.NewRecorder()
	d.Admin(quiet).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealthAndReadiness(t *testing.T) {
	h := newHost(t, "json+tcp://"+downCollector(t))
	want := func(path string, code int, says ...string) {
		t.Helper()
		got, body := asked(h.plugin, path)
		for _, s := range says {
			if !strings.Contains(body, s) {
				t.Errorf("%s lacks %q: %s", path, s, body)
			}
		}
		if got != code {
			t.Errorf("%s: %d %s", path, got, body)
		}
	}
	want("/healthz", http.StatusOK, "ok: spool takes bytes\n")
	want("/readyz", http.StatusOK, "ok: records are shipped\n", "ok: a configuration is in force\n", "ok: spool has room\n") // a collector that is down stops nothing
	h.plugin.streams.Paused.Store(true)
	want("/healthz", http.StatusOK)
	want("/readyz", http.StatusServiceUnavailable, "no: records are shipped: ", "died again and again", "only spools for "+drainOnlyFor.String())
	h.plugin.streams.Paused.Store(false)
	want("/readyz", http.StatusOK)
	c := &host{t: t, dir: t.TempDir(), cfg: Config{ConfigMount: t.TempDir(), ConfigMountedFrom: "/srv/conf", HostName: "h1", Etc: "/", SpoolMax: 1 << 30}}
	c.cfg.StateDir = filepath.Join(c.dir, "state")
	c.start()
	t.Cleanup(func() { c.plugin.Close() })
	h = c
	c.until("the configuration is missed", func(s admin.Status) bool { return s.Config.Error != "" })
	want("/readyz", http.StatusServiceUnavailable, "no: a configuration is in force: none is known from ", config.FileName)
}

// Metrics of containers are there where they are asked for only.
func TestMetricsPerContainer(t *testing.T) {
	h := newHost(t, "")
	r := h.run(7, nil)
	r.write("one")
	h.until("it is spooled", func(s admin.Status) bool { return s.Streams[0].End > 0 })
	if _, text := h.get(t.Context(), "/metrics"); strings.Contains(text, "container_") || strings.Contains(text, "web-7") {
		t.Errorf("metrics of a container:\n%s", text)
	}
	h.plugin.shown.PerContainer = true
	_, text := h.get(t.Context(), "/metrics")
	for _, want := range []string{`dockline_log_container_info{container="000000000000",name="web-7"} 1`, `dockline_log_container_logged_bytes_total{container="000000000000"} `, "dockline_log_containers_left_out 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
