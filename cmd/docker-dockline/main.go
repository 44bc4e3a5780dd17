// Command docker-dockline is docker dockline, a plugin of the docker command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dockline/dockline/cli"
	"github.com/dockline/dockline/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.Env{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: build.Version})
	stop()
	os.Exit(code)
}
