package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/engine"
	"github.com/dockline/dockline/netdriver/reconcile"
)

type plugin struct {
	driver    *engine.Driver
	reconcile *reconcile.Reconciler
}

// serve answers calls and reconciles until ctx ends, and joins both.
func (p *plugin) serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	ticker := time.NewTicker(reconcileEvery)
	defer ticker.Stop()
	done := make(chan error, 1)
	go func() { done <- p.reconcile.Run(ctx, ticker.C) }()
	server := pluginserver.New(log)
	p.driver.Register(server)
	log.Info("dockline-net serves", "socket", l.Addr().String())
	err := server.Serve(ctx, l)
	cancel()
	return errors.Join(err, <-done)
}
