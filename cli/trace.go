package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/trace"
)

// untraced is the exit code where it could not be found out whether A reaches B.
const untraced = 2

func (t *target) trace() *cobra.Command {
	var form string
	var timeout time.Duration
	var verbose bool
	cmd := &cobra.Command{
		Use: "trace [OPTIONS] A B", Short: "Say why container A does not reach B", Args: exactly(2),
		ValidArgsFunction: completions(t.ends, 2),
		Long: `Say why container A does not reach B: what links, routes, neighbours, firewalls and
counters on the way say, and a verdict in words.

A is a container on a dockline-net network of this host: its name, its address, or
the beginning of its endpoint's ID. B is another one, or any address or host by name.
Echoes, and questions by ARP or neighbour discovery, go to B and the gateway on the
way there, nowhere else.

The exit code is 0 where A reaches B, 1 where not, 2 where that could not be found out.`,
		Example: `  docker dockline net trace web db
  docker dockline net trace web 192.168.1.10
  docker dockline net trace --format '{{.Verdict.Words}}' web nas.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("it took longer than %v: --timeout gives it more", timeout))
			defer cancel()
			report, err := t.traced(ctx, cmd, args, verbose)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			if err != nil {
				return &exit{untraced, err.Error()}
			}
			if err := format.One(cmd.OutOrStdout(), form, report, report.Print); err != nil {
				return &exit{untraced, err.Error()}
			}
			if !report.Verdict.OK {
				return &exit{code: 1}
			}
			return nil
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	cmd.Flags().DurationVar(&timeout, "timeout", trace.Within, "How long it may take")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Say on stderr what is being done")
	return cmd
}

func (t *target) traced(ctx context.Context, cmd *cobra.Command, args []string, verbose bool) (*trace.Report, error) {
	socket, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	var progress func(string)
	if verbose {
		progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
	}
	report, err := trace.Ask(ctx, socket, v.end(args[0]), v.end(args[1]), progress)
	if no := new(admin.RefusedError); errors.As(err, &no) && no.Unknown {
		return nil, fmt.Errorf("dockline-net is of a version that cannot trace: see docker dockline version: %w", err)
	}
	return report, err
}

// end is what the plugin calls a container; other names are left to it.
func (v *view) end(name string) string {
	for id, container := range v.containers {
		if container == name {
			return id
		}
	}
	return name
}

// ends are the containers that a trace may begin at.
func (t *target) ends(ctx context.Context) ([]string, error) {
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range v.containers {
		names = append(names, name)
	}
	return names, nil
}
