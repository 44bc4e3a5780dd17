package logdriver

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dockline/dockline/logdriver/engine"
)

// previous is what the plugin of the release before has left, see docs/release.md.
const previous = "testdata/previous"

var write = flag.Bool("write-previous", false, "leave "+previous+" for the next release")

var acknowledged, waiting = []string{"acked 1", "acked 2", "acked 3"}, []string{"waits 1", "waits 2", "waits 3", "an error", "waits 4"}

// What the release before has not delivered is delivered, nothing else, and
// docker logs has all of it.
func TestStateOfThePreviousRelease(t *testing.T) {
	if *write {
		leave(t)
	}
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	h.plugin.Close()
	if err := os.RemoveAll(h.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(h.cfg.StateDir, os.DirFS(previous)); err != nil {
		t.Fatal(err)
	}
	h.start()
	expect(t, lines, waiting...)
	r := h.run(1, map[string]string{"labels": "com.example.team"})
	r.write("new")
	r.stop()
	expect(t, lines, "new") // and no other came before
	var want []string
	for _, line := range slices.Concat(acknowledged, waiting, []string{"new"}) {
		source := "stdout "
		if line == "an error" {
			source = "stderr "
		}
		want = append(want, source+line+"\n")
	}
	if got := h.logs(r.info, engine.ReadConfig{Tail: -1}); !slices.Equal(got, want) {
		t.Errorf("docker logs: %q, not %q", got, want)
	}
}

// leave writes two runs of one container. Of the first, some is delivered; the
// rest of it, with lines in pieces that lie across each other, and all of the
// second are not.
func leave(t *testing.T) {
	t.Helper()
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	r := h.run(1, map[string]string{"labels": "com.example.team"})
	r.write(acknowledged...)
	expect(t, lines, acknowledged...)
	h.plugin.Close()
	h.cfg.Collectors = "json+tcp://127.0.0.1:1"
	r.write("waits 1", "waits 2")
	r.chunk("stdout", "x", "wai", false)
	r.chunk("stderr", "y", "an err", false)
	r.chunk("stdout", "x", "ts 3", true)
	r.chunk("stderr", "y", "or", true)
	h.start()
	r.stop()
	again := h.run(1, map[string]string{"labels": "com.example.team"})
	again.write("waits 4")
	again.stop()
	h.plugin.Close()
	if err := os.RemoveAll(previous); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.FromSlash(previous), os.DirFS(h.cfg.StateDir)); err != nil {
		t.Fatal(err)
	}
	h.start()
}
