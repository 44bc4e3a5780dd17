package logdriver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/poison"
)

// picky is a collector over HTTP that answers requests with poison in them with a
// status.
func picky(t *testing.T, status int) (address string, lines <-chan string) {
	t.Helper()
	ch := make(chan string, 10000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(body, []byte("poison")) {
			http.Error(w, "not this", status)
			return
		}
		for line := range bytes.Lines(body) {
			var m struct{ Message string }
			if err := json.Unmarshal(line, &m); err != nil {
				t.Error(err)
			}
			ch <- m.Message
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), ch
}

func TestPoisonIsPutAside(t *testing.T) {
	t.Run("refused", func(t *testing.T) { putAside(t, http.StatusBadRequest, "invalid") })
	t.Run("failing", func(t *testing.T) { putAside(t, http.StatusInternalServerError, "failing") })
}

func putAside(t *testing.T, status int, class string) {
	addr, lines := picky(t, status)
	h := newHost(t, "json+http://"+addr+"?name=picky&isolate-after=100ms")
	r := h.run(1, nil)
	r.write("one")
	expect(t, lines, "one")
	r.write("two", "poison \x01", "three", "four")
	expect(t, lines, "two", "three", "four")
	r.stop()
	if code, body := h.get(t.Context(), "/drain?timeout=10s"); code != http.StatusOK {
		t.Fatalf("drain: %d %s", code, body)
	}
	for range 2 { // also in the next process
		code, body := h.get(t.Context(), "/poison")
		var all []poison.Entry
		if err := json.Unmarshal([]byte(body), &all); code != http.StatusOK || err != nil {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		if len(all) != 1 || all[0].Container != "web-1" || all[0].Collector != "picky" || all[0].Class != class ||
			!strings.Contains(all[0].Reason, "not this") || !strings.Contains(string(all[0].Encoded), "poison") || all[0].At.IsZero() {
			t.Fatalf("%s", body)
		}
		if _, metrics := h.get(t.Context(), "/metrics"); h.plugin.ship.Stats.Refused.Load() == 1 &&
			!strings.Contains(metrics, `dockline_log_records_refused_total{class="`+class+`",collector="picky"} 1`) {
			t.Errorf("metrics: %s", metrics)
		}
		h.restart()
	}
}
