package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

// look compares what is with what should be, while nothing changes.
func (w *world) look(ctx context.Context) error {
	w.churn.Lock()
	defer w.churn.Unlock()
	for _, c := range w.containers {
		if c.made {
			if err := w.ask(ctx, c); err != nil {
				return err
			}
		}
	}
	return w.each(ctx, func(ctx context.Context, c *container) error {
		if c.running {
			w.connected(ctx, c)
		}
		return nil
	})
}

// pings is a script that prints the addresses that do not answer in several
// tries. The first packets to a link that has just come up may get lost.
func pings(addresses []string) string {
	return fmt.Sprintf(`for a in %s; do
	n=0
	until busybox ping -c 1 -W 1 $a >/dev/null 2>&1; do
		n=$((n+1))
		if [ $n -ge 6 ]; then echo $a; break; fi
	done
done`, strings.Join(addresses, " "))
}

// connected checks that a container gets answers: from the machine on the wire,
// or from another container of its network.
func (w *world) connected(ctx context.Context, c *container) {
	if len(c.addresses) != 2 {
		w.breaks(c, fmt.Sprintf("has addresses %q", c.addresses))
		return
	}
	var peers []string
	for _, n := range networks {
		if n.name == c.network && n.gate4 != "" {
			peers = []string{n.gate4, n.gate6}
		}
	}
	if peers == nil {
		for _, other := range w.containers {
			if other != c && other.network == c.network && other.running {
				peers = other.addresses
				break
			}
		}
	}
	if len(peers) == 0 {
		return
	}
	silent, err := w.docker(ctx, "exec", c.name, "sh", "-c", pings(peers))
	if err != nil || silent != "" {
		w.breaks(c, fmt.Sprintf("gets no answer from %q (%v)", silent, err))
	}
}

func (w *world) breaks(c *container, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[c.name] = how
	program.Say("BROKEN: %s on %s with %v: %s", c.name, c.network, c.addresses, how)
}

// settle starts all containers once more, without violence, and looks at them.
func (w *world) settle(ctx context.Context) error {
	program.Say("starting all containers, and looking at them")
	err := w.each(ctx, func(ctx context.Context, c *container) error {
		if c.running {
			return nil
		}
		if err := w.up(ctx, c); err != nil || !c.running {
			w.breaks(c, fmt.Sprintf("does not start: %v", err))
		}
		return nil
	})
	// A network can be made and removed as well.
	if err := errors.Join(w.removeExtra(ctx), w.createExtra(ctx), w.removeExtra(ctx)); err != nil {
		w.broken[extra] = err.Error()
		program.Say("BROKEN: network %s: %v", extra, err)
	}
	return errors.Join(err, w.look(ctx))
}

// releaseTime is in which a network goes that the engine gave up, with a round of
// the plugin's reconcile.
const releaseTime = 100 * time.Second

const sweepTime = 5 * time.Minute // what looks abandoned is left alone for two, an address for one more

// leftovers removes the containers and waits for the plugin to find out what
// else there is to be removed; then it removes the networks.
func (w *world) leftovers(ctx context.Context) error {
	program.Say("removing all containers; waiting for the sweep")
	if err := w.each(ctx, w.remove); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sweepTime, errors.New("the sweep takes too long"))
	defer cancel()
	var left []string
	err := proc.Await(ctx, func(ctx context.Context) error {
		now, err := w.left(ctx)
		if err != nil {
			return err
		}
		if left = now; len(left) > 0 {
			return errors.New("something is left")
		}
		return nil
	})
	if err != nil {
		program.Say("left with the networks still there (%v):\n\t%s\nthe plugin's last words:\n%s", err, strings.Join(left, "\n\t"), w.words())
		w.leaked = append(w.leaked, left...)
	}
	ctx = context.WithoutCancel(ctx)
	if err := w.unknown(ctx); err != nil {
		return err
	}
	if err := w.startTwice(ctx); err != nil {
		return err
	}
	return w.removeNetworks(ctx)
}

// unknown says how many networks there are for the plugin alone. They go with the
// engine's next starts; there are few, for most that is cut off is understood.
func (w *world) unknown(ctx context.Context) error {
	left := 0
	known, err := w.docker(ctx, "network", "ls", "-q", "--filter", "driver="+driver)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	_ = proc.Await(ctx, func(ctx context.Context) error {
		out, err := w.host.Run(ctx, "iptables-save")
		if err != nil {
			return err
		}
		isolated := strings.Count(out, "dockline:")                       // a rule of each bridge
		if left = isolated - (len(strings.Fields(known)) - 1); left > 0 { // one is a macvlan network
			return errors.New("some are left")
		}
		return nil
	})
	program.Say("%d networks wait for the engine's next starts", left)
	return nil
}

// startTwice has the engine start twice and make a network, upon which the
// plugin lets go of a subnet whose network the engine does not know: it asked
// again for one whose answer the plugin could not give any more.
func (w *world) startTwice(ctx context.Context) error {
	for range 2 {
		if err := w.host.Engine.Restart(ctx); err != nil {
			return err
		}
		if err := errors.Join(w.createExtra(ctx), w.removeExtra(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// words is the end of what the plugin logged, which the engine has in its log.
func (w *world) words() string {
	var own []string
	for line := range strings.Lines(w.host.Engine.LogTail(2000)) {
		if strings.Contains(line, "plugin=") {
			own = append(own, line)
		}
	}
	return strings.Join(own[max(0, len(own)-60):], "")
}

func (w *world) removeNetworks(ctx context.Context) error {
	for _, n := range networks {
		if _, err := w.docker(ctx, "network", "rm", n.name); err != nil {
			return err
		}
	}
	traces, err := w.awaitNoTraces(ctx)
	if err != nil && len(traces) == 0 {
		return err
	}
	if err != nil {
		program.Say("left without a network (%v); the plugin's last words:\n%s", err, w.words())
		w.leaked = append(w.leaked, traces...)
	}
	if _, err := w.docker(ctx, "plugin", "disable", "-f", plugin); err != nil {
		return err
	}
	known, err := w.state(false)
	if err != nil {
		return err
	}
	w.leaked = append(w.leaked, known...)
	for _, what := range w.leaked {
		program.Say("LEAKED: %s", what)
	}
	return nil
}

// awaitNoTraces waits until the plugin has swept what it made for networks that
// the engine does not know: it gave them up when their answers did not come.
func (w *world) awaitNoTraces(ctx context.Context) (left []string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sweepTime, errors.New("the sweep takes too long"))
	defer cancel()
	begin := time.Now()
	err = proc.Await(ctx, func(ctx context.Context) error {
		after, err := w.traces(ctx)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(after, func(what string) bool { return slices.Contains(w.before, what) })
		if len(left) > 0 {
			return errors.New("something is left")
		}
		return nil
	})
	program.Say("looked at links, addresses, routes and rules for %.1f s", time.Since(begin).Seconds())
	return left, err
}

// left is what there is of endpoints: their links, and what the plugin
// remembers of them and their addresses.
func (w *world) left(ctx context.Context) ([]string, error) {
	out, err := w.host.Run(ctx, "ip", "-o", "link")
	if err != nil {
		return nil, err
	}
	left := regexp.MustCompile(`dl[hc]-[0-9a-f]+`).FindAllString(out, -1)
	known, err := w.state(true)
	return append(left, known...), err
}

// traces is what a network plugin could leave on the host, one thing a line.
func (w *world) traces(ctx context.Context) ([]string, error) {
	var all []string
	for _, command := range [][]string{{"ip", "-br", "link"}, {"ip", "-br", "address"}, {"ip", "route"}, {"iptables-save"}} {
		out, err := w.host.Run(ctx, command[0], command[1:]...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
				all = append(all, line)
			}
		}
	}
	return all, nil
}

// state is what the plugin remembers. While it runs (endpoints), a copy of its
// journal is read, and only what there is of endpoints counts.
func (w *world) state(endpoints bool) (known []string, err error) {
	pattern := "*.db"
	if endpoints {
		pattern = "journal-*.db"
	}
	files, err := filepath.Glob(filepath.Join(w.mount, pattern))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("find the plugin's state: %v, %w", files, err)
	}
	for _, file := range files {
		found, err := w.tables(file)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			gone := strings.HasPrefix(f, "instance") || endpoints && (strings.HasPrefix(f, "cursors") || strings.Contains(f, `"Gateway":true`))
			if !gone {
				known = append(known, f)
			}
		}
	}
	return known, nil
}

func (w *world) tables(file string) (found []string, err error) {
	defer func() { // a copy of what is being written may be torn
		if p := recover(); p != nil {
			err = fmt.Errorf("read the plugin's state: %v", p)
		}
	}()
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the plugin's state: %w", err)
	}
	replica := filepath.Join(w.lab.Dir, "state.db")
	if err := os.WriteFile(replica, raw, 0o600); err != nil {
		return nil, fmt.Errorf("copy the plugin's state: %w", err)
	}
	db, err := bbolt.Open(replica, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("read the plugin's state: %w", err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(table []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				found = append(found, fmt.Sprintf("%s: %s = %s", table, k, v))
				return nil
			})
		})
	})
	return found, err
}
