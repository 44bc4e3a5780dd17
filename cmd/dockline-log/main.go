// Command dockline-log is the log driver plugin's process, and the command by
// which an operator asks it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/internal/privilege"
	"github.com/dockline/dockline/logdriver"
)

// version is set when a release is linked.
var version = "devel"

// The engine's socket, and beside it ours for operators. The folder is one of
// the host's: /run/docker/plugins/<id of the plugin>, a path that is short
// enough for a socket.
const (
	socket      = "/run/docker/plugins/dockline-log.sock"
	adminSocket = "/run/docker/plugins/admin.sock"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dockline-log:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) > 1 {
		return ask(ctx, os.Args[1:])
	}
	if err := privilege.Keep(); err != nil { // nothing is needed
		return err
	}
	cfg, err := logdriver.ConfigFromEnv(os.Getenv)
	if err != nil {
		return err
	}
	if err := cfg.FindMounts(); err != nil {
		return err
	}
	cfg.Version = version
	log := pluginlog.New(os.Stdout, os.Stderr, cfg.LogLevel)
	log.Info("dockline-log starts", "version", version, "host", cfg.HostName)
	l, err := pluginserver.Listen(socket) // before anything slow: the engine dials soon
	if err != nil {
		return err
	}
	server := pluginserver.New(log)
	plugin, err := logdriver.Start(cfg, log)
	if elsewhere := new(logdriver.PlaceError); errors.As(err, &elsewhere) {
		refusal := logdriver.Refuse(cfg, err, log)
		defer refusal.Close()
		refusal.Register(server)
		return server.Serve(ctx, l)
	}
	if err != nil {
		return err
	}
	defer plugin.Close()
	plugin.Register(server)
	al, err := pluginserver.Listen(adminSocket)
	if err != nil {
		return err
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return plugin.Admin(log).Serve(ctx, al) })
	both.Go(func() error { return server.Serve(ctx, l) })
	return both.Wait()
}
