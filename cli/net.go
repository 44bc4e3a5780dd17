package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/netdriver/admin"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/reconcile"
)

func (c *common) nets() *cobra.Command {
	t := &target{common: c, kind: engine.Net}
	cmd := group(&cobra.Command{Use: "net", Short: "Look into dockline-net, the network driver"},
		t.netLs(), t.netInspect(), t.netCheck(), t.netReconcile(), t.addr(), t.trace(), t.netConfirm(), t.netRemove(), t.metricsCommand())
	t.flags(cmd)
	return cmd
}

// view is what the plugin says, with the names that the engine knows.
type view struct {
	admin.Status
	names      map[string]string // of networks, by id
	containers map[string]string // by endpoint id
}

// look asks the plugin, and the engine for names. Without the engine there are none.
func (t *target) look(ctx context.Context) (*view, error) {
	v := &view{names: map[string]string{}, containers: map[string]string{}}
	if err := t.get(ctx, "/status", nil, &v.Status); err != nil {
		return nil, err
	}
	e, err := engine.Dial(t.engine)
	if err != nil {
		return v, nil //nolint:nilerr // names are a convenience
	}
	for _, n := range v.Networks {
		var known struct {
			Name       string
			Containers map[string]struct{ Name, EndpointID string }
		}
		if e.Get(ctx, "/networks/"+n.ID, &known) != nil {
			continue
		}
		v.names[n.ID] = known.Name
		for _, c := range known.Containers {
			v.containers[c.EndpointID] = c.Name
		}
	}
	return v, nil
}

// find returns the network of a name, an id, or the beginning of one.
func (v *view) find(name string) (*admin.Network, error) {
	var found []*admin.Network
	for i := range v.Networks {
		n := &v.Networks[i]
		if n.ID == name || v.names[n.ID] == name {
			return n, nil
		}
		if strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("dockline-net has no network %q: see docker dockline net ls", name)
	}
	return nil, fmt.Errorf("%d networks have an ID that begins with %q: say more of it", len(found), name)
}

func (v *view) name(id string) string { return cmp.Or(v.names[id], network.Short(id)) }

// container is whose endpoint it is, as far as that is known.
func (v *view) container(endpoint string) string {
	return cmp.Or(v.containers[endpoint], "endpoint "+network.Short(endpoint))
}

func (t *target) networkNames(ctx context.Context) ([]string, error) {
	v, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, n := range v.Networks {
		all = append(all, v.name(n.ID))
	}
	return all, nil
}

// netRow is a network as it is listed.
type netRow struct {
	ID          string `header:"NETWORK ID"`
	Name        string `header:"NAME"`
	Mode        string `header:"MODE"`
	Parent      string `header:"PARENT"`
	Subnets     string `header:"SUBNETS"`
	Endpoints   string `header:"ENDPOINTS"`
	Differences string `header:"DIFFERENCES"`
	MTU         string `header:"MTU,wide"`
	Bridge      string `header:"BRIDGE,wide"`
}

func (t *target) netLs() *cobra.Command {
	var form string
	var whole, quiet bool
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `List networks. DIFFERENCES counts what is not as it is meant to be, of the network
and its endpoints; docker dockline net check says what.`,
		Example: `  docker dockline net ls
  docker dockline net ls --format 'table {{.Name}}\t{{.Parent}}\t{{.MTU}}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := t.look(cmd.Context())
			if err != nil {
				return err
			}
			var rows []netRow
			for _, n := range v.Networks {
				rows = append(rows, v.row(n, whole))
			}
			slices.SortFunc(rows, func(a, b netRow) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
			return format.List(cmd.OutOrStdout(), quietly(cmd, form, quiet, "ID"), rows)
		},
	}
	listFlags(cmd, &form, &quiet, "network IDs")
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "Don't truncate output")
	return cmd
}

func (v *view) row(n admin.Network, whole bool) netRow {
	d := n.Intended
	r := netRow{
		ID: short12(n.ID, whole), Name: orDash(v.names[n.ID]), Mode: string(d.Mode), Parent: orDash(d.Parent),
		Endpoints: strconv.Itoa(len(n.Endpoints)), MTU: "parent's", Bridge: orDash(d.BridgeName),
	}
	if d.Mode != network.Bridge && d.MacvlanMode != "" {
		r.Mode += " (" + string(d.MacvlanMode) + ")"
	}
	if d.MTU > 0 {
		r.MTU = strconv.Itoa(d.MTU)
	}
	var subnets []string
	for _, p := range d.Pools {
		subnets = append(subnets, p.Prefix.String())
	}
	r.Subnets = orDash(strings.Join(subnets, ", "))
	differ := len(n.Difference)
	for _, e := range n.Endpoints {
		differ += len(e.Difference)
	}
	r.Differences = strconv.Itoa(differ)
	return r
}

// inspected is what the plugin knows of a network, with the engine's names.
type inspected struct {
	Name       string            `json:"name,omitempty"`
	Containers map[string]string `json:"containers,omitempty"` // by their endpoints' ids
	*admin.Network
}

func (v *view) inspect(n *admin.Network) inspected {
	one := inspected{v.names[n.ID], map[string]string{}, n}
	for _, e := range n.Endpoints {
		if name := v.containers[e.ID]; name != "" {
			one.Containers[e.ID] = name
		}
	}
	return one
}

func (t *target) netInspect() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Display what is meant, what there is, and the difference", Args: between(1, many),
		ValidArgsFunction: completions(t.networkNames, many),
		Example: `  docker dockline net inspect lan
  docker dockline net inspect --format '{{range .Endpoints}}{{.IPv4}} {{end}}' lan`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := t.look(cmd.Context())
			if err != nil {
				return err
			}
			var found []inspected
			for _, name := range args {
				n, err := v.find(name)
				if err != nil {
					return err
				}
				found = append(found, v.inspect(n))
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			switch form {
			case "":
				enc.SetIndent("", "    ")
				return enc.Encode(found)
			case "json":
				return enc.Encode(found)
			}
			for _, n := range found {
				if err := format.One(cmd.OutOrStdout(), form, n, nil); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&form, "format", "f", "", format.HelpOne)
	return cmd
}

// difference is one, as it is listed.
type difference struct {
	Network    string `header:"NETWORK"`
	Of         string `header:"OF"`
	Difference string `header:"DIFFERENCE"`
}

func (t *target) netCheck() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "check [OPTIONS] [NETWORK...]", Short: "Compare what is intended with what there is", Args: between(0, many),
		ValidArgsFunction: completions(t.networkNames, many),
		Long: `Compare what is intended with what there is: networks, endpoints, and links that
belong to nothing. The exit code is 1 if anything differs. While a container starts
or stops, its endpoint may differ for a moment.`,
		Example: `  docker dockline net check
  docker dockline net check lan || docker dockline net reconcile`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := t.look(cmd.Context())
			if err != nil {
				return err
			}
			all, networks, endpoints, err := v.differences(args)
			if err != nil {
				return err
			}
			if len(all) == 0 && (form == "" || form == "table") {
				fmt.Fprintf(cmd.OutOrStdout(), "all is as it is meant to be: networks %d, endpoints %d\n", networks, endpoints)
				return nil
			}
			if err := format.List(cmd.OutOrStdout(), form, all); err != nil {
				return err
			}
			if len(all) > 0 {
				return &exit{code: 1}
			}
			return nil
		},
	}
	formatFlag(cmd, &form, format.Help)
	return cmd
}

// differences lists those of some networks, or of all and the strays.
func (v *view) differences(of []string) (all []difference, networks, endpoints int, err error) {
	chosen := map[string]bool{}
	for _, name := range of {
		n, err := v.find(name)
		if err != nil {
			return nil, 0, 0, err
		}
		chosen[n.ID] = true
	}
	for _, n := range v.Networks {
		if len(of) > 0 && !chosen[n.ID] {
			continue
		}
		networks++
		for _, d := range n.Difference {
			all = append(all, difference{v.name(n.ID), "the network", d})
		}
		for _, e := range n.Endpoints {
			endpoints++
			for _, d := range e.Difference {
				all = append(all, difference{v.name(n.ID), v.container(e.ID), d})
			}
		}
	}
	if len(of) == 0 {
		for _, l := range v.Strays {
			all = append(all, difference{"-", l.Name, "the link belongs to nothing that is known; a reconcile removes it unless a container uses it"})
		}
	}
	return all, networks, endpoints, nil
}

func (t *target) netReconcile() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "reconcile [OPTIONS]", Short: "Make what there is as it is meant to be, now", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Make what there is as it is meant to be, now. The plugin does so by itself when
something changes, and every 30 s. The exit code is 1 if something cannot be put right.`,
		Example: "  docker dockline net reconcile",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rep reconcile.Report
			if err := t.change(cmd.Context(), "/reconcile", nil, &rep); err != nil {
				return err
			}
			err := format.One(cmd.OutOrStdout(), form, rep, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "repaired %d, adopted %d, abandoned %d, addresses released %d, in %v\n", rep.Repaired, rep.Adopted, rep.Abandoned, rep.Released, rep.Took.Round(time.Millisecond))
				return err
			})
			for id, said := range rep.Failing {
				fmt.Fprintf(cmd.ErrOrStderr(), "network %s: %s\n", network.Short(id), said)
			}
			if err == nil && len(rep.Failing) > 0 {
				return &exit{code: 1}
			}
			return err
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	return cmd
}

// onNetwork makes a command that does one thing to one network.
func (t *target) onNetwork(cmd *cobra.Command, may func(v *view, id string) error, path, done string) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = exactly(1), completions(t.networkNames, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := t.look(cmd.Context())
		if err != nil {
			return err
		}
		n, err := v.find(args[0])
		if err != nil {
			return err
		}
		if err := may(v, n.ID); err != nil {
			return err
		}
		var answer any
		if err := t.change(cmd.Context(), path, url.Values{"network": {n.ID}}, &answer); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), done+"\n", args[0])
		return nil
	}
	return cmd
}

func (t *target) netConfirm() *cobra.Command {
	return t.onNetwork(&cobra.Command{
		Use: "confirm NETWORK", Short: "Confirm that the host is still reached after its addresses moved to a bridge",
		Example: "  docker dockline net confirm lan",
	}, func(*view, string) error { return nil }, "/confirm", "the move of the host's addresses for %s is confirmed")
}

func (t *target) netRemove() *cobra.Command {
	return t.onNetwork(&cobra.Command{
		Use: "rm NETWORK", Short: "Remove a network that the engine does not know any more",
		Long: `Remove a network that the engine does not know any more, and on which no container
is. Use docker network rm for one that it knows.`,
		Example: "  docker dockline net rm 6f1c0e9a2b3d",
	}, func(v *view, id string) error {
		if name := v.names[id]; name != "" { // which the plugin cannot know
			return fmt.Errorf("the engine knows network %s: use docker network rm %s", network.Short(id), name)
		}
		return nil
	}, "/remove", "%s is removed")
}
