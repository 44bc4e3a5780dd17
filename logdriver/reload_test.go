package logdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/config"
)

// tally counts how often each line has come, to whichever collector.
type tally struct {
	t     *testing.T
	mu    sync.Mutex
	lines map[string]int            // all
	at    map[string]map[string]int // by pool
	grown chan struct{}
}

func newTally(t *testing.T) *tally {
	return &tally{t: t, lines: map[string]int{}, at: map[string]map[string]int{}, grown: make(chan struct{}, 1)}
}

// collector starts one, of which a pool is made, and returns the pool's definition.
func (c *tally) collector(name string) string {
	c.t.Helper()
	addr, lines := collector(c.t)
	c.at[name] = map[string]int{}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case l := <-lines:
				c.mu.Lock()
				c.lines[l]++
				c.at[name][l]++
				c.mu.Unlock()
				select {
				case c.grown <- struct{}{}:
				default:
				}
			}
		}
	})
	c.t.Cleanup(func() { close(stop); done.Wait() })
	return fmt.Sprintf("  %s: {collectors: 'json+tcp://%s?name=%s'}\n", name, addr, name)
}

// until waits for a state of what has come.
func (c *tally) until(what string, so func() bool) {
	c.t.Helper()
	late := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		is := so()
		c.mu.Unlock()
		if is {
			return
		}
		select {
		case <-c.grown:
		case <-late:
			c.t.Fatalf("%s: never", what)
		}
	}
}

func (h *host) untilVersion(other string) (version string) {
	h.t.Helper()
	h.until("another configuration is in force", func(s admin.Status) bool { version = s.Config.Version; return version != other && version != "" })
	return version
}

// Containers write while routes take them from one pool to another and back, and
// while what is no configuration is put in its place. Nothing is lost and nothing
// comes twice.
func TestReloadUnderLoad(t *testing.T) {
	got := newTally(t)
	pools := "pools:\n" + got.collector("a") + got.collector("b") + got.collector("c")
	to := func(pool string) string { return pools + "defaults: {pools: [" + pool + "]}\n" }
	h, put := configured(t, to("a"))
	version := h.untilVersion("")
	var writers sync.WaitGroup
	const containers = 3
	var runs []*run
	for n := range containers {
		runs = append(runs, h.run(n+1, nil))
	}
	stop := make(chan struct{})
	wrote := make([]int, containers)
	for n, r := range runs {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for range 20 {
					r.write(fmt.Sprintf("%d-%d", n, wrote[n]))
					wrote[n]++
				}
				time.Sleep(5 * time.Millisecond) // a pace; what is tested is not speed
			}
		})
	}
	for i, pool := range strings.Split("bcabca", "") {
		put(to(pool))
		version = h.untilVersion(version)
		h.until("all go to "+pool, func(s admin.Status) bool {
			for _, st := range s.Streams {
				if len(st.Pools) != 1 || st.Pools[0].Pool != pool || st.Pools[0].Collector != pool {
					return false
				}
			}
			return true
		})
		if i%2 == 0 {
			put(to("nowhere"))
			h.until("the mistake is said", func(s admin.Status) bool {
				return strings.Contains(s.Config.Refused, `there is no pool "nowhere"`) && s.Config.Version == version
			})
		}
	}
	close(stop)
	writers.Wait()
	for _, r := range runs {
		r.stop()
	}
	got.until("all has come", func() bool { return len(got.lines) == wrote[0]+wrote[1]+wrote[2] })
	h.until("all is delivered", func(s admin.Status) bool {
		for _, st := range s.Streams {
			if st.BacklogBytes > 0 {
				return false
			}
		}
		return true
	})
	got.mu.Lock()
	defer got.mu.Unlock()
	for l, n := range got.lines {
		if n != 1 {
			t.Errorf("%s came %d times", l, n)
		}
	}
	t.Logf("%d records; at a %d, b %d, c %d", len(got.lines), len(got.at["a"]), len(got.at["b"]), len(got.at["c"]))
}

// A pool that is added begins with what nobody has, one that goes gets what was
// for it, also by the next process, and one that comes back goes on.
func TestPoolsComeAndGo(t *testing.T) {
	got := newTally(t)
	a, b := got.collector("a"), got.collector("b")
	pools := "pools:\n" + a + b + "  dead: {collectors: 'json+tcp://127.0.0.1:1'}\n"
	to := func(list string) string { return pools + "defaults: {pools: [" + list + "]}\n" }
	h, put := configured(t, to("a"))
	version := h.untilVersion("")
	change := func(text string) {
		t.Helper()
		put(text)
		version = h.untilVersion(version)
	}
	going := func(want string) {
		t.Helper()
		h.until("goes to "+want, func(s admin.Status) bool {
			var all []string
			for _, p := range s.Streams[0].Pools {
				if p.Until > 0 {
					p.Pool = "-" + p.Pool
				}
				all = append(all, p.Pool)
			}
			return strings.Join(all, ",") == want
		})
	}
	r := h.run(1, nil)
	r.write("one")
	h.until("delivered", func(s admin.Status) bool { return s.Streams[0].BacklogBytes == 0 && s.Streams[0].AcknowledgedTo > 0 })
	change(to("a,b,dead"))
	going("a,b,dead")
	r.write("two")
	got.until("two has come to both", func() bool { return got.at["a"]["two"]+got.at["b"]["two"] == 2 })
	change(to("b"))
	going("b,-dead")
	h.restart()
	r.write("three")
	got.until("three has come", func() bool { return got.at["b"]["three"] == 1 })
	change(to("b,dead")) // it is back, and has missed nothing
	going("b,dead")
	change(strings.Replace(to("b"), "  dead: {collectors: 'json+tcp://127.0.0.1:1'}\n", "", 1)) // and is gone for good
	going("b,-dead")
	h.restart() // who it was is known all the same
	h.until("dead is tried", func(s admin.Status) bool {
		for _, p := range s.Streams[0].Pools {
			if p.Pool == "dead" && p.Collector == "127.0.0.1:1" {
				return true
			}
		}
		return false
	})
	r.stop()
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.at["b"]["one"] > 0 || got.at["a"]["three"] > 0 || len(got.lines) != 3 {
		t.Errorf("what came: %v", got.at)
	}
}

// A pool that goes and acknowledges nothing is given up in the end, and that is counted.
func TestAPoolThatGoesIsGivenUp(t *testing.T) {
	got := newTally(t)
	pools := "pools:\n" + got.collector("b") + "  dead: {collectors: 'json+tcp://127.0.0.1:1'}\n"
	h, put := configured(t, pools+"defaults: {pools: [b,dead]}\n")
	h.plugin.Close()
	h.cfg.LeaveTime = 100 * time.Millisecond
	h.start()
	r := h.run(1, nil)
	r.write("one")
	got.until("one has come", func() bool { return got.at["b"]["one"] == 1 })
	put(pools + "defaults: {pools: [b]}\n")
	h.until("dead is given up", func(s admin.Status) bool { return len(s.Streams[0].Pools) == 1 && h.plugin.streams.GivenUp() > 0 })
	r.stop()
}

// The plugin begins, and containers start, whatever the source of the
// configuration does; what they write waits for the first that there is, and the
// last good one outlives its source.
func TestConfigurationAway(t *testing.T) {
	got := newTally(t)
	web := got.collector("web")
	h, put := configured(t, "")
	r, named := h.run(1, nil), h.run(2, map[string]string{"pool": "web"})
	r.write("r one")
	named.write("named one")
	h.restart()
	h.until("the fault is said", func(s admin.Status) bool {
		return strings.Contains(s.Config.Error, "no such file") && s.Config.Version == ""
	})
	put("pools:\n" + web + "defaults: {pools: [web]}\n")
	got.until("both have come", func() bool { return len(got.lines) == 2 })
	if err := os.Remove(filepath.Join(h.cfg.ConfigMount, config.FileName)); err != nil {
		t.Fatal(err)
	}
	h.restart()
	third := h.run(3, map[string]string{"pool": "web"})
	third.write("third")
	r.write("r two")
	got.until("all have come", func() bool { return len(got.lines) == 4 })
	h.until("the fault is said", func(s admin.Status) bool { return s.Config.Error != "" && s.Config.Version != "" })
	for _, r := range []*run{r, named, third} {
		r.stop()
	}
	h.until("all is delivered", func(s admin.Status) bool {
		for _, st := range s.Streams {
			if st.BacklogBytes > 0 {
				return false
			}
		}
		return true
	})
	for l, n := range got.lines {
		if n != 1 {
			t.Errorf("%s came %d times", l, n)
		}
	}
}

// A mount that the engine forgot in an upgrade takes no container elsewhere; who
// wants to go without a configuration says so.
func TestTheSourceIsForgotten(t *testing.T) {
	got := newTally(t)
	h, _ := configured(t, "pools:\n"+got.collector("web")+"defaults: {pools: [web]}\n")
	r := h.run(1, nil)
	r.write("one")
	got.until("it has come", func() bool { return len(got.lines) == 1 })
	h.cfg.ConfigMount = ""
	h.restart()
	r.write("two")
	got.until("it has come", func() bool { return len(got.lines) == 2 })
	h.until("it is said", func(s admin.Status) bool { return strings.Contains(s.Config.Error, "came from directory /srv/conf") })
	h.cfg.ConfigFrom = "none"
	h.restart()
	h.until("nothing is owed", func(s admin.Status) bool { return s.Config.Source == "settings" && len(s.Streams[0].Pools) == 0 })
	h.cfg.ConfigFrom = ""
	h.restart()
	h.until("it is forgotten", func(s admin.Status) bool { return s.Config.Source == "settings" })
	r.stop()
}

// What gives way is the container's word, then the pool's, then the defaults', and
// the pool's counts at once when it changes.
func TestOnFullOfPools(t *testing.T) {
	got := newTally(t)
	pools := "pools:\n" + got.collector("web") + "  audit: {collectors: 'json+tcp://127.0.0.1:1', on-full: %s}\ndefaults: {pools: [web, audit], log-opts: {on-full: drop-newest, tag: 'all/{{.Name}}'}}\n"
	h, put := configured(t, fmt.Sprintf(pools, "throttle"))
	runs := []*run{h.run(1, nil), h.run(2, map[string]string{"on-full": "drop-oldest", "tag": "own"})}
	is := func(want string) {
		t.Helper()
		h.until(want, func(s admin.Status) bool {
			var all []string
			for _, st := range s.Streams {
				for _, p := range st.Pools {
					all = append(all, p.Pool+" "+p.OnFull)
				}
			}
			return strings.Join(all, ", ") == want
		})
	}
	is("audit throttle, web drop-newest, audit drop-oldest, web drop-oldest")
	put(fmt.Sprintf(pools, "drop-oldest"))
	is("audit drop-oldest, web drop-newest, audit drop-oldest, web drop-oldest")
	h.restart()
	is("audit drop-oldest, web drop-newest, audit drop-oldest, web drop-oldest")
	for _, r := range runs {
		r.stop()
	}
}

// A pool whose collectors are all away is replaced, and removed, without waiting
// for them: what they were never sent goes to the other, also where each record
// has a collector of its own.
func TestADeadPoolIsReplaced(t *testing.T) {
	for _, hash := range []string{"container", "record"} {
		t.Run(hash, func(t *testing.T) {
			got := newTally(t)
			b := got.collector("b")
			rest := "defaults: {pools: [%s], log-opts: {hash: " + hash + "}}\n"
			h, put := configured(t, "pools:\n"+b+"  dead: {collectors: 'json+tcp://127.0.0.1:1,json+tcp://127.0.0.1:2'}\n"+fmt.Sprintf(rest, "dead"))
			version := h.untilVersion("")
			running, stopped := h.run(1, nil), h.run(2, nil)
			for i := range 200 {
				running.write(fmt.Sprintf("running %d", i))
				stopped.write(fmt.Sprintf("stopped %d", i))
			}
			stopped.stop()
			h.until("a collector is tried", func(s admin.Status) bool {
				for _, c := range s.Collectors {
					if !c.Healthy {
						return true
					}
				}
				return false
			})
			put("pools:\n" + b + fmt.Sprintf(rest, "b"))
			h.untilVersion(version)
			got.until("all has come", func() bool { return len(got.lines) == 400 })
			running.stop()
			h.until("all is delivered", func(s admin.Status) bool { return s.Streams[0].BacklogBytes+s.Streams[1].BacklogBytes == 0 })
			for l, n := range got.lines {
				if n != 1 {
					t.Errorf("%s came %d times", l, n)
				}
			}
		})
	}
}
