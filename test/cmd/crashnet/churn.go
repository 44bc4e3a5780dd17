package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/program"
)

// container is one of those that start and stop. It is changed by one worker at
// a time, and looked at while nothing changes.
type container struct {
	name, network string
	made, running bool
	addresses     []string
}

const callTime = 2 * time.Minute // the engine tries a dead plugin again for half a minute, for each call

// each does something with every container, some at once.
func (w *world) each(ctx context.Context, do func(context.Context, *container) error) error {
	queue := make(chan *container, len(w.containers))
	for _, c := range w.containers {
		queue <- c
	}
	close(queue)
	var wg sync.WaitGroup
	errs := make(chan error, w.workers)
	for range w.workers {
		wg.Go(func() {
			var mine []error
			for c := range queue {
				mine = append(mine, do(ctx, c))
			}
			errs <- errors.Join(mine...)
		})
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// work starts, stops, restarts and removes the worker's containers at random
// until ctx ends. That something fails while the plugin is dead is no fault;
// what matters is how things are when it is not.
func (w *world) work(ctx context.Context, number int) {
	rnd := rand.New(rand.NewPCG(w.seed, uint64(number)+100))
	var mine []*container
	for i := number; i < len(w.containers); i += w.workers {
		mine = append(mine, w.containers[i])
	}
	for ctx.Err() == nil {
		c := mine[rnd.IntN(len(mine))]
		w.churn.RLock()
		var err error
		call := context.WithoutCancel(ctx) // none is left half done
		switch act := rnd.IntN(6); {
		case !c.running:
			err = w.up(call, c)
		case act == 0:
			err = w.restart(call, c)
		case act == 1:
			err = w.remove(call, c)
		default:
			err = w.down(call, c)
		}
		w.churn.RUnlock()
		if err != nil {
			w.failed.Add(1)
		}
		program.Pause(ctx, time.Duration(rnd.IntN(300))*time.Millisecond)
	}
}

// extra is a network that comes and goes.
const extra = "extra"

func (w *world) createExtra(ctx context.Context) error {
	_, err := w.docker(ctx, "network", "create", "-d", driver, "--ipam-driver", driver, "-o", "mode=bridge", extra)
	return err
}

// removeExtra removes it, if there is one.
func (w *world) removeExtra(ctx context.Context) error {
	_, err := w.docker(ctx, "network", "rm", extra)
	if text := fmt.Sprint(err); strings.Contains(text, "No such network") || strings.Contains(text, "not found") {
		return nil
	}
	return err
}

// changeNetworks makes and removes a network until ctx ends.
func (w *world) changeNetworks(ctx context.Context) {
	for ctx.Err() == nil {
		w.churn.RLock()
		call := context.WithoutCancel(ctx)
		err := w.createExtra(call)
		if err == nil {
			_, err = w.docker(call, "run", "--rm", "--network", extra, harness.Image, "true")
		}
		if err = errors.Join(err, w.removeExtra(call)); err != nil {
			w.failed.Add(1)
		}
		w.churn.RUnlock()
		program.Pause(ctx, 300*time.Millisecond)
	}
}

func (w *world) docker(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, errors.New("docker takes too long"))
	defer cancel()
	return w.host.Engine.Run(ctx, args...)
}

// up starts a container, making it if need be, and notes its addresses.
func (w *world) up(ctx context.Context, c *container) error {
	args := []string{"start", c.name}
	if !c.made {
		args = []string{"run", "-d", "--init=false", "--stop-signal", "KILL", "--network", c.network, "--name", c.name, harness.Image, "sleep", "100000"}
	}
	_, err := w.docker(ctx, args...)
	if err != nil {
		return errors.Join(err, w.ask(ctx, c))
	}
	w.starts.Add(1)
	return w.ask(ctx, c)
}

// ask notes what the engine says of a container.
func (w *world) ask(ctx context.Context, c *container) error {
	out, err := w.docker(ctx, "container", "inspect", "--format", "{{json .State.Running}} {{json .NetworkSettings.Networks}}", c.name)
	if err != nil {
		c.made, c.running = !strings.Contains(err.Error(), "No such container"), false
		if c.made {
			return err
		}
		return nil
	}
	c.made = true
	running, rest, _ := strings.Cut(out, " ")
	c.running = running == "true"
	var nets map[string]struct{ IPAddress, GlobalIPv6Address string }
	if err := json.Unmarshal([]byte(rest), &nets); err != nil {
		return fmt.Errorf("read what the engine says of %s: %w", c.name, err)
	}
	c.addresses = nil
	for _, n := range nets {
		for _, a := range []string{n.IPAddress, n.GlobalIPv6Address} {
			if _, err := netip.ParseAddr(a); err == nil && c.running {
				c.addresses = append(c.addresses, a)
			}
		}
	}
	w.claim(c)
	return nil
}

// claim notes whose the addresses are that a running container has.
func (w *world) claim(c *container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range c.addresses {
		if other := w.has[a]; other != "" && other != c.name {
			w.duplicates = append(w.duplicates, fmt.Sprintf("%s: %s and %s", a, other, c.name))
			program.Say("GIVEN TWICE: %s to %s and %s", a, other, c.name)
		}
		w.has[a] = c.name
	}
}

// yield says that a container gives its addresses back, or is about to.
func (w *world) yield(c *container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, name := range w.has {
		if name == c.name {
			delete(w.has, a)
		}
	}
}

func (w *world) down(ctx context.Context, c *container) error {
	w.yield(c)
	_, err := w.docker(ctx, "stop", "-t", "0", c.name)
	return errors.Join(err, w.ask(ctx, c))
}

func (w *world) restart(ctx context.Context, c *container) error {
	w.yield(c)
	_, err := w.docker(ctx, "restart", "-t", "0", c.name)
	if err == nil {
		w.starts.Add(1)
	}
	return errors.Join(err, w.ask(ctx, c))
}

func (w *world) remove(ctx context.Context, c *container) error {
	w.yield(c)
	_, err := w.docker(ctx, "rm", "-f", c.name)
	return errors.Join(err, w.ask(ctx, c))
}
