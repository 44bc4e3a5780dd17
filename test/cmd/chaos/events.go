package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dockline/dockline/test/harness/program"
)

// event is one thing that happens. do returns when it has, and the plugin has
// been seen to notice where that can be seen at once.
type event struct {
	name string
	do   func(*world, context.Context) error
}

// kinds are all events. Each happens once before any happens again.
var kinds = []event{
	{"a collector leaves or joins by the configuration", func(w *world, ctx context.Context) error { return w.mutate(ctx, "static", membership) }},
	{"a collector's weight changes by the configuration", func(w *world, ctx context.Context) error { return w.mutate(ctx, "static", weight) }},
	{"a collector is drained with weight 0 by the configuration", (*world).drain},
	{"the file of collectors changes", func(w *world, ctx context.Context) error { return w.mutate(ctx, "file", membership) }},
	{"a weight in the file of collectors changes", func(w *world, ctx context.Context) error { return w.mutate(ctx, "file", weight) }},
	{"the addresses in the DNS change", func(w *world, ctx context.Context) error { return w.mutate(ctx, "dns", membership) }},
	{"the SRV records in the DNS change", func(w *world, ctx context.Context) error { return w.mutate(ctx, "srv", membership) }},
	{"the weights of SRV records change", func(w *world, ctx context.Context) error { return w.mutate(ctx, "srv", weight) }},
	{"instances in Consul change", func(w *world, ctx context.Context) error { return w.mutate(ctx, "consul", membership) }},
	{"a weight in Consul changes", func(w *world, ctx context.Context) error { return w.mutate(ctx, "consul", weight) }},
	{"keys of etcd change", func(w *world, ctx context.Context) error { return w.mutate(ctx, "etcd", membership) }},
	{"a weight in etcd changes", func(w *world, ctx context.Context) error { return w.mutate(ctx, "etcd", weight) }},
	{"a collector crashes", func(w *world, ctx context.Context) error { return w.trouble(ctx, (*server).crash) }},
	{"a collector hangs", func(w *world, ctx context.Context) error { return w.trouble(ctx, (*server).hang) }},
	{"a collector is slow", func(w *world, ctx context.Context) error { return w.trouble(ctx, (*server).slow) }},
	{"a collector is cut off, packets are dropped", func(w *world, ctx context.Context) error { return w.trouble(ctx, (*server).partition) }},
	{"a bad configuration", (*world).refuse},
	{"a pool is replaced by another", (*world).replace},
	{"a route changes", (*world).reroute},
	{"a route leads to collectors that are not there", (*world).deadEnd},
	{"the plugin is killed", (*world).kill},
	{"a source of collectors fails", (*world).outage},
	{"a source of collectors names nobody", (*world).empty},
}

// chaos has things happen until there were enough, and enough has been written.
func (w *world) chaos(ctx context.Context) error {
	defer w.troubles.Wait()
	var next []event
	for w.done < w.events || w.ledger.distinct() < w.records {
		if len(next) == 0 {
			next = slices.Clone(kinds)
			w.rnd.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		}
		if err := w.pass(ctx); err != nil {
			return err
		}
		w.done++
		program.Say("event %d of %d: %s", w.done, w.events, next[0].name)
		if err := next[0].do(w, ctx); err != nil {
			return fmt.Errorf("%s: %w", next[0].name, err)
		}
		next = next[1:]
	}
	return w.troubled()
}

// pass lets time pass between two events.
func (w *world) pass(ctx context.Context) error {
	before := w.ledger.total()
	if !program.Pause(ctx, w.pause) {
		return context.Cause(ctx)
	}
	now := w.ledger.total()
	program.Say("  %d records, %.0f/s", now, float64(now-before)/w.pause.Seconds())
	return w.troubled()
}

func (w *world) troubled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bad
}

// later has something end after a while, beside the events to come.
func (w *world) later(ctx context.Context, end func() error) {
	hold := w.hold()
	w.troubles.Go(func() {
		program.Pause(ctx, hold)
		if err := end(); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.bad = errors.Join(w.bad, err)
		}
	})
}

// hold is how long troubles last: up to three events.
func (w *world) hold() time.Duration {
	return w.pause/2 + time.Duration(w.rnd.Float64()*2.5*float64(w.pause))
}

// least is how many collectors with a weight stay in each pool.
const least = 2

func (m members) active() (all []int) {
	for i, weight := range m {
		if weight > 0 {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return all
}

// membership has one or two collectors leave, or those that are away join.
func membership(w *world, m members) {
	up := m.active()
	if away := collectors - len(up); away > 0 && (len(up) <= least || w.rnd.IntN(2) == 0) {
		for i := range collectors {
			if m[i] == 0 {
				m[i] = 1 + w.rnd.IntN(2)
			}
		}
		return
	}
	for range 1 + w.rnd.IntN(len(up)-least) {
		delete(m, up[w.rnd.IntN(len(up))])
	}
}

// weight gives a collector another weight.
func weight(w *world, m members) {
	up := m.active()
	i := up[w.rnd.IntN(len(up))]
	m[i] = m[i]%4 + 1 + w.rnd.IntN(2)
}

// mutate changes who is in a pool, and has its source say so.
func (w *world) mutate(ctx context.Context, group string, change func(*world, members)) error {
	if group == "static" {
		m := maps.Clone(w.settings.static)
		change(w, m)
		program.Say("  %s: %v, before %v", group, m, w.settings.static)
		w.settings.static = m
		return w.applied(ctx)
	}
	m := maps.Clone(w.sources[group])
	change(w, m)
	if group == "dns" { // which has no weights
		for i := range m {
			m[i] = 1
		}
	}
	program.Say("  %s: %v, before %v", group, m, w.sources[group])
	w.sources[group] = m
	if err := w.publish(ctx, group); err != nil {
		return err
	}
	return w.followed(ctx)
}

// applied has the plugin take the configuration, and containers follow it.
func (w *world) applied(ctx context.Context) error {
	if err := w.apply(ctx); err != nil {
		return err
	}
	return w.followed(ctx)
}

// drain gives a collector weight 0.
func (w *world) drain(ctx context.Context) error {
	if up := w.settings.static.active(); len(up) <= least {
		w.settings.static = all()
		if err := w.apply(ctx); err != nil {
			return err
		}
	}
	m := maps.Clone(w.settings.static)
	up := m.active()
	gone := up[w.rnd.IntN(len(up))]
	m[gone] = 0
	w.settings.static = m
	program.Say("  static: %v", m)
	return w.applied(ctx)
}

// followed waits until every container's newest record was written since the
// change, and is at a collector that its pool has with a weight: those that left
// or are drained get nothing more, and nothing is held up.
func (w *world) followed(ctx context.Context) error {
	begin := time.Now()
	err := w.await(ctx, "the containers to follow", func(context.Context) (bool, error) {
		for _, c := range w.containers {
			pool := w.settings.pools[c.group]
			m := w.sources[pool]
			if m == nil {
				m = w.settings.static
			}
			newest, here := w.ledger.newest(c.name), false
			for _, i := range m.active() {
				here = here || newest.at&only[i] != 0
			}
			if !here || newest.wrote < begin.UnixNano() {
				return false, fmt.Errorf("%s's newest record is of %.1f s before the change, and at %08b; its pool %s has %v", c.name, begin.Sub(time.Unix(0, newest.wrote)).Seconds(), newest.at, pool, m)
			}
		}
		return true, nil
	})
	program.Say("  followed after %.1f s", time.Since(begin).Seconds())
	return err
}

// trouble does something to a collector that has none yet. Two at least have none.
func (w *world) trouble(ctx context.Context, what func(*server, context.Context) error) error {
	var well []*server
	for _, s := range w.servers[:collectors] {
		if !s.troubled.Load() {
			well = append(well, s)
		}
	}
	if len(well) <= least {
		program.Say("  not now: enough are in trouble")
		w.done--
		return nil
	}
	s := well[w.rnd.IntN(len(well))]
	s.troubled.Store(true)
	program.Say("  %s", nameOf(s.i))
	return what(s, ctx)
}

// back has a collector be well again after a while.
func (s *server) back(ctx context.Context, what string, end func() error) {
	s.w.later(ctx, func() error {
		err := end()
		program.Say("  %s %s", nameOf(s.i), what)
		s.troubled.Store(false)
		return err
	})
}

func (s *server) crash(ctx context.Context) error {
	err := s.Reset()
	s.noteErrors()
	s.back(ctx, "is started again", s.start)
	return err
}

func (s *server) hang(ctx context.Context) error {
	s.Pause()
	s.back(ctx, "goes on", func() error {
		s.Resume()
		return nil
	})
	return nil
}

func (s *server) slow(ctx context.Context) error {
	s.delay.Store(int64(6 * time.Millisecond))
	s.back(ctx, "is fast again", func() error {
		s.delay.Store(0)
		return nil
	})
	return nil
}

func (s *server) partition(ctx context.Context) error {
	s.back(ctx, "is reached again", func() error { return s.filter(context.WithoutCancel(ctx), "-D") })
	return s.filter(ctx, "-I")
}

// filter has the collector's network drop packets, or stop to.
func (s *server) filter(ctx context.Context, how string) error {
	for _, rule := range [][]string{{"INPUT", "-i"}, {"OUTPUT", "-o"}} {
		out, err := s.station.Command(ctx, "iptables", "-w", how, rule[0], rule[1], "eth0", "-j", "DROP").CombinedOutput()
		if err != nil {
			return fmt.Errorf("cut %s off: %w: %s", nameOf(s.i), err, out)
		}
	}
	return nil
}

// replace has a pool take another's place, or the other way round.
func (w *world) replace(ctx context.Context) error {
	to := "spare"
	if w.settings.pools["static"] == "spare" {
		to = "static"
	}
	program.Say("  %s by %s", w.settings.pools["static"], to)
	w.settings.pools["static"] = to
	return w.applied(ctx)
}

// reroute has the containers of a group go to another group's pool, or back.
func (w *world) reroute(ctx context.Context) error {
	g := groups[1+w.rnd.IntN(len(groups)-1)]
	to := g
	for w.settings.pools[g] == g && to == g {
		to = groups[w.rnd.IntN(len(groups))]
	}
	program.Say("  group %s goes to pool %s, not %s", g, to, w.settings.pools[g])
	w.settings.pools[g] = to
	return w.applied(ctx)
}

// deadEnd has the containers of a group go nowhere for a while, then back.
func (w *world) deadEnd(ctx context.Context) error {
	g := groups[w.rnd.IntN(len(groups))]
	back := w.settings.pools[g]
	program.Say("  group %s goes nowhere", g)
	w.settings.pools[g] = "dead"
	if err := w.apply(ctx); err != nil {
		return err
	}
	program.Pause(ctx, w.hold()/2)
	w.settings.pools[g] = back
	return w.applied(ctx)
}

func (w *world) kill(ctx context.Context) error {
	old, err := w.host.Engine.KillPlugin(ctx, plugin)
	if err != nil {
		return err
	}
	_, err = w.host.Engine.AwaitPlugin(ctx, plugin, old)
	return err
}

// outage has a source fail for a while. It comes back with others.
func (w *world) outage(ctx context.Context) error {
	switch g := []string{"dns", "consul", "etcd"}[w.rnd.IntN(3)]; g {
	case "dns":
		program.Say("  the name server")
		w.names.set(func() { w.names.broken = true })
		w.later(ctx, func() error {
			w.names.set(func() { w.names.broken = false })
			return nil
		})
	case "consul":
		program.Say("  Consul")
		w.consul.fail(true)
		w.later(ctx, func() error {
			w.consul.fail(false)
			return nil
		})
	default: // as long as it takes to start it again, for other events need it
		program.Say("  etcd")
		if err := w.etcd.kill(); err != nil {
			return err
		}
		program.Pause(ctx, w.hold()/2)
		return w.etcd.start(ctx)
	}
	return nil
}

// empty has a source name nobody for a while, which nobody is to follow.
func (w *world) empty(ctx context.Context) error {
	switch w.rnd.IntN(3) {
	case 0:
		program.Say("  the DNS")
		w.names.set(func() { w.names.addrs, w.names.srv = nil, nil })
		program.Pause(ctx, w.hold()/2)
		return errors.Join(w.publish(ctx, "dns"), w.publish(ctx, "srv"))
	case 1:
		program.Say("  Consul")
		w.consul.set(nil)
		program.Pause(ctx, w.hold()/2)
		return w.publish(ctx, "consul")
	}
	program.Say("  the file")
	if err := w.put(ctx, listFile, "# none\n"); err != nil {
		return err
	}
	program.Pause(ctx, w.hold()/2)
	return w.publish(ctx, "file")
}
