package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/trace"
)

// untraced is the exit code where it could not be found out whether A reaches B.
const untraced = 2

func (t *target) trace() *cobra.Command {
	var form, network string
	var timeout time.Duration
	var verbose bool
	cmd := &cobra.Command{
		Use: "trace [OPTIONS] A B", Short: "Say why container A does not reach B", Args: exactly(2),
		ValidArgsFunction: completions(t.ends, 2),
		Long: `Say why container A does not reach B: what links, routes, neighbours, firewalls and
counters on the way say, and a verdict in words.

A is a container on a dockline-net network of this host: its name or ID, its address,
or the beginning of its endpoint's ID. B is another one, or any address or host by
name. Of containers on several networks a common one is taken, else the one by which
A sends to B; --network chooses another.

Echoes, and questions by ARP or neighbour discovery, go to B and the gateway on the
way there, nowhere else.

The exit code is 0 where A reaches B, 1 where not, 2 where that could not be found out.`,
		Example: `  docker dockline net trace web db
  docker dockline net trace web 192.168.1.10
  docker dockline net trace --format '{{.Verdict.Words}}' web nas.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("it took longer than %v: --timeout gives it more", timeout))
			defer cancel()
			report, err := t.traced(ctx, cmd, args, network, verbose)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx) // whatever it was that took so long
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
	cmd.Flags().StringVar(&network, "network", "", "Network to trace on, for containers on several")
	_ = cmd.RegisterFlagCompletionFunc("network", completions(t.networkNames, many))
	cmd.Flags().DurationVar(&timeout, "timeout", trace.Within, "How long it may take")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Say on stderr what is being done")
	return cmd
}

func (t *target) traced(ctx context.Context, cmd *cobra.Command, args []string, network string, verbose bool) (*trace.Report, error) {
	socket, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	only := ""
	if network != "" {
		n, err := v.find(network)
		if err != nil {
			return nil, err
		}
		only = n.ID
	}
	from, err1 := t.traceEnd(ctx, v, args[0])
	to, err2 := t.traceEnd(ctx, v, args[1])
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for name, end := range map[string]*traceEnd{trace.From: from, trace.To: to} {
		if end.stopped != "" {
			return trace.Stopped(trace.Intended{Asked: args[0]}, trace.Intended{Asked: args[1]}, name, end.stopped), nil
		}
	}
	a, b, err := chosen(from, to, only)
	if err != nil {
		return nil, err
	}
	var progress func(string)
	if verbose {
		progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
	}
	report, err := trace.Ask(ctx, socket, a, b, progress)
	if no := new(admin.RefusedError); errors.As(err, &no) && no.Unknown {
		return nil, fmt.Errorf("dockline-net is of a version that cannot trace: see docker dockline version: %w", err)
	}
	if report != nil {
		report.From.Asked, report.To.Asked = args[0], args[1]
	}
	return report, err
}

// traceEnd is an end of a trace as the engine knows it.
type traceEnd struct {
	name      string
	container bool
	stopped   string            // its state, if it does not run
	own       map[string]string // endpoints on our networks, by the networks' IDs
	networks  []string          // of those, by name
	others    []string          // networks of other drivers
	address   string            // on one of those
}

// traceEnd looks whether a name is a container's. What is not is left to the
// plugin, as is everything where no engine answers.
func (t *target) traceEnd(ctx context.Context, v *view, name string) (*traceEnd, error) {
	end := &traceEnd{name: name, own: map[string]string{}}
	if _, err := netip.ParseAddr(name); err == nil || url.PathEscape(name) != name {
		return end, nil // an address needs no engine
	}
	e, err := engine.Dial(t.engine)
	if err != nil {
		return end, nil //nolint:nilerr // names are a convenience
	}
	var known struct {
		State           struct{ Status string }
		HostConfig      struct{ NetworkMode string }
		NetworkSettings struct {
			Networks map[string]struct{ NetworkID, EndpointID, IPAddress, GlobalIPv6Address string }
		}
	}
	if err := e.Get(ctx, "/containers/"+name+"/json", &known); err != nil {
		return end, nil //nolint:nilerr // it is no container, or nobody says
	}
	end.container = true
	switch known.State.Status {
	case "running", "paused":
	default:
		end.stopped = known.State.Status
		return end, nil
	}
	ours := map[string]bool{}
	for _, n := range v.Networks {
		ours[n.ID] = true
	}
	for _, network := range slices.Sorted(maps.Keys(known.NetworkSettings.Networks)) {
		at := known.NetworkSettings.Networks[network]
		if ours[at.NetworkID] {
			end.own[at.NetworkID] = at.EndpointID
			end.networks = append(end.networks, at.NetworkID)
			continue
		}
		end.others = append(end.others, network)
		end.address = cmp.Or(end.address, at.IPAddress, at.GlobalIPv6Address)
	}
	if known.HostConfig.NetworkMode == "host" {
		end.others = []string{"host"}
	}
	return end, nil
}

// chosen are the ends as the plugin knows them.
func chosen(from, to *traceEnd, only string) (a, b string, err error) {
	a, b = from.name, to.name
	switch {
	case from.container && len(from.own) == 0:
		return "", "", fmt.Errorf("the container %s is on no dockline-net network of this host (but on: %s): a trace begins on one", from.name, orDash(strings.Join(from.others, ", ")))
	case only != "" && from.container && from.own[only] == "":
		return "", "", fmt.Errorf("the container %s is not on that network", from.name)
	case from.container:
		common := slices.IndexFunc(from.networks, func(id string) bool { return to.own[id] != "" })
		on := cmp.Or(only, from.networks[max(0, common)])
		a = from.own[on]
		if to.container && len(to.own) > 0 {
			b = cmp.Or(to.own[on], to.own[to.networks[0]])
		}
	case to.container && len(to.own) > 0:
		b = to.own[to.networks[0]]
	}
	if to.container && len(to.own) == 0 {
		if to.address == "" {
			return "", "", fmt.Errorf("the container %s has no address of its own (network: %s): name an address, such as one of the host", to.name, orDash(strings.Join(to.others, ", ")))
		}
		b = to.address
	}
	return a, b, nil
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
