package logdriver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/logdriver/engine"
	"github.com/dockline/dockline/logdriver/spool"
)

// newer makes the spool one that a newer version wrote, and back.
func (h *host) version(n int) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.cfg.StateDir, "spool/VERSION"), fmt.Appendf(nil, "dockline-spool %d\n", n), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// downgrade runs what main runs, on the spool of a newer version.
func (h *host) downgrade() Driver {
	h.t.Helper()
	var other *spool.VersionError
	if _, err := Open(h.cfg, quiet); !errors.As(err, &other) {
		h.t.Fatalf("the plugin opens a newer version's spool: %v", err)
	}
	d, err := Start(h.cfg, quiet)
	if err != nil {
		h.t.Fatal(err)
	}
	h.server = pluginserver.New(quiet)
	d.Register(h.server)
	return d
}

// digest is what there is in the spool but for what is put aside.
func (h *host) digest() string {
	h.t.Helper()
	sum := sha256.New()
	top := filepath.Join(h.cfg.StateDir, "spool")
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == filepath.Join(top, "rescue"):
			return fs.SkipDir
		case e.IsDir():
			fmt.Fprintln(sum, path)
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %v %q\n", path, info.ModTime(), data)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func TestADowngradeTouchesNothingAndBlocksNobody(t *testing.T) {
	addr, lines := collector(t)
	h := newHost(t, "json+tcp://"+addr)
	old, ending := h.run(1, nil), h.run(2, nil)
	old.write("before")
	expect(t, lines, "before")
	ending.write("the other's before")
	expect(t, lines, "the other's before")
	h.plugin.Close()
	h.version(2)
	was := h.digest()

	if err := unix.Mkfifo(filepath.Join(h.dir, "of-an-engine-that-died"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := h.downgrade()
	for range 2000 { // more than a pipe holds
		old.write(strings.Repeat("x", 200))
	}
	ending.write("the other's end")
	ending.stop()
	began := h.run(3, map[string]string{"an-option-of": "tomorrow"})
	began.write("a new one")
	d.Close() // the plugin dies and comes again
	began.write("a new one goes on")
	d = h.downgrade()
	began.write("a new one ends")
	began.stop()
	h.run(4, nil).stop() // as docker logs does; leaves nothing
	if said := h.call("/LogDriver.ReadLogs", map[string]any{"Info": old.info}); !strings.Contains(said, `"dockline-spool 2"`) {
		t.Errorf("docker logs says %q", said)
	}
	d.Close()
	if h.digest() != was {
		t.Error("the spool is not as it was")
	}

	// Back again. The new container's options are understood by now.
	h.version(1)
	part := filepath.Join(h.cfg.StateDir, "spool/rescue")
	fixOption(t, part)
	h.start()
	old.write("after")
	var got []string
	for range 2000 + 5 {
		got = append(got, <-lines)
	}
	short := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return strings.HasPrefix(l, "x") })
	if len(short) != 5 || got[len(got)-1] != "after" && !slices.Contains(got, "after") {
		t.Errorf("after the upgrade there came, beside the long ones: %q", short)
	}
	want := []string{"stdout a new one\n", "stdout a new one goes on\n", "stdout a new one ends\n"}
	if logs := h.logs(began.info, engine.ReadConfig{Tail: -1}); !slices.Equal(logs, want) {
		t.Errorf("docker logs of the new container: %q", logs)
	}
	if logs := h.logs(old.info, engine.ReadConfig{Tail: -1}); len(logs) != 2002 || logs[0] != "stdout before\n" || logs[2001] != "stdout after\n" {
		t.Errorf("docker logs of the old one has %d lines, not 2002 in order", len(logs))
	}
	if left, err := os.ReadDir(part); err != nil || len(left) > 0 {
		t.Errorf("what was put aside is still there: %v %v", left, err)
	}
	old.stop()
}

// fixOption takes the option that only a newer version knows out of a note.
func fixOption(t *testing.T, dir string) {
	t.Helper()
	notes, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(notes) != 4 {
		t.Fatalf("there are %d notes, not 4 (%v)", len(notes), err)
	}
	for _, name := range notes {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(data), `"an-option-of":"tomorrow"`, "", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What is put aside is bounded: beyond that it is dropped, for containers must
// not wait.
func TestADowngradeIsBounded(t *testing.T) {
	h := newHost(t, "")
	h.plugin.Close()
	h.version(2)
	h.cfg.SpoolMax = minSpool // and so much is the least that may be put aside
	d := h.downgrade()
	r := h.run(1, nil)
	line := strings.Repeat("x", 16<<10)
	for range 3 * minSpool / 2 / len(line) {
		r.write(line)
	}
	r.stop()
	used, dropped := d.(downgraded).Used()
	if used > minSpool || dropped == 0 {
		t.Errorf("%d bytes are put aside and %d dropped", used, dropped)
	}
	d.Close()
	h.version(1)
	h.start()
	if n := len(h.logs(r.info, engine.ReadConfig{Tail: -1})); n < 500 {
		t.Errorf("docker logs has %d records", n)
	}
}

// What a container that began meanwhile keeps its data by is what its options
// say, or else the plugin's settings.
func TestADowngradeForgetsNoPolicy(t *testing.T) {
	h := newHost(t, "json+tcp://"+downCollector(t))
	h.plugin.Close()
	h.version(2)
	h.cfg.OnFull, h.cfg.Sync = spool.DropNewest, 5*time.Second
	d := h.downgrade()
	settings := h.run(1, nil)
	options := h.run(2, map[string]string{"on-full": "throttle", "sync": "interval=7s"})
	bad := h.run(3, map[string]string{"on-full": "tomorrow's"})
	for _, r := range []*run{settings, options, bad} {
		r.write("a line")
	}
	d.Close()
	h.version(1)
	h.start()
	for _, tc := range []struct {
		r      *run
		onFull spool.OnFull
		sync   time.Duration
	}{{settings, spool.DropNewest, 5 * time.Second}, {options, spool.Throttle, 7 * time.Second}, {bad, spool.DropNewest, 5 * time.Second}} {
		st := h.plugin.spool.Of(tc.r.info.ContainerID)
		if st == nil || st.OnFull() != tc.onFull {
			t.Fatalf("%v, want %v", st, tc.onFull)
		}
		data, err := os.ReadFile(filepath.Join(h.cfg.StateDir, "spool/streams", st.ID(), "stream.json"))
		if want := fmt.Sprintf(`"sync_interval":%d`, tc.sync); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s (%v), want %s", data, err, want)
		}
	}
}
