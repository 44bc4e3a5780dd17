package logdriver

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
)

// A setting that cannot be read blocks no container that runs, loses nothing of
// it, and is what those are told who start one.
func TestAWrongSettingIsSaidWhereContainersStart(t *testing.T) {
	address := downCollector(t)
	h := newHost(t, "json+tcp://"+address+"?name=c1")
	r := h.run(1, nil)
	r.write("before")
	h.plugin.Close()

	right := h.cfg
	h.cfg.SpoolMax = 1 // what was read of the settings is not believed
	h.cfg.Misset = &options.ValueError{What: "setting", Key: "METRICS", Value: "9741", Err: errors.New("not an address")}
	h.start()
	for range 2000 { // more than a pipe holds
		r.write(strings.Repeat("x", 200))
	}
	said := h.tryRun(2)
	for _, want := range []string{`METRICS="9741": not an address`, "docker plugin set dockline-log"} {
		if !strings.Contains(said, want) {
			t.Errorf("whoever starts a container is told %q, without %q", said, want)
		}
	}
	s := h.plugin.Status()
	code, body := asked(h.plugin, "/readyz")
	if !s.DrainOnly || s.Refuses != said || s.DroppedBytes > 0 || code != http.StatusServiceUnavailable || !strings.Contains(body, "records are shipped: "+said) {
		t.Errorf("the status is %+v, /readyz says %d %s", s, code, body)
	}

	h.plugin.Close()
	h.cfg = right
	h.start()
	if said := h.tryRun(3); said != "" {
		t.Error(said)
	}
	_, lines := collectorAt(t, address)
	t.Cleanup(h.plugin.Close) // before the collector, who waits for it
	expectLine(t, lines, "before")
	for range 2000 {
		expectLine(t, lines, strings.Repeat("x", 200))
	}
}
