package logdriver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/spool"
)

// downCollector is the address of a collector that is not there yet.
func downCollector(t *testing.T) string {
	t.Helper()
	return testport.Of(t)
}

// fill writes numbered lines of 16 KiB until the container's policy acts.
func (r *run) fill() (lines int) {
	for ; !r.givesWay(); lines++ {
		r.write(numbered(lines))
	}
	return lines
}

func numbered(n int) string { return fmt.Sprintf("%06d %s", n, strings.Repeat("x", 16000)) }

func (r *run) givesWay() bool {
	st := r.h.plugin.spool.Of(r.info.ContainerID)
	return st != nil && st.GivesWay()
}

func smallHost(t *testing.T, onFull spool.OnFull) (h *host, address string) {
	h = newHost(t, "")
	address = downCollector(t)
	h.cfg.SpoolMax, h.cfg.OnFull, h.cfg.Collectors = 16<<20, onFull, "json+tcp://"+address+"?name=c1"
	h.restart()
	return h, address
}

// A throttled container is never stopped, and loses nothing.
func TestThrottled(t *testing.T) {
	h, address := smallHost(t, spool.DropOldest)
	r := h.run(1, map[string]string{"on-full": "throttle"})
	n := r.fill()
	waited := h.plugin.pumps.Slowed()
	for waited == h.plugin.pumps.Slowed() {
		r.write(numbered(n)) // when the pipe is full, each of these waits for the trickle
		n++
	}
	_, metrics := h.get(t.Context(), "/metrics")
	if !strings.Contains(metrics, `dockline_log_streams_giving_way{on_full="throttle"} 1`) || strings.Contains(metrics, "dockline_log_throttled_seconds_total 0\n") {
		t.Errorf("the metrics do not show it:\n%s", metrics)
	}
	r.stop() // which does not wait for the trickle
	_, lines := collectorAt(t, address)
	for i := range n {
		expectLine(t, lines, numbered(i))
	}
	_, dropped := h.plugin.spool.Used()
	if dropped != 0 {
		t.Errorf("%d bytes were dropped", dropped)
	}
}

// What is dropped has a record in its place that says how much it was.
func TestNewestAreDropped(t *testing.T) {
	h, address := smallHost(t, spool.DropNewest)
	r := h.run(1, nil)
	n := r.fill()
	for range 2000 { // never waits
		r.write(numbered(n))
		n++
	}
	r.stop()
	d := h.plugin.spool.Dropped()[spool.DropNewest]
	_, lines := collectorAt(t, address)
	for i := range n - int(d.Records) {
		expectLine(t, lines, numbered(i))
	}
	expectLine(t, lines, fmt.Sprintf("[dockline] %d bytes of this container's output were dropped", d.Bytes))
	_, status := h.get(t.Context(), "/status")
	var s admin.Status
	if err := json.Unmarshal([]byte(status), &s); err != nil || s.DroppedBytes != d.Bytes || s.Streams[0].OnFull != "drop-newest" || s.Streams[0].GivesWay {
		t.Errorf("%v: %s", err, status)
	}
	_, metrics := h.get(t.Context(), "/metrics")
	if want := fmt.Sprintf(`dockline_log_spool_dropped_records_total{reason="drop-newest"} %d`, d.Records); !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
}

func expectLine(t *testing.T, lines <-chan string, begins string) {
	t.Helper()
	select {
	case got := <-lines:
		if !strings.HasPrefix(got, begins) {
			t.Fatalf("got %.60q, want %.60q", got, begins)
		}
	case <-time.After(30 * time.Second): // a collector that was down is dialled again after some time
		t.Fatalf("%.60q did not arrive", begins)
	}
}

func TestSettingsOfPolicies(t *testing.T) {
	for _, tc := range []struct{ key, value, want string }{
		{"ON_FULL", "block", `setting ON_FULL="block": not one of drop-oldest, drop-newest, throttle`},
		{"SYNC", "1s", `setting SYNC="1s": neither off nor interval=DURATION`},
		{"SYNC", "interval=1ns", `setting SYNC="interval=1ns": the interval is not a duration from`},
	} {
		_, err := ConfigFromEnv(func(k string) string { return map[string]string{tc.key: tc.value}[k] })
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
	c, err := ConfigFromEnv(func(k string) string { return map[string]string{"ON_FULL": "throttle", "SYNC": "interval=5s"}[k] })
	if err != nil || c.OnFull != spool.Throttle || c.Sync != 5*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
}
