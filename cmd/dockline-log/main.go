// Command dockline-log is the log driver plugin's process, and the command by
// which an operator asks it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/pluginlog"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/internal/privilege"
	"github.com/dockline/dockline/logdriver"
)

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
	cfg, misset := logdriver.ConfigFromEnv(os.Getenv)
	window, err := admin.ParseSettings(os.Getenv)
	if cfg.Misset = misset; misset == nil {
		cfg.Misset = err
	}
	if err := cfg.FindMounts(); err != nil {
		return err
	}
	cfg.Version, cfg.PerContainer = build.Version, window.PerContainer
	var recent pluginlog.Recent
	log := pluginlog.New(recent.Tee(os.Stdout), recent.Tee(os.Stderr), cfg.LogLevel)
	log.Info("dockline-log starts", "version", build.Version, "commit", build.Commit, "host", cfg.HostName)
	// Before anything slow, for the engine dials soon. Once it has it says that the
	// plugin is enabled, and who is told that may ask on the other socket.
	al, err := pluginserver.Listen(adminSocket)
	if err != nil {
		return err
	}
	l, err := pluginserver.Listen(socket)
	if err != nil {
		return err
	}
	server := pluginserver.New(log)
	plugin, err := logdriver.Start(cfg, log)
	if err != nil {
		return err
	}
	defer plugin.Close()
	plugin.Register(server)
	operators := plugin.Admin(log)
	operators.HandleProcess(recent.Lines)
	if window.Profiles {
		operators.Profile()
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return operators.Serve(ctx, al) })
	both.Go(func() error { return server.Serve(ctx, l) })
	if ml := window.Open(log); ml != nil {
		both.Go(func() error { operators.ServeMetrics(ctx, ml); return nil })
	}
	return both.Wait()
}
