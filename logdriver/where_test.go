package logdriver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/admin"
)

// whereIs asks for a container.
func (h *host) whereIs(query string) (w admin.Where) {
	h.t.Helper()
	code, body := h.get(h.t.Context(), "/where?"+query)
	if code != http.StatusOK {
		h.t.Fatalf("%s: %d %s", query, code, body)
	}
	if err := json.Unmarshal([]byte(body), &w); err != nil {
		h.t.Fatal(err)
	}
	if len(w.Containers) != 1 {
		h.t.Fatalf("%s: %s", query, body)
	}
	return w
}

// Records that went to one collector and then to another are found with both,
// each in its time, also by the next process and when the container and its
// records on the host are gone.
func TestWhereTheRecordsAre(t *testing.T) {
	a, linesA := collector(t)
	b, linesB := collector(t)
	h := newHost(t, "")
	one := h.run(1, map[string]string{"collectors": "json+tcp://" + a + "?name=first"})
	one.write("one", "two")
	expect(t, linesA, "one", "two")
	one.stop()
	if err := h.plugin.shown.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.restart() // or what follows might go to both
	between := time.Now()
	again := h.run(1, map[string]string{"collectors": "json+tcp://" + b + "?name=second", "max-size": "0"})
	again.write("three")
	expect(t, linesB, "three")
	again.stop()
	if err := h.plugin.shown.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	unix := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	for range 2 {
		for query, want := range map[string]string{
			"container=web-1":                       "first second",
			"container=0000":                        "first second",
			"container=web-1&to=" + unix(between):   "first",
			"container=web-1&from=" + unix(between): "second",
			"container=web-1&from=1h&to=0s":         "first second",
			"container=web-1&to=1h":                 "",
			"container=web-1&from=" + time.Now().Add(time.Hour).Format("2006-01-02T15:04:05Z"): "",
		} {
			got := slices.Clone(h.whereIs(query).Containers[0].Collectors)
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %v, want %s", query, got, want)
			}
		}
		c := h.whereIs("container=web-1&from=" + url.QueryEscape(between.Format(time.RFC3339Nano))).Containers[0]
		if len(c.Intervals) != 1 || c.Intervals[0].Records != 1 || c.Intervals[0].Bytes != 5 || !c.Exact || c.UndeliveredBytes != 0 {
			t.Errorf("got %+v", c)
		}
		h.restart()
	}
	if _, body := h.get(t.Context(), "/metrics"); !strings.Contains(body, "dockline_log_placement_history_intervals 2") {
		t.Errorf("metrics:\n%s", body)
	}
}

func TestWhereSaysWhatIsNotDelivered(t *testing.T) {
	addr, _ := collector(t)
	h := newHost(t, "json+tcp://127.0.0.1:1?name=nobody")
	r := h.run(1, nil)
	r.write("waiting")
	r.stop()
	none := h.run(2, map[string]string{"collectors": "json+tcp://" + addr})
	none.stop()
	w := h.whereIs("container=web-1").Containers[0]
	if len(w.Intervals) != 0 || w.UndeliveredBytes == 0 || w.UndeliveredSince.IsZero() {
		t.Errorf("got %+v", w)
	}
}

func TestBadQuestionsWhere(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	for n := range 2 {
		r := h.run(n+1, nil)
		r.write("x")
		expect(t, lines, "x")
		r.stop()
	}
	for query, want := range map[string]struct {
		code int
		says string
	}{
		"":                                        {400, "no container is named"},
		"container=web-9":                         {404, `no container "web-9"`},
		"container=000":                           {400, "give more digits"},
		"container=web-1&from=yesterday":          {400, `from="yesterday" is not a time`},
		"container=web-1&to=-5":                   {400, `to="-5" is not a time`},
		"container=web-1&to=1.5.5":                {400, "is not a time"},
		"container=web-1&from=1e9":                {400, "is not a time"},
		"container=web-1&from=20h&to=30h":         {400, "is later than"},
		"container=web-1&to=99999999999":          {400, "is not a time"},
		"container=web-1&to=1812-06-01T00:00:00Z": {400, "between 1970 and 2262"},
	} {
		if code, body := h.get(t.Context(), "/where?"+query); code != want.code || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}
