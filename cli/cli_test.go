package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dockline/dockline/cli"
)

// The scripts' docker is what the docker command runs for docker dockline, with the
// arguments that it passes on.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"docker": func() {
		os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Env{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: "test"}))
	}})
}

func TestScripts(t *testing.T) {
	r := newRig(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("LOG", r.logSocket)
			e.Setenv("NET", r.netSocket)
			e.Setenv("DOCKER_HOST", "unix://"+r.engineSocket)
			e.Setenv("NO_ENGINE", "unix://"+r.dir+"/none.sock")
			e.Setenv("LAN", lanID)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // each docker would wait for a second at its end
			return nil
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
	})
}
