package reconcile

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/internal/pluginlog"
)

// Watcher calls changed whenever something may not be as it should be any
// more, and once it does; see kernel.Kernel's Watch.
type Watcher interface {
	Watch(ctx context.Context, changed func()) error
}

const (
	// gather is how long to wait for what comes with a change: starting a
	// container is a dozen of them.
	gather = 100 * time.Millisecond
	// restShare bounds what reconciles take of a CPU on a host where something
	// changes all the time: they rest as many times as long as they took, where
	// they found nothing to do, and as long where they did.
	restShare = 20
	restMin   = 500 * time.Millisecond
	restMax   = 5 * time.Second // and after an error, before the next try
	// watchAgain is how long to wait before listening again that failed.
	watchAgain = time.Second
)

// Run reconciles when ticks come and when the watcher sees a change, until ctx
// ends.
func (r *Reconciler) Run(ctx context.Context, w Watcher, ticks <-chan time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	changes := make(chan struct{}, 1)
	g.Go(func() error {
		r.watch(ctx, w, changes)
		return nil
	})
	g.Go(func() error {
		r.loop(ctx, changes, ticks)
		return nil
	})
	return g.Wait()
}

func (r *Reconciler) watch(ctx context.Context, w Watcher, changes chan<- struct{}) {
	for {
		err := w.Watch(ctx, func() { remind(changes) })
		if ctx.Err() != nil {
			return
		}
		r.Log.Warn("cannot listen for changes; listening again", "err", err)
		if !rest(ctx, watchAgain) {
			return
		}
	}
}

func (r *Reconciler) loop(ctx context.Context, changes chan struct{}, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		case <-changes:
			if !rest(ctx, gather) {
				return
			}
			select {
			case <-changes:
			default:
			}
		}
		rep, err := r.Once()
		r.Say(rep, err)
		if !rest(ctx, restAfter(rep, err)) {
			return
		}
		if err != nil { // what was not looked at may say nothing by itself
			remind(changes)
		}
	}
}

func restAfter(rep Report, err error) time.Duration {
	switch {
	case err != nil:
		return restMax
	case rep.Changed() > 0:
		return min(max(restMin, rep.Took), restMax)
	}
	return min(max(restMin, restShare*rep.Took), restMax)
}

func remind(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // one is waiting already
	}
}

// Say logs what a reconcile did, where that was anything; the same error seldom.
func (r *Reconciler) Say(rep Report, err error) {
	switch {
	case err != nil:
		if r.complains(err) {
			r.Log.Warn("a reconcile could not put all right; it is tried again", "err", err, "repaired", rep.Repaired, "adopted", rep.Adopted, "abandoned", rep.Abandoned, "released", rep.Released, "took", rep.Took)
		}
	case rep.Changed() > 0:
		r.Log.Info("a reconcile put things right", "repaired", rep.Repaired, "adopted", rep.Adopted, "abandoned", rep.Abandoned, "released", rep.Released, "took", rep.Took)
	default:
		r.Log.Debug("reconcile", "took", rep.Took)
	}
}

// complains reports whether an error is to be said: it is another, or has not been
// said for a while.
func (r *Reconciler) complains(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := err.Error(); text != r.said {
		r.said, r.seldom = text, pluginlog.Seldom{}
	}
	_, due := r.seldom.Due(time.Now())
	return due
}

// rest reports whether ctx goes on.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
