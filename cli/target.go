package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/internal/admin"
)

// target is the plugin that commands are about.
type target struct {
	*common
	kind   engine.Kind
	socket string // --socket
	plugin string // --plugin
}

// flags adds the options that choose the plugin, which commands below a group inherit.
func (t *target) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&t.socket, "socket", "", fmt.Sprintf("The plugin's own socket, admin.sock, instead of asking the engine for %s", t.kind))
	f.StringVar(&t.plugin, "plugin", "", "Name or ID of the plugin, if there are several")
}

// find returns the socket to ask on.
func (t *target) find(ctx context.Context) (string, error) {
	if t.socket != "" {
		if err := engine.CheckSocket(t.socket); err != nil {
			return "", fmt.Errorf("%s: %w", t.socket, err)
		}
		return t.socket, nil
	}
	e, err := engine.Dial(t.engine)
	if err != nil {
		return "", err
	}
	p, err := e.Plugin(ctx, t.kind, t.plugin)
	if err != nil {
		return "", err
	}
	return e.AdminSocket(p)
}

// How long a plugin may take: to say what it has, for which it waits for nobody,
// and to change something.
const (
	patience       = 10 * time.Second
	changePatience = 2 * time.Minute
)

// call is admin.Get or admin.Post.
type call func(ctx context.Context, socket, path string, w io.Writer) error

// get asks the plugin and decodes its answer.
func (t *target) get(ctx context.Context, path string, query url.Values, to any) error {
	return t.ask(ctx, patience, admin.Get, path, query, to)
}

// change is get for what changes something.
func (t *target) change(ctx context.Context, path string, query url.Values, to any) error {
	return t.ask(ctx, changePatience, admin.Post, path, query, to)
}

func (t *target) ask(ctx context.Context, most time.Duration, by call, path string, query url.Values, to any) error {
	body, err := t.raw(ctx, most, by, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("read the answer of %s to %s: %w", t.kind, path, err)
	}
	return nil
}

func (t *target) raw(ctx context.Context, most time.Duration, by call, path string, query url.Values) ([]byte, error) {
	socket, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var b bytes.Buffer
	within, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err = by(within, socket, path, &b)
	if ctx.Err() == nil && within.Err() != nil {
		return nil, fmt.Errorf("%s has not answered for %v: it hangs, or has too much to do; the engine's log may say why, and docker dockline bug-report gathers what there is", t.kind, most)
	}
	if no := new(admin.RefusedError); errors.As(err, &no) && no.Unknown {
		return nil, fmt.Errorf("%s does not know this call: it is of another version than this command (%s), or not set up for it; see docker dockline version: %w", t.kind, t.env.Version, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.kind, err)
	}
	return b.Bytes(), nil
}

// unknown reports whether the plugin has no such call.
func unknown(err error) bool {
	no := new(admin.RefusedError)
	return errors.As(err, &no) && no.Unknown
}

// listFlags adds --format and --quiet, which is fields alone, to what lists.
func listFlags(cmd *cobra.Command, to *string, quiet *bool, of string) {
	formatFlag(cmd, to, format.Help)
	cmd.Flags().BoolVarP(quiet, "quiet", "q", false, "Only display "+of)
}

// quietly is the format of a list that is to have one field alone.
func quietly(cmd *cobra.Command, form string, quiet bool, field string) string {
	if !quiet {
		return form
	}
	if form != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: Ignoring custom format, because both --format and --quiet are set.") // the docker command's words
	}
	return "{{." + field + "}}"
}

// formatFlag adds --format.
func formatFlag(cmd *cobra.Command, to *string, help string) {
	cmd.Flags().StringVar(to, "format", "", help)
	words := []string{"json"}
	if help == format.Help {
		words = append(words, "table")
	}
	_ = cmd.RegisterFlagCompletionFunc("format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	})
}

// completions offers words that a plugin knows; none where it cannot be asked. The
// shell waits for them.
func completions(of func(context.Context) ([]string, error), most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
		defer cancel()
		words, err := of(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		slices.Sort(words)
		return slices.DeleteFunc(slices.Compact(words), func(w string) bool { return w == "" || slices.Contains(args, w) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// metricsCommand prints a plugin's metrics.
func (t *target) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "metrics", Short: "Show the plugin's metrics as Prometheus reads them", Args: exactly(0),
		Example:           fmt.Sprintf("  docker dockline %s metrics | grep _total", strings.TrimPrefix(string(t.kind), "dockline-")),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := t.raw(cmd.Context(), patience, admin.Get, "/metrics", nil)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

// short12 is an id as docker shows it.
func short12(id string, whole bool) string {
	if whole {
		return id
	}
	return format.Truncate(id, 12)
}

// orDash fills a column in which there would be nothing.
func orDash(s string) string { return cmp.Or(s, "-") }
