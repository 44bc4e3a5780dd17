package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/promtest"
	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// alarmed is a plugin whose metrics a Prometheus scrapes that has our rules, in
// which a minute takes less than half a second.
type alarmed struct {
	*bench
	*promtest.Prometheus
	file    configFile
	many    []*collector.Server
	gone    *collector.Server
	good    string // configuration
	witness *witness
}

// witness counts what collectors got, without what the plugin itself said to them.
type witness struct {
	mu    sync.Mutex
	lines map[string]uint64 // by container
}

func (w *witness) record(r collector.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasPrefix(string(r.Line), "[dockline] ") {
		w.lines[r.Container]++
	}
}

func (w *witness) of(container string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines[container]
}

// picky takes all but what has a certain word in it.
func picky(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || strings.Contains(string(body), "poison") {
		http.Error(rw, "I do not take that", http.StatusBadRequest)
	}
}

const (
	alarmRate = 200 * time.Millisecond // between scrapes, and between evaluations
	alarmTime = 10 * time.Minute
)

func newAlarmed(t *testing.T) *alarmed {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), alarmTime, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	e := bareEngine(ctx, t)
	a := &alarmed{bench: newBench(t, ctx, e), witness: &witness{lines: map[string]uint64{}}}
	a.file = configFile{a.bench, filepath.Join(shared.lab.Dir, "conf-alerts")}
	if err := os.Mkdir(a.file.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		a.many = append(a.many, a.collector(fmt.Sprintf("m%d", i), "relp"))
	}
	a.urls = nil // they are the pool's
	a.gone = a.startGone(testport.Of(t))
	a.good = a.config()
	a.file.put(a.good)
	address := testport.Of(t)
	if err := e.InstallPlugin(ctx, driver, shared.build, "config.source="+a.file.dir, "METRICS="+address, "METRICS_PER_CONTAINER=on", "SPOOL_MAX=16MiB"); err != nil {
		t.Fatal(err)
	}
	a.file.says(`"version"`)
	top, err := harness.ModuleDir()
	if err != nil {
		t.Fatal(err)
	}
	a.Prometheus = promtest.Run(t, promtest.Setup{
		Rules: []string{promtest.Lapse(t, filepath.Join(top, "plugin-config/prometheus/dockline-log.rules.yml"), 400*time.Millisecond, map[string]string{
			"backlog_age_seconds > 300": "backlog_age_seconds > 2", "4 * 3600": "96",
			`process_start_time_seconds{job="dockline-log"}[6000ms]`: `process_start_time_seconds{job="dockline-log"}[10m]`, // an engine takes its time
		})},
		Targets: map[string]string{"dockline-log": address}, Every: alarmRate,
	})
	return a
}

func (a *alarmed) startGone(addr string) *collector.Server {
	a.Helper()
	s, err := collector.Start(collector.Options{Name: "gone", Proto: "relp", Addr: addr, Each: a.witness.record})
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = s.Reset() })
	return s
}

// config has a pool for each kind of fault, and one that is well.
func (a *alarmed) config() string {
	var many []string
	for _, s := range a.many {
		many = append(many, s.URL())
	}
	server := httptest.NewServer(http.HandlerFunc(picky))
	a.Cleanup(server.Close)
	return fmt.Sprintf("pools:\n  many: {collectors: '%s'}\n  gone: {collectors: '%s'}\n  picky: {collectors: 'json+http://%s?name=picky&isolate-after=100ms'}\ndefaults: {pools: [many]}\n",
		strings.Join(many, ","), a.gone.URL(), server.Listener.Addr())
}

// What goes wrong with a real plugin makes the alerts fire that are for it, and
// they end when it is well again; and the counters say what the collectors saw.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	a := newAlarmed(t)
	a.counted()
	a.crashLoop()
	a.fullSpool()
	a.file.put("pools: nonsense\n")
	a.Fires("DocklineLogConfigRefused")
	a.file.put(a.good)
	a.Clears("DocklineLogConfigRefused", "DocklineLogDrainOnly")
	a.shipsAgain()
	a.lost()
	a.ended()
	a.disabled()
}

// counted holds the counters against what is known to have been written.
func (a *alarmed) counted() {
	a.Helper()
	const lines = 5000
	a.start("counted", nil, "workload", "seq", "-n", fmt.Sprint(lines))
	a.finish("counted")
	a.settle()
	for name, want := range map[string]float64{
		"records_sent_total": lines, "records_acknowledged_total": lines, "records_resent_total": 0,
		`streams{state="live"}`: 0, `streams{state="ended"}`: 1, "backlog_bytes": 0, `pool_backlog_bytes{pool="many"}`: 0,
		`call_duration_seconds_count{call="Start"}`: 1, `call_duration_seconds_count{call="Stop"}`: 1, "drain_only": 0, "config_applied_total": 1,
	} {
		a.Value("dockline_log_"+name, want)
	}
	for name, n := range a.check.Where("counted") {
		a.Value(`dockline_log_collector_records_acknowledged_total{collector="`+name+`"}`, float64(n))
	}
	a.Value("dockline_log_spooled_bytes_total - on (instance) dockline_log_container_logged_bytes_total", 0)
	if got := a.Firing(); len(got) > 0 {
		a.Errorf("all is well, and there fire %q", got)
	}
}

// crashLoop kills the plugin until it only spools.
func (a *alarmed) crashLoop() {
	a.Helper()
	root, err := a.engine.Run(a.ctx, "info", "--format", "{{.DockerRootDir}}")
	if err != nil {
		a.Fatal(err)
	}
	id, err := a.engine.Run(a.ctx, "plugin", "inspect", "--format", "{{.Id}}", driver)
	if err != nil {
		a.Fatal(err)
	}
	mount := filepath.Join(root, "plugins", id, "propagated-mount")
	for range 4 { // so often that the other alert fires too
		if err := a.engine.CrashLoop(a.ctx, driver, mount); err != nil {
			a.Fatal(err)
		}
	}
	a.Fires("DocklineLogDrainOnly")
	a.Fires("DocklineLogRestarting")
}

// fullSpool has containers write more than the spool holds, to a collector that
// is not there.
func (a *alarmed) fullSpool() {
	a.Helper()
	if err := a.gone.Reset(); err != nil {
		a.Fatal(err)
	}
	for name, lines := range a.overflow() {
		a.start(name, []string{"--log-opt", "pool=gone", "--log-opt", "on-full=" + name, "--log-opt", "max-size=0"}, "workload", "seq", "-n", fmt.Sprint(lines), "-rate", "20000")
	}
	a.Fires("DocklineLogGivingWay", "on_full", "drop-newest")
	a.Fires("DocklineLogLoss")
	a.Fires("DocklineLogBudget")
	a.Fires("DocklineLogBudgetSoon")
	a.Fires("DocklineLogBacklogAge")
	for name := range a.overflow() {
		if _, err := a.engine.Wait(a.ctx, name); err != nil {
			a.Fatal(err)
		}
	}
}

// overflow is how many lines containers write, by their on-full.
func (a *alarmed) overflow() map[string]uint64 {
	return map[string]uint64{"drop-newest": 150_000, "drop-oldest": 60_000}
}

// shipsAgain is what is seen when the plugin tries again: whom it does not reach,
// who refuses what, and who gets too much.
func (a *alarmed) shipsAgain() {
	a.Helper()
	a.start("loud", nil, "workload", "seq", "-n", endless, "-rate", "3000")
	a.start("sick", []string{"--log-opt", "pool=picky"}, "sh", "-c", "echo well; sleep 2; for i in 1 2 3 4 5; do echo well; echo poi''son; done") // records carry the command
	a.Fires("DocklineLogCollectorDown", "collector", "gone")
	a.Fires("DocklineLogPoison", "collector", "picky", "class", "invalid")
	a.Fires("DocklineLogImbalance")
	a.startGone(a.gone.Addr())
	a.Clears("DocklineLogCollectorDown", "DocklineLogBacklogAge", "DocklineLogBudget", "DocklineLogBudgetSoon", "DocklineLogGivingWay", "DocklineLogLoss", "DocklineLogPoison")
}

// lost holds what is said to be lost against what did not come. A line is framed
// in 144 bytes.
func (a *alarmed) lost() {
	a.Helper()
	const frame = 144
	newest, oldest := a.missing("drop-newest"), a.missing("drop-oldest")
	a.Logf("%v and %v lines did not come", newest, oldest)
	a.Value(`dockline_log_spool_dropped_records_total{reason="drop-newest"}`, newest)
	a.Value(`dockline_log_spool_dropped_bytes_total{reason="drop-newest"}`, newest*frame)
	a.Value(fmt.Sprintf(`ceil(dockline_log_spool_dropped_bytes_total{reason="drop-oldest"} / %d)`, frame), oldest) // the last one was torn
	a.Value("dockline_log_lost_bytes_total", (newest+oldest)*frame)
	a.Value(`dockline_log_records_refused_total{collector="picky", class="invalid"}`, 5)
	a.Value(`dockline_log_collector_records_acknowledged_total{collector="picky"}`, 6)
}

// missing waits until all is delivered that there is of a container's.
func (a *alarmed) missing(name string) float64 {
	a.Helper()
	a.Value(`dockline_log_pool_backlog_bytes{pool="gone"}`, 0)
	return float64(a.overflow()[name] - a.witness.of(name))
}

// ended says where all that was sent has come to, once nothing is under way.
func (a *alarmed) ended() {
	a.Helper()
	a.stop("loud")
	a.finish("loud")
	a.Value("dockline_log_backlog_bytes", 0)
	a.Value("dockline_log_records_sent_total - dockline_log_records_acknowledged_total - dockline_log_records_resent_total - on (instance) sum by (instance) (dockline_log_records_refused_total)", 0)
}

// disabled takes the plugin away.
func (a *alarmed) disabled() {
	a.Helper()
	if _, err := a.engine.Run(a.ctx, "plugin", "disable", "-f", driver); err != nil {
		a.Fatal(err)
	}
	a.Fires("DocklineLogDown")
	if _, err := a.engine.Run(a.ctx, "plugin", "enable", driver); err != nil {
		a.Fatal(err)
	}
	a.Clears("DocklineLogDown")
}
