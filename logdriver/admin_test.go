package logdriver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// get asks the plugin's admin server.
func (h *host) get(ctx context.Context, path string) (int, string) {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.plugin.Admin(quiet).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestStatusMetricsAndDrain(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr+"?name=c1")
	stuck := h.run(2, map[string]string{"collectors": "json+tcp://127.0.0.1:1?name=dead"})
	stuck.write("nobody takes this")
	stuck.stop()
	r := h.run(1, nil)
	r.write("one", "two")
	expect(t, lines, "one", "two")
	h.until("one is delivered, and the other's collector is tried", func(s admin.Status) bool {
		return len(s.Streams) == 2 && s.Streams[0].BacklogBytes == 0 && slices.ContainsFunc(s.Collectors, func(c admin.CollectorStatus) bool { return c.Name == "dead" && !c.Healthy })
	})

	if code, body := h.get(t.Context(), "/drain?timeout=300ms"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "of 1 containers are not delivered yet; collectors that cannot be reached: dead") {
		t.Errorf("drain with a backlog: %d %s", code, body)
	}
	code, body := h.get(t.Context(), "/status")
	var s admin.Status
	if err := json.Unmarshal([]byte(body), &s); code != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	if len(s.Streams) != 2 || s.Streams[0].Name != "web-1" || !s.Streams[0].Live || s.Streams[0].Collector != "c1" || s.Streams[0].BacklogBytes != 0 {
		t.Errorf("the container that is delivered: %+v", s.Streams)
	}
	if b := s.Streams[1]; b.Live || b.BacklogBytes == 0 || b.BacklogSince.IsZero() || b.Collector != "dead" {
		t.Errorf("the container that is not: %+v", b)
	}
	for _, c := range s.Collectors {
		if down := c.Name == "dead"; c.Healthy == down || strings.Contains(c.Error, "connection refused") != down || c.ErrorSince.IsZero() == down {
			t.Errorf("a collector: %+v", c)
		}
	}
	_, metrics := h.get(t.Context(), "/metrics")
	for _, want := range []string{
		"dockline_log_records_acknowledged_total 2\n",
		`dockline_log_streams{state="live"} 1`,
		`dockline_log_streams{state="ended"} 1`,
		`dockline_log_collector_healthy{collector="c1"} 1`,
		`dockline_log_collector_healthy{collector="dead"} 0`,
		"dockline_log_spool_max_bytes 1.073741824e+09",
		"process_open_fds",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q:\n%s", want, metrics)
		}
	}
	r.stop()
	if err := h.plugin.spool.Of(stuck.info.ContainerID).RemoveRoute(config.DefaultPool); err != nil {
		t.Fatal(err)
	}
	if code, body := h.get(t.Context(), "/drain"); code != http.StatusOK {
		t.Errorf("drain with nothing left: %d %s", code, body)
	}
}
