package logdriver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	stock "github.com/docker/docker/api/types/plugins/logdriver"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/testleak"
	"github.com/dockline/dockline/logdriver/container"
	"github.com/dockline/dockline/logdriver/engine"
)

func TestMain(m *testing.M) { testleak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestRecordsReachTheCollectorAndDockerLogs(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	r := h.run(1, nil)
	r.write("one", "two")
	r.chunk("stdout", "x", "thr", false)
	r.chunk("stderr", "y", "err", false)
	r.chunk("stdout", "x", "ee", true)
	r.chunk("stderr", "y", "or, no newline", false)
	r.stop()
	expect(t, lines, "one", "two", "three", "error, no newline")
	want := []string{"stdout one\n", "stdout two\n", "stdout three\n", "stderr error, no newline"}
	if got := h.logs(r.info, engine.ReadConfig{Tail: -1}); !slices.Equal(got, want) {
		t.Errorf("docker logs: %q", got)
	}
	for n := range 5 {
		if got := h.logs(r.info, engine.ReadConfig{Tail: n}); !slices.Equal(got, want[4-n:]) {
			t.Errorf("tail %d: %q", n, got)
		}
	}
	again := h.run(1, nil)
	again.write("second run")
	again.stop()
	expect(t, lines, "second run")
	if got := h.logs(r.info, engine.ReadConfig{Tail: 2}); !slices.Equal(got, []string{want[3], "stdout second run\n"}) {
		t.Errorf("after a restart of the container: %q", got)
	}
}

func TestThePluginGoesOnWhereItStopped(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	r := h.run(1, nil)
	for i := range 5 {
		r.write(fmt.Sprint("before ", i))
		expect(t, lines, fmt.Sprint("before ", i))
		h.plugin.Close()
		r.write(fmt.Sprint("meanwhile ", i)) // nobody reads: it waits in the pipe
		h.start()
		expect(t, lines, fmt.Sprint("meanwhile ", i))
	}
	r.stop()
	if got := len(h.logs(r.info, engine.ReadConfig{Tail: -1})); got != 10 {
		t.Errorf("docker logs has %d of 10 records", got)
	}
}

func TestFollowEndsWithTheContainer(t *testing.T) {
	h := newHost(t, "")
	r := h.run(1, nil)
	r.write("one", "two")
	srv := httptest.NewServer(h.server)
	defer srv.Close()
	body, err := json.Marshal(map[string]any{"Info": r.info, "Config": engine.ReadConfig{Tail: 1, Follow: true}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Post(srv.URL+"/LogDriver.ReadLogs", "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	dec := stock.NewLogEntryDecoder(res.Body)
	next := func() string {
		var e stock.LogEntry
		if err := dec.Decode(&e); err != nil {
			return err.Error()
		}
		return string(e.Line)
	}
	if got := next(); got != "two\n" && got != "one\n" { // whether both were moved yet is open
		t.Errorf("first: %q", got)
	}
	r.write("three")
	for got := next(); got != "three\n"; got = next() {
		if got != "two\n" {
			t.Fatalf("got %q", got)
		}
	}
	r.stop()
	if got := next(); got != io.EOF.Error() {
		t.Errorf("after the stop: %q", got)
	}
}

func TestBadCallsAreRefused(t *testing.T) {
	h := newHost(t, "")
	good := info(1, nil)
	start := func(file string, i container.Info) map[string]any { return map[string]any{"File": file, "Info": i} }
	for _, tc := range []struct {
		name, path string
		body       any
		want       string
	}{
		{"empty start", "/LogDriver.StartLogging", []byte{}, "empty request body"},
		{"empty stop", "/LogDriver.StopLogging", []byte{}, "empty request body"},
		{"empty read", "/LogDriver.ReadLogs", []byte{}, "empty request body"},
		{"broken JSON", "/LogDriver.StartLogging", []byte(`{"File":`), "not the JSON object"},
		{"an array", "/LogDriver.StopLogging", []byte(`[1]`), "not the JSON object"},
		{"too large", "/LogDriver.StartLogging", bytes.Repeat([]byte("x"), 17<<20), "larger than"},
		{"unknown call", "/LogDriver.Nope", []byte("{}"), "unknown call"},
		{"no file", "/LogDriver.StopLogging", []byte("{}"), "names no File"},
		{"relative file", "/LogDriver.StopLogging", map[string]string{"File": "../x"}, "clean absolute path"},
		{"no container", "/LogDriver.StartLogging", start("/x", container.Info{}), "ContainerID"},
		{"odd container", "/LogDriver.ReadLogs", map[string]any{"Info": container.Info{ContainerID: strings.Repeat("/", 64)}}, "ContainerID"},
		{"no such FIFO", "/LogDriver.StartLogging", start(filepath.Join(h.dir, "nope"), good), "open the container's FIFO"},
		{"not a FIFO", "/LogDriver.StartLogging", start(h.dir, good), "there is no such FIFO"},
		{"unknown option", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"colectors": "x"})), `did you mean "collectors"?`},
		{"bad address", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"collectors": "relp://a:b"})), `log-opt collectors="relp://a:b"`},
		{"bad parameter", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"collectors": "json+tcp://a:1?max-line=5"})), `max-line="5": neither 0`},
		{"unknown policy", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"on-full": "block"})), `log-opt on-full="block": not one of drop-oldest, drop-newest, throttle`},
		{"odd interval", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"sync": "interval=1"})), `log-opt sync="interval=1"`},
		{"unknown protocol", "/LogDriver.StartLogging", start("/x", info(1, map[string]string{"collectors": "rlp://a:1"})), `did you mean "relp"?`},
	} {
		if msg := h.call(tc.path, tc.body); !strings.Contains(msg, tc.want) {
			t.Errorf("%s: got %q, want %q in it", tc.name, msg, tc.want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.cfg.StateDir, "spool", "streams", "*")); len(left) > 0 {
		t.Errorf("refused calls left %v", left)
	}
	if msg := h.call("/LogDriver.Capabilities", []byte{}); msg != "" {
		t.Errorf("Capabilities: %s", msg)
	}
}

func TestABadPluginSettingIsSaidWhenAContainerStarts(t *testing.T) {
	h := newHost(t, "nonsense")
	msg := h.call("/LogDriver.StartLogging", map[string]any{"File": "/x", "Info": info(1, nil)})
	if !strings.Contains(msg, `plugin setting COLLECTORS="nonsense"`) {
		t.Errorf("got %q", msg)
	}
}

// TestCallsInAnyOrder makes random calls, many of them twice, with restarts
// in between, and then looks whether a container that behaves still works and
// nothing is left of the others.
func TestCallsInAnyOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	h := newHost(t, "")
	var files []string
	for i := range 4 {
		path := filepath.Join(h.dir, fmt.Sprint("any-", i))
		if err := unix.Mkfifo(path, 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		files = append(files, path)
	}
	for range 400 {
		i := rnd.IntN(len(files))
		switch rnd.IntN(8) {
		case 0, 1, 2:
			h.call("/LogDriver.StartLogging", map[string]any{"File": files[i], "Info": info(rnd.IntN(3), nil)})
		case 3, 4:
			h.call("/LogDriver.StopLogging", map[string]any{"File": files[i]})
		case 5:
			h.logs(info(rnd.IntN(3), nil), engine.ReadConfig{Tail: rnd.IntN(3) - 1})
		case 6:
			h.call("/LogDriver.StartLogging", []byte{})
		case 7:
			h.restart()
		}
	}
	for _, f := range files {
		if msg := h.call("/LogDriver.StopLogging", map[string]any{"File": f}); msg != "" {
			t.Error(msg)
		}
	}
	if n := h.plugin.pumps.Len(); n != 0 {
		t.Errorf("%d FIFOs are still read", n)
	}
	if left := h.plugin.spool.Streams(); len(left) != 0 {
		t.Errorf("%d streams without a byte are left", len(left))
	}
	r := h.run(9, nil)
	r.write("fine")
	r.stop()
	if got := h.logs(r.info, engine.ReadConfig{Tail: -1}); !slices.Equal(got, []string{"stdout fine\n"}) {
		t.Errorf("got %q", got)
	}
}

func TestAfterALoopOfCrashesItOnlySpools(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	r := h.run(1, nil)
	for range quickStarts + 1 { // killed: nothing says that it stopped in order
		h.plugin.Close()
		data, err := json.Marshal(starts{Last: time.Now(), Quick: quickStarts - 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.cfg.StateDir, startsFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	r.write("spooled")
	r.stop()
	if got := h.logs(r.info, engine.ReadConfig{Tail: -1}); !slices.Equal(got, []string{"stdout spooled\n"}) {
		t.Errorf("docker logs: %q", got)
	}
	if n := h.plugin.ship.Len(); n != 0 {
		t.Errorf("%d streams are shipped", n)
	}
	h.plugin.endDrainOnly() // what the timer does
	expect(t, lines, "spooled")
}

func TestOnlyQuickDeathsAreALoop(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1000, 0)
	for i := range 30 { // killed every three seconds
		if noteStart(dir, now.Add(time.Duration(i)*3*time.Second), quiet) {
			t.Fatal("taken for a loop")
		}
	}
	for i := range quickStarts + 1 {
		if got := noteStart(dir, now.Add(time.Hour+time.Duration(i)*time.Second), quiet); got != (i == quickStarts) {
			t.Errorf("quick start %d: %v", i, got)
		}
	}
	if err := noteStop(dir); err != nil {
		t.Fatal(err)
	}
	if noteStart(dir, now.Add(time.Hour+10*time.Second), quiet) {
		t.Error("an orderly stop is no crash")
	}
}

func TestConfigFromEnv(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	c, err := ConfigFromEnv(env("SPOOL_MAX", "2GiB", "LOG_LEVEL", "debug", "HOST_NAME", "box"))
	if err != nil || c.SpoolMax != 2<<30 || c.LogLevel != slog.LevelDebug || c.HostName != "box" {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err = ConfigFromEnv(env()); err != nil || c.HostName == "" || c.SpoolMax != 1<<30 {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	for _, bad := range [][2]string{{"SPOOL_MAX", "lots"}, {"SPOOL_MAX", "1k"}, {"LOG_LEVEL", "loud"}, {"SPOOL_MIN_FREE", "some"}, {"SPLIT_ABOVE", "1"}, {"CONFIG", "/etc/x"}} {
		if _, err := ConfigFromEnv(env(bad[0], bad[1])); err == nil || !strings.Contains(err.Error(), bad[0]+"=\""+bad[1]) {
			t.Errorf("%v: got %v", bad, err)
		}
	}
	// What can be read of the others holds, whatever stands before it.
	c, err = ConfigFromEnv(env("SPOOL_MAX", "lots", "SPOOL_MIN_FREE", "0", "ON_FULL", "throttle", "SYNC", "interval=5s", "SPLIT_ABOVE", "fast", "LOG_LEVEL", "debug"))
	if err == nil || !strings.Contains(err.Error(), "SPOOL_MAX") || c.SpoolMax != 1<<30 || c.MinFree != 0 || c.OnFull.String() != "throttle" || c.Sync != 5*time.Second || c.LogLevel != slog.LevelDebug {
		t.Errorf("got %+v, %v", c, err)
	}
}
