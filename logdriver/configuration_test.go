package logdriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// configured is a host whose plugin finds its configuration in a directory.
func configured(t *testing.T, text string) (h *host, put func(text string)) {
	t.Helper()
	dir, mount := t.TempDir(), t.TempDir()
	put = func(text string) {
		t.Helper()
		members(t, filepath.Join(mount, config.FileName), text)
	}
	if text != "" {
		put(text)
	}
	h = &host{t: t, dir: dir, cfg: Config{StateDir: filepath.Join(dir, "state"), ConfigMount: mount, ConfigMountedFrom: "/srv/conf", HostName: "h1", Etc: "/", SpoolMax: 1 << 30}}
	h.start()
	t.Cleanup(func() { h.plugin.Close() })
	return h, put
}

// refused tries to start a container and returns the error.
func (h *host) refused(n int, opts map[string]string) string {
	return h.call("/LogDriver.StartLogging", map[string]any{"File": "/x", "Info": info(n, opts)})
}

func TestPoolsByName(t *testing.T) {
	a, fromA := collector(t)
	b, fromB := collector(t)
	c, fromC := collector(t)
	h, _ := configured(t, `
pools:
  web: {collectors: "json+tcp://`+a+`?name=a"}
  audit:
    collectors: [ "json+tcp://`+c+`?name=c" ]
    private: true
  all-of-it: {collectors: "json+tcp://`+b+`?name=b"}
routes:
- match: {name: "web-7*"}
  pools: [web, audit]
`)
	r := h.run(1, map[string]string{"pool": "web,all-of-it"})
	r.write("one")
	expect(t, fromA, "one")
	expect(t, fromB, "one")
	routed := h.run(77, nil)
	routed.write("two")
	expect(t, fromA, "two")
	expect(t, fromC, "two")
	kept := h.run(3, nil) // there is no default
	kept.write("three")
	for opts, want := range map[string]string{
		"pool=wbe":            `log-opt pool="wbe": there is no pool "wbe"; those that they may are all-of-it, web`,
		"pool=audit":          `pool "audit" is one that containers may not choose`,
		"pool=web,web":        "named twice",
		"pool=Web":            "no name of a pool",
		"pool=web,collectors": "only one of the two",
	} {
		given := map[string]string{}
		for o := range strings.SplitSeq(opts, ",collectors") {
			if k, v, ok := strings.Cut(o, "="); ok {
				given[k] = v
			} else {
				given["collectors"] = "json+tcp://x:1"
			}
		}
		if msg := h.refused(9, given); !strings.Contains(msg, want) {
			t.Errorf("%s: %s", opts, msg)
		}
	}
	h.restart()
	r.write("after")
	expect(t, fromA, "after")
	expect(t, fromB, "after")
	for _, r := range []*run{r, routed, kept} {
		r.stop()
	}
	h.until("all is delivered", func(s admin.Status) bool {
		for _, st := range s.Streams {
			if st.BacklogBytes > 0 {
				return false
			}
		}
		return len(s.Streams) == 3
	})
	if _, err := os.Stat(filepath.Join(h.cfg.StateDir, "config", "current", config.FileName)); err != nil {
		t.Error(err)
	}
}
