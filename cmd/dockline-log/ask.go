package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/logdriver"
	logadmin "github.com/dockline/dockline/logdriver/admin"
)

const usage = `usage: dockline-log COMMAND [-socket PATH] [-timeout DURATION]
       dockline-log where [-since TIME] [-until TIME] CONTAINER
       dockline-log check-config FILE

The engine starts the plugin without a command. For people there is docker
dockline log, which needs to be installed beside the docker command; these are
the plugin's answers as they are, for hosts without it. On the host, from the
plugin's folder in the engine's data root, as root:

  status   what is spooled of which container, and which collectors are healthy
  metrics  the same in numbers, as Prometheus reads them
  drain    wait until everything that is spooled is delivered; before the plugin is removed
  poison   the records that collectors refused for ever, with the reason; their bytes in base64
  where    which collectors hold the records of a container that were written in a time
  version  of this binary, with commit and date; needs no plugin that runs

TIME is 2006-01-02T15:04:05Z, seconds since 1970, or how long ago, as 90m.

check-config reads a configuration, with the files beside it, as the plugin would,
and reaches nobody. It names line and reason of what is wrong and ends with code 1,
or with 0 when the plugin would take it; warnings are for what it takes and is most
likely not meant. COLLECTORS in the environment is the plugin's setting of that name.

drain ends with code 1 when the time is over; without -timeout it waits for ever.
`

// ask carries out a command that a person has typed on the host.
func ask(ctx context.Context, args []string) error {
	command := args[0]
	switch command {
	case "check-config":
		return checkConfig(args[1:])
	case "version":
		fmt.Println(build.Line("dockline-log"))
		return nil
	}
	f := flag.NewFlagSet("dockline-log "+command, flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage) }
	socket := f.String("socket", "", "")
	timeout := f.Duration("timeout", 0, "")
	since, until := f.String("since", "", ""), f.String("until", "", "")
	rest, err := parse(f, args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	if *timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	do, err := action(command, rest, *since, *until)
	if do == nil || err != nil {
		return err
	}
	path, err := find(*socket)
	if err != nil {
		return err
	}
	return do(ctx, path)
}

// action returns what a command does with the plugin's socket; nil: nothing.
func action(command string, args []string, since, until string) (do func(ctx context.Context, socket string) error, err error) {
	switch command {
	case "status", "metrics", "poison":
		do = show("/" + command)
	case "drain":
		do = drain
	case "where":
		if len(args) == 0 {
			return nil, fmt.Errorf("say of which container: its name, or the beginning of its id\n%s", usage)
		}
		do = show("/where?" + url.Values{"container": {args[0]}, "from": {since}, "to": {until}}.Encode())
		args = args[1:]
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return nil, nil
	default:
		return nil, fmt.Errorf("there is no command %q\n%s", command, usage)
	}
	if len(args) > 0 {
		return nil, fmt.Errorf("%q is too much\n%s", args[0], usage)
	}
	return do, nil
}

// show prints what the plugin answers.
func show(path string) func(context.Context, string) error {
	return func(ctx context.Context, socket string) error { return admin.Get(ctx, socket, path, os.Stdout) }
}

// find returns the socket that is named, or else the one of this binary's plugin.
func find(socket string) (string, error) {
	if socket == "" {
		path, err := admin.OwnSocket()
		if err != nil {
			return "", err
		}
		socket = path
	}
	if _, err := os.Stat(socket); err != nil {
		return "", fmt.Errorf("reach the plugin (is it enabled?): %w", err)
	}
	return socket, nil
}

// parse reads options, also those behind arguments, and returns the arguments.
func parse(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil || f.NArg() == 0 {
			return rest, err
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// checkConfig says what is wrong with a configuration, or that nothing is.
func checkConfig(args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("check-config needs the name of a file\n%s", usage)
	}
	pools, warnings, err := logdriver.CheckConfig(args[0], os.Getenv("COLLECTORS"))
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if err != nil {
		return fmt.Errorf("it would be refused:\n%w", err)
	}
	fmt.Printf("%s would be taken; pools: %s\n", args[0], strings.Join(pools, ", "))
	return nil
}

// drain waits until everything is delivered and says every now and then what is not.
func drain(ctx context.Context, socket string) error {
	err := logadmin.AwaitDrained(ctx, socket, func(left string) { fmt.Fprintln(os.Stderr, "waiting:", left) })
	if err == nil {
		fmt.Println("everything is delivered")
	}
	return err
}
