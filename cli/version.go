package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/internal/admin"
)

// versions are those of all that take part.
type versions struct {
	Client  client
	Plugins []pluginVersion
	Engine  *engineVersion // nil: it cannot be reached
}

// pluginVersion is a plugin, or why there is none to ask.
type pluginVersion struct {
	Kind    string
	Name    string `json:",omitempty"`
	ID      string `json:",omitempty"`
	Enabled bool
	Version string `json:",omitempty"`
	Commit  string `json:",omitempty"`
	Date    string `json:",omitempty"` // of the commit
	Go      string `json:",omitempty"`
	Arch    string `json:",omitempty"`
	Problem string `json:",omitempty"`
}

// engineVersion is part of what docker version shows.
type engineVersion struct {
	Addr          string
	Version       string
	APIVersion    string `json:"ApiVersion"`
	KernelVersion string
	Os            string
	Arch          string
}

func (c *common) version() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the versions of this command, both plugins and the engine", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  docker dockline version
  docker dockline version --format json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := c.versions(cmd.Context())
			if said := format.One(cmd.OutOrStdout(), form, v, func(w io.Writer) error { return printVersions(w, v) }); said != nil {
				return said
			}
			return err
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	return cmd
}

// versions asks everybody. The error is why the engine cannot be reached; what is
// wrong with a plugin is said beside it, for either may be missing on purpose.
func (c *common) versions(ctx context.Context) (versions, error) {
	v := versions{Client: c.client(), Plugins: []pluginVersion{}}
	e, err := engine.Dial(c.engine)
	if err != nil {
		return v, err
	}
	v.Engine = &engineVersion{Addr: e.Addr}
	if err := e.Get(ctx, "/version", v.Engine); err != nil {
		v.Engine = nil
		return v, err
	}
	for _, kind := range []engine.Kind{engine.Log, engine.Net} {
		one := pluginVersion{Kind: string(kind)}
		p, err := e.Plugin(ctx, kind, "")
		one.Name, one.ID, one.Enabled = p.Name, p.ID, p.Enabled
		if err == nil {
			var said admin.Version
			t := target{common: c, kind: kind}
			if t.socket, err = e.AdminSocket(p); err == nil {
				err = t.get(ctx, "/version", nil, &said)
			}
			one.Version, one.Commit, one.Date = said.Version, said.Commit, said.Date
			one.Go, one.Arch = said.Go, said.Arch
		}
		if err != nil {
			one.Problem = err.Error()
		}
		v.Plugins = append(v.Plugins, one)
	}
	return v, nil
}

func printVersions(out io.Writer, v versions) error {
	w := tabwriter.NewWriter(out, 20, 1, 1, ' ', 0)
	fmt.Fprintf(w, "Client:\n Version:\t%s\n Commit:\t%s\n Date:\t%s\n Go version:\t%s\n OS/Arch:\t%s/%s\n", v.Client.Version, v.Client.Commit, v.Client.Date, v.Client.Go, v.Client.OS, v.Client.Arch)
	for _, p := range v.Plugins {
		fmt.Fprintf(w, "\n%s:\n", p.Kind)
		if p.Name != "" {
			fmt.Fprintf(w, " Name:\t%s\n ID:\t%s\n", p.Name, short12(p.ID, false))
		}
		if p.Version != "" {
			fmt.Fprintf(w, " Version:\t%s\n Commit:\t%s\n Date:\t%s\n Go version:\t%s\n", p.Version, p.Commit, p.Date, p.Go)
		}
		if p.Problem != "" {
			fmt.Fprintf(w, " Problem:\t%s\n", p.Problem)
		}
	}
	if e := v.Engine; e != nil {
		fmt.Fprintf(w, "\nEngine:\n Address:\t%s\n Version:\t%s\n API version:\t%s\n OS/Arch:\t%s/%s\n Kernel:\t%s\n", e.Addr, e.Version, e.APIVersion, e.Os, e.Arch, e.KernelVersion)
	}
	return w.Flush()
}
