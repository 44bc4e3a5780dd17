package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/netdriver/engine"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/probe"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/state"
	"github.com/dockline/dockline/netdriver/watch"
)

type plugin struct {
	admin     *admin.Plugin
	driver    *engine.Driver
	reconcile *reconcile.Reconciler
	host      *kernel.Kernel
	watch     *watch.Manager
	probe     *probe.Manager // nil: nobody is asked time and again
	from      *backends
	recent    *pluginlog.Recent // what was said lately; nil: nobody kept it
}

// missetError is a setting that cannot be read.
type missetError struct{ err error }

func (e *missetError) Error() string {
	return fmt.Sprintf("dockline-net is not set up right: %v; docker plugin disable -f dockline-net, docker plugin set dockline-net KEY=VALUE, docker plugin enable dockline-net", e.err)
}

func (e *missetError) Unwrap() error { return e.err }

// refuse answers every call with the reason, where err is a damaged state file or a
// wrong setting: whoever creates a network or starts a container reads it, whereas
// of a plugin that ends the engine says only that its socket is not there. To go on
// would give away what the file reserves, or not be what was asked for. Nothing is
// deleted, so that a copy of the file can be put back.
func refuse(ctx context.Context, l, al net.Listener, err error, set settings, log *slog.Logger) error {
	var corrupt *state.CorruptError
	var misset *missetError
	var why error
	switch {
	case errors.As(err, &corrupt):
		why = fmt.Errorf("%w; put a copy of it back, or remove it and make the networks again, and enable the plugin", err)
	case errors.As(err, &misset):
		why = misset
	default:
		return err
	}
	log.Error("dockline-net refuses all calls", "err", err)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var beside errgroup.Group
	operators := admin.Refusing(why, log)
	if set.recent != nil {
		operators.HandleProcess(set.recent.Lines)
	}
	show(ctx, &beside, operators, al, set.window, log)
	err = engine.Refusing(why, set.requireMAC, log).Serve(ctx, l)
	cancel()
	return errors.Join(err, beside.Wait())
}

// show serves what operators see until ctx ends. The networks are served whatever
// becomes of it.
func show(ctx context.Context, beside *errgroup.Group, s *shared.Server, al net.Listener, window shared.Settings, log *slog.Logger) {
	if window.Profiles {
		s.Profile()
	}
	beside.Go(func() error {
		err := s.Serve(ctx, al)
		if err != nil {
			log.Error("nobody can look in any more", "err", err)
		}
		return err
	})
	if ml := window.Open(log); ml != nil {
		beside.Go(func() error { s.ServeMetrics(ctx, ml); return nil })
	}
}

// serve answers calls and reconciles until ctx ends, and joins both.
func (p *plugin) serve(ctx context.Context, l, al net.Listener, window shared.Settings, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ticker := time.NewTicker(reconcileEvery)
	defer ticker.Stop()
	var beside errgroup.Group
	beside.Go(func() error { return p.reconcile.Run(ctx, p.host, ticker.C) })
	beside.Go(func() error { return p.watch.Run(ctx) })
	if p.probe != nil {
		beside.Go(func() error { return p.probe.Run(ctx) })
	}
	if p.from.etcd != nil {
		beside.Go(func() error { return p.from.etcd.Run(ctx) })
	}
	beside.Go(func() error { return p.from.dhcp.Run(ctx) })
	beside.Go(func() error { return p.driver.Networks.WatchMoves(ctx) })
	show(ctx, &beside, p.operators(), al, window, log)
	defer p.onDemand(ctx)()
	server := pluginserver.New(log)
	p.driver.Register(server)
	log.Info("dockline-net serves", "socket", l.Addr().String())
	err := server.Serve(ctx, l)
	cancel()
	return errors.Join(err, beside.Wait())
}

// operators is what they see and say.
func (p *plugin) operators() *shared.Server {
	s := p.admin.Server()
	s.HandleChange("/confirm", p.confirm)
	s.HandleChange("/remove", p.remove)
	p.from.handle(s)
	s.HandleChange("/reconcile", p.reconcileNow)
	if p.recent != nil {
		s.HandleProcess(p.recent.Lines)
	}
	return s
}

// confirm agrees to the move of a network's host addresses.
func (p *plugin) confirm(r *http.Request) (any, error) {
	id := r.URL.Query().Get("network")
	if err := p.driver.Networks.Confirm(id); err != nil {
		return nil, err
	}
	return map[string]bool{"confirmed": true}, nil
}

// remove removes a network that the engine does not know.
func (p *plugin) remove(r *http.Request) (any, error) {
	if err := p.driver.Networks.Remove(r.URL.Query().Get("network")); err != nil {
		return nil, err
	}
	p.watch.Sync()
	return map[string]bool{"removed": true}, nil
}

// reconcileNow reconciles and says what that did.
func (p *plugin) reconcileNow(*http.Request) (any, error) {
	rep, err := p.reconcile.Once()
	p.reconcile.Say(rep, err)
	if err != nil {
		return nil, err
	}
	return rep, nil
}

// onDemand reconciles at each SIGHUP, until it is told to end or ctx does.
func (p *plugin) onDemand(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				p.reconcile.Say(p.reconcile.Once())
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}
