// Command docker-dockline is docker dockline, a plugin of the docker command.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dockline/dockline/cli"
	"github.com/dockline/dockline/internal/build"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" { // without docker before it, as of a file that was downloaded
		fmt.Println(build.Line("docker-dockline"))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.Env{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: build.Version})
	stop()
	os.Exit(code)
}
