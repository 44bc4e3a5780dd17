package logdriver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	h.until("all is delivered", func(s Status) bool {
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

// From which rate on a key is split is the container's word, then the pool's, then
// the route's, the defaults' and the setting's.
func TestSplitAbove(t *testing.T) {
	const pools = "pools:\n  plain: {collectors: 'json+tcp://127.0.0.1:1'}\n" +
		"  own: {collectors: 'json+tcp://127.0.0.1:1', split-above: 3KiB/s}\n  never: {collectors: 'json+tcp://127.0.0.1:1', split-above: \"off\"}\n"
	const defaults = "defaults: {log-opts: {split-above: 5KiB/s}}\n"
	const routes = "routes: [{match: {image: '*'}, pools: [], log-opts: {split-above: 4KiB/s}}]\n"
	for name, c := range map[string]struct {
		conf string
		opts map[string]string
		want int64
	}{
		"nothing said":            {pools, map[string]string{"pool": "plain"}, 6 << 10},
		"the defaults":            {pools + defaults, map[string]string{"pool": "plain"}, 5 << 10},
		"the route":               {pools + routes + defaults, map[string]string{"pool": "plain"}, 4 << 10},
		"the pool":                {pools + routes + defaults, map[string]string{"pool": "own"}, 3 << 10},
		"the pool, never":         {pools + routes + defaults, map[string]string{"pool": "never"}, 0},
		"the container":           {pools + routes + defaults, map[string]string{"pool": "own", "split-above": "2KiB/s"}, 2 << 10},
		"the container, never":    {pools + routes + defaults, map[string]string{"pool": "own", "split-above": "off"}, 0},
		"the container, all same": {pools + routes + defaults, map[string]string{"pool": "never", "split-above": "3KiB/s"}, 3 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := configured(t, c.conf)
			h.untilVersion("")
			h.plugin.cfg.SplitAbove = 6 << 10
			i := info(1, c.opts)
			pl, err := h.plugin.plan(&i, h.plugin.conf.Current(), true)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.plugin.key(pl.options, pl.pools[0]).SplitAbove; got != c.want {
				t.Errorf("it is %d, not %d", got, c.want)
			}
		})
	}
}
