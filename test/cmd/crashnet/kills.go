package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/internal/failpoint"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

const (
	reachTime = 2500 * time.Millisecond // for the plugin to come to a point
	killTime  = 90 * time.Second
	dialTime  = 17 * time.Second // after which an engine has given up
	lookEvery = 10               // kills
	// maxMisses is how often a point is tried that the plugin passes once in its
	// life, or never again.
	maxMisses = 3
)

// violence kills the plugin again and again while containers come and go.
func (w *world) violence(ctx context.Context) error {
	churning, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range w.workers {
		wg.Go(func() { w.work(churning, i) })
	}
	wg.Go(func() { w.changeNetworks(churning) })
	err := w.kill(ctx)
	stop()
	wg.Wait()
	program.Say("killed %d times at %d points; %d starts, %d calls failed meanwhile", w.killed, len(w.used), w.starts.Load(), w.failed.Load())
	return err
}

func (w *world) kill(ctx context.Context) error {
	missed, begun := 0, time.Now()
	for w.killed < w.kills && (w.time == 0 || time.Since(begun) < w.time) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		before := w.killed
		if err := w.killOnce(ctx); err != nil {
			return err
		}
		if w.killed == before {
			if missed++; missed > 20+3*w.kills {
				return errors.New("the plugin does not come to the points where it is to die")
			}
			continue
		}
		if w.killed%lookEvery == 0 {
			if err := w.look(ctx); err != nil {
				return err
			}
			program.Say("killed %d of %d, at %d points (%d times it did not come there); %d starts", w.killed, w.kills, len(w.used), missed, w.starts.Load())
		}
	}
	return nil
}

// killOnce has the plugin die at the next point. One in ten kills comes from
// outside, and of one in twenty-five the next process dies too, at a point that
// it passes while it starts.
func (w *world) killOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTime, errors.New("the plugin does not come back"))
	defer cancel()
	old, err := w.host.Engine.Plugin(ctx, plugin)
	if err != nil {
		return err
	}
	switch n := w.rand.IntN(50); {
	case n < 5:
		if err := proc.Kill(ctx, old); err != nil {
			return err
		}
		w.count("from outside")
	case n < 7:
		return w.killTwice(ctx, old)
	default:
		point := w.next()
		died, err := w.dieAt(ctx, point)
		if err != nil {
			return err
		}
		if !died {
			w.misses[point]++
			return nil
		}
	}
	return w.revived(ctx, old)
}

func (w *world) count(point string) {
	w.killed++
	w.used[point]++
}

// next is the next point of those that the plugin was seen to pass, each as
// often as the others.
func (w *world) next() string {
	if len(w.queue) == 0 {
		raw, _ := os.ReadFile(filepath.Join(w.points, failpoint.Seen))
		seen := strings.Split(strings.TrimSpace(string(raw)), "\n")
		slices.Sort(seen)
		w.queue = slices.DeleteFunc(slices.Compact(seen), func(point string) bool { return w.misses[point] > maxMisses && w.used[point] == 0 })
		w.rand.Shuffle(len(w.queue), func(i, j int) { w.queue[i], w.queue[j] = w.queue[j], w.queue[i] })
	}
	point := w.queue[0]
	w.queue = w.queue[1:]
	return point
}

// dieAt tells the plugin to die at a point, and reports whether it came there.
func (w *world) dieAt(ctx context.Context, point string) (bool, error) {
	if err := w.order(point, w.rand.IntN(3)); err != nil {
		return false, err
	}
	path := filepath.Join(w.points, failpoint.Order)
	late := time.Now().Add(reachTime)
	for {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(late) {
			if os.Remove(path) == nil {
				return false, nil
			}
			break // it got there at the last moment
		}
		if !program.Pause(ctx, 10*time.Millisecond) { // the plugin can tell nobody that it is dead
			return false, context.Cause(ctx)
		}
	}
	w.count(point)
	return true, nil
}

// order puts the whole order in its place at once.
func (w *world) order(point string, skip int) error {
	path := filepath.Join(w.points, failpoint.Order)
	if err := os.WriteFile(path+".new", []byte(failpoint.Format(point, skip)), 0o600); err != nil {
		return fmt.Errorf("tell the plugin to die: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("tell the plugin to die: %w", err)
	}
	return nil
}

// killTwice kills the plugin, and again while it starts.
func (w *world) killTwice(ctx context.Context, old proc.Process) error {
	// A start brings bridges up.
	if err := w.order("kernel up dlb", w.rand.IntN(2)); err != nil {
		return err
	}
	if err := proc.Kill(ctx, old); err != nil {
		return err
	}
	w.count("from outside")
	if !program.Pause(ctx, 2*time.Second) { // for the next one to start, and to die if it does
		return context.Cause(ctx)
	}
	if os.Remove(filepath.Join(w.points, failpoint.Order)) != nil {
		w.count("at its start")
	}
	return w.revived(ctx, old)
}

// revived waits for the next process. An engine that has not dialled it when it
// dies as well gives the plugin up after some tries, and it is enabled again; not
// before, for the engine does not expect that.
func (w *world) revived(ctx context.Context, old proc.Process) error {
	trying, cancel := context.WithTimeoutCause(ctx, dialTime, errors.New("the engine does not restart the plugin"))
	defer cancel()
	_, err := w.host.Engine.AwaitPlugin(trying, plugin, old)
	if _, gone := w.host.Engine.Plugin(ctx, plugin); err == nil || !errors.Is(gone, harness.ErrNotRunning) {
		return err
	}
	program.Say("the engine gave the plugin up; enabling it")
	if _, err := w.host.Engine.Run(ctx, "plugin", "enable", plugin); err != nil {
		return err
	}
	_, err = w.host.Engine.AwaitPlugin(ctx, plugin, old)
	return err
}
