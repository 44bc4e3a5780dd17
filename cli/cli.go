// Package cli is docker dockline: the commands by which operators look into
// dockline's plugins and tell them what to do. It stands outside of both plugins'
// data paths and knows them by what they answer on their sockets.
//
// It is a plugin of the docker command. That command's own library for those
// brings its client, its terminal and its telemetry, some two hundred packages,
// for what is a page here: a call that says who we are, and options that stand
// before our name. What users see of it, flags, help, exit codes and completion,
// comes from cobra on both sides.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/internal/build"
	"github.com/dockline/dockline/internal/terminal"
)

// Env is what the command runs in.
type Env struct {
	Out, Err io.Writer
	Getenv   func(string) string
	Version  string
}

// name is what users type after docker.
const name = "dockline"

// usageCode is the docker command's exit code for an option that cannot be.
const usageCode = 125

// interruptedCode is a shell's exit code for what Ctrl-C ends.
const interruptedCode = 130

// exit is an error that says with which code to end. Nothing is printed where it
// has no text.
type exit struct {
	code int
	text string
}

func (e *exit) Error() string { return e.text }

// Main carries out a command and returns the exit code.
func Main(ctx context.Context, args []string, env Env) int {
	ctx, stop := withParent(ctx, env.Getenv)
	defer stop()
	root := New(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	interrupted := ctx.Err() != nil
	if text := err.Error(); text != "" && (!interrupted || !errors.Is(err, context.Canceled)) {
		fmt.Fprintln(terminal.Safe(env.Err), text)
	}
	if interrupted {
		return interruptedCode
	}
	if e := new(exit); errors.As(err, &e) {
		return e.code
	}
	return 1
}

// withParent ends the context when the docker command is told to end: it closes a
// connection by which its plugins see that (docker/cli, cli-plugins/socket).
func withParent(ctx context.Context, getenv func(string) string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	at := getenv("DOCKER_CLI_PLUGIN_SOCKET")
	if at == "" {
		return ctx, cancel
	}
	conn, err := net.Dial("unix", at)
	if err != nil {
		return ctx, cancel
	}
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	return ctx, func() { cancel(); _ = conn.Close() }
}

// metadata is what the docker command asks every plugin for (docker/cli,
// cli-plugins/manager/metadata.go).
type metadata struct {
	SchemaVersion    string
	Vendor           string
	Version          string
	ShortDescription string
	URL              string
}

const short = "Look into dockline's log and network plugins"

// New returns the command as the docker command calls it: as docker itself, with
// the options that stand before our name, and with what it asks of plugins.
func New(env Env) *cobra.Command {
	c := &common{env: env}
	root := &cobra.Command{
		Use: "docker", SilenceErrors: true, SilenceUsage: true, TraverseChildren: true,
		Version: env.Version, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("this is a plugin of the docker command: docker %s %s", name, args[0])
			}
			return fmt.Errorf("this is a plugin of the docker command: docker %s --help", name)
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetOut(terminal.Safe(env.Out))
	root.SetErr(terminal.Safe(env.Err))
	root.SetHelpCommand(&cobra.Command{ // docker help dockline ...
		Use: "help", Hidden: true, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown help topic: docker %s", strings.Join(args, " "))
			}
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exit{usageCode, fmt.Sprintf("%v\n\nUsage:  %s\n\nRun '%s --help' for more information", err, cmd.UseLine(), cmd.CommandPath())}
	})
	f := root.Flags()
	f.StringVarP(&c.engine.Host, "host", "H", "", "")
	f.StringVarP(&c.engine.Context, "context", "c", "", "")
	f.StringVar(&c.engine.Config, "config", "", "")
	f.BoolP("debug", "D", false, "") // what follows are the docker command's, without a meaning here
	f.StringP("log-level", "l", "", "")
	f.Bool("tls", false, "")
	f.Bool("tlsverify", false, "")
	for _, path := range []string{"tlscacert", "tlscert", "tlskey"} {
		f.String(path, "", "")
	}
	c.engine.Getenv = env.Getenv
	root.AddCommand(c.dockline(), &cobra.Command{
		Use: "docker-cli-plugin-metadata", Hidden: true, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "     ")
			return enc.Encode(metadata{"0.1.0", "dockline", env.Version, short, "https://github.com/dockline/dockline"})
		},
	})
	root.SetUsageTemplate(usage)
	plainUse(root)
	return root
}

// plainUse has usage lines say what Use does, and no more.
func plainUse(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	cmd.Flags().SortFlags = true
	for _, sub := range cmd.Commands() {
		plainUse(sub)
	}
}

// usage is laid out as the docker command's.
const usage = `Usage:  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}
{{- if gt (len .Aliases) 0}}

Aliases:
  {{.NameAndAliases}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableLocalFlags}}

Options:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Options of all its kind:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

Run '{{.CommandPath}} COMMAND --help' for more information on a command.{{end}}
`

// common is what all commands share.
type common struct {
	env    Env
	engine engine.Options
}

func (c *common) dockline() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: name, Short: short,
		Long: `Look into dockline's log and network plugins, and tell them what to do.

The plugins answer root alone, on sockets of the machine that the engine runs on.`,
		Example: `  docker dockline log status
  docker dockline log where web --since 2h
  docker dockline net check`,
	}, c.logs(), c.nets(), c.version(), c.bugReport())
	cmd.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	return cmd
}

// group makes a command that only has others, and says which as docker's do.
func group(cmd *cobra.Command, of ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("docker: '%s %s' is not a docker command.", cmd.CommandPath(), args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf(" Did you mean '%s %s'?", cmd.CommandPath(), near[0])
		}
		return fmt.Errorf("%s\nSee '%s --help'", text, cmd.CommandPath())
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(cmd.ErrOrStderr())
		return cmd.Help()
	}
	cmd.AddCommand(of...)
	return cmd
}

// exactly refuses another number of arguments in the docker command's words.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		count := fmt.Sprintf("requires %d to %d arguments", least, most)
		switch {
		case most == 0:
			count = "accepts no arguments"
		case least == most && most == 1:
			count = "requires exactly 1 argument"
		case least == most:
			count = fmt.Sprintf("requires exactly %d arguments", most)
		case most == many:
			count = fmt.Sprintf("requires at least %d argument", least)
		}
		return fmt.Errorf("%q %s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", cmd.CommandPath(), count, cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}

// many is no upper bound.
const many = 1 << 30

// client is what this command is.
type client struct {
	Version string
	Commit  string
	Date    string // of the commit
	Go      string
	OS      string
	Arch    string
}

func (c *common) client() client {
	return client{c.env.Version, build.Commit, build.Date, runtime.Version(), runtime.GOOS, runtime.GOARCH}
}

func isRoot() bool { return os.Geteuid() == 0 }
