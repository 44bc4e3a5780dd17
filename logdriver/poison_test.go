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

// picky is a collector over HTTP that refuses requests with poison in them.
func picky(t *testing.T) (address string, lines <-chan string) {
	t.Helper()
	ch := make(chan string, 10000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(body, []byte("poison")) {
			http.Error(w, "not this", http.StatusBadRequest)
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
	addr, lines := picky(t)
	h := newHost(t, "json+http://"+addr+"?name=picky")
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
		if len(all) != 1 || all[0].Container != "web-1" || all[0].Collector != "picky" || all[0].Class != "invalid" ||
			!strings.Contains(all[0].Reason, "not this") || !strings.Contains(string(all[0].Encoded), "poison") || all[0].At.IsZero() {
			t.Fatalf("%s", body)
		}
		if _, metrics := h.get(t.Context(), "/metrics"); h.plugin.ship.Stats.Refused.Load() == 1 &&
			!strings.Contains(metrics, `dockline_log_records_refused_total{class="invalid",collector="picky"} 1`) {
			t.Errorf("metrics: %s", metrics)
		}
		h.restart()
	}
}
