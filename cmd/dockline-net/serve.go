package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/engine"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/reconcile"
	"github.com/dockline/dockline/netdriver/state"
)

type plugin struct {
	driver    *engine.Driver
	reconcile *reconcile.Reconciler
	host      *kernel.Kernel
}

// refuse answers every call with the damage, where err is that of a state file.
// Ending would have the engine start the process over and over, and going on
// would give away what the file reserves; nothing is deleted, so that a copy of
// the file can be put back.
func refuse(ctx context.Context, l net.Listener, err error, log *slog.Logger) error {
	var corrupt *state.CorruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	log.Error("dockline-net refuses all calls", "err", err)
	return pluginserver.Refusing(fmt.Errorf("%w; put a copy of it back, or remove it and make the networks again, and enable the plugin", err), log).Serve(ctx, l)
}

// serve answers calls and reconciles until ctx ends, and joins both.
func (p *plugin) serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	ticker := time.NewTicker(reconcileEvery)
	defer ticker.Stop()
	done := make(chan error, 1)
	go func() { done <- p.reconcile.Run(ctx, p.host, ticker.C) }()
	defer p.onDemand(ctx)()
	server := pluginserver.New(log)
	p.driver.Register(server)
	log.Info("dockline-net serves", "socket", l.Addr().String())
	err := server.Serve(ctx, l)
	cancel()
	return errors.Join(err, <-done)
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
