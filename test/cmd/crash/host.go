package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/witness"
)

// fillTime is how long the plugin stands still before the engine is killed.
const fillTime = 300 * time.Millisecond

// kill kills the plugin and waits until the engine has started it again.
func (w *world) kill(ctx context.Context) error {
	old, err := w.engine.KillPlugin(ctx, plugin)
	if err != nil {
		return err
	}
	w.killed.Add(1)
	_, err = w.engine.AwaitPlugin(ctx, plugin, old)
	return err
}

// killEarly kills the plugin twice, the second time before the engine has
// dialled it, and enables it again when the engine has given up.
func (w *world) killEarly(ctx context.Context) error {
	program.Say("killing the plugin twice, which is more than the engine takes")
	old, err := w.engine.KillPlugin(ctx, plugin)
	if err != nil {
		return err
	}
	var next proc.Process
	err = proc.Await(ctx, func(ctx context.Context) (err error) { // not for the engine's dialling it
		if next, err = w.engine.Plugin(ctx, plugin); err == nil && next.PID == old.PID {
			err = errors.New("the killed process is still there")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := proc.Kill(ctx, next); err != nil {
		return err
	}
	w.killed.Add(2)
	err = proc.Await(ctx, func(ctx context.Context) error {
		if _, err := w.engine.Plugin(ctx, plugin); err == nil {
			return nil // the engine had dialled it after all
		}
		_, err := w.engine.Run(ctx, "plugin", "enable", plugin)
		return err
	})
	if err != nil {
		return err
	}
	_, err = w.engine.AwaitPlugin(ctx, plugin, next)
	return err
}

// upgrade replaces the plugin under its running containers.
func (w *world) upgrade(ctx context.Context) error {
	program.Say("upgrading the plugin")
	return w.engine.UpgradePlugin(ctx, plugin, w.next)
}

// restart stops a container and starts it again.
func (w *world) restart(ctx context.Context, c *writer) error {
	program.Say("stopping and starting container %s", c.name)
	if err := w.stop(ctx, c); err != nil {
		return err
	}
	_, err := w.engine.Run(ctx, "start", c.name)
	return err
}

// crashEngine kills the engine under its containers and starts it again. The
// plugin is alive meanwhile, for what is in a pipe when both are gone is lost;
// but it may be stopped at that moment, so that pipes are not empty.
func (w *world) crashEngine(ctx context.Context, full bool) error {
	program.Say("killing the engine, pipes full: %v", full)
	p, err := w.engine.Plugin(ctx, plugin)
	if err != nil {
		return err
	}
	if full {
		if err := witness.Freeze(ctx, p.PID); err != nil {
			return err
		}
		if !program.Pause(ctx, fillTime) {
			return context.Cause(ctx)
		}
	}
	if err := w.spool.KillEngine(ctx, w.engine); err != nil {
		return err
	}
	if full {
		if err := witness.Thaw(p.PID); err != nil {
			return err
		}
	}
	if err := w.engine.Start(ctx); err != nil {
		return err
	}
	return w.alive(ctx)
}

// alive makes sure that plugin and containers have survived the engine.
func (w *world) alive(ctx context.Context) error {
	now, err := w.engine.AwaitPlugin(ctx, plugin, proc.Process{})
	if err != nil {
		return err
	}
	up, err := w.engine.Run(ctx, "ps", "-q")
	if n := len(strings.Fields(up)); err == nil && n != len(w.containers) {
		return fmt.Errorf("%d of %d containers run after the engine's crash", n, len(w.containers))
	}
	program.Say("the engine is back; the plugin is process %d", now.PID)
	return err
}
