package logdriver

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/place"
)

// moveTo restarts the plugin with another directory mounted for the spool, or none.
func (h *host) moveTo(dir string) error {
	h.plugin.Close()
	h.cfg.SpoolMount, h.cfg.SpoolMountedFrom = dir, dir
	p, err := Open(h.cfg, quiet)
	if err == nil {
		p.Close()
		h.start()
	}
	return err
}

func (h *host) spoolIn(dir string) bool {
	left, _ := filepath.Glob(filepath.Join(dir, "streams", "*"))
	return len(left) > 0
}

// A spool that holds undelivered records is not left behind: it stays in use
// while it is in reach, and otherwise nothing is done without it.
func TestTheSpoolsPlaceChanges(t *testing.T) {
	h := newHost(t, "")
	address := downCollector(t)
	h.cfg.Collectors = "json+tcp://" + address + "?name=c1"
	h.restart()
	own, a, b := filepath.Join(h.cfg.StateDir, "spool"), t.TempDir(), t.TempDir()
	first := h.run(1, nil)
	first.write("one")
	first.stop()
	if err := h.moveTo(a); err != nil || !h.spoolIn(own) || !h.plugin.place.Own {
		t.Fatalf("with undelivered records: %v, %+v", err, h.plugin.place)
	}
	_, lines := collectorAt(t, address)
	expect(t, lines, "one")
	if err := h.plugin.shown.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.moveTo(a); err != nil || h.plugin.place.Own {
		t.Fatalf("when all is delivered: %v, %+v", err, h.plugin.place)
	}
	second := h.run(2, map[string]string{"collectors": "json+tcp://" + downCollector(t)})
	second.write("two")
	second.stop()
	if !h.spoolIn(filepath.Join(a, "dockline-log")) {
		t.Fatal("the spool is not where it shall be")
	}
	for _, to := range []string{b, ""} {
		var elsewhere *place.Error
		if err := h.moveTo(to); !errors.As(err, &elsewhere) || elsewhere.Was != a {
			t.Errorf("away from undelivered records out of reach: %v", err)
		}
	}
	// Copied with all that is in it, it is the same spool.
	if err := os.CopyFS(b, os.DirFS(a)); err != nil {
		t.Fatal(err)
	}
	if err := h.moveTo(b); err != nil {
		t.Fatal(err)
	}
	if got := h.logs(second.info, engine.ReadConfig{Tail: -1}); len(got) != 1 || got[0] != "stdout two\n" {
		t.Errorf("docker logs after the copy: %q", got)
	}
	// Given up.
	h.plugin.Close()
	if err := os.Remove(filepath.Join(h.cfg.StateDir, "place")); err != nil {
		t.Fatal(err)
	}
	h.cfg.SpoolMount, h.cfg.SpoolMountedFrom = "", ""
	if h.start(); !h.plugin.place.Own {
		t.Errorf("given up, and it is still at %+v", h.plugin.place)
	}
}
