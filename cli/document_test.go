package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dockline/dockline/cli"
	"github.com/dockline/dockline/internal/testdoc"
)

//go:generate go test . -run ^TestDocument$ -update

// docs/cli.md says what the commands' help does.
func TestDocument(t *testing.T) {
	testdoc.Check(t, "../docs/cli.md", "<!-- commands -->\n", commands(t))
}

func commands(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	root := cli.New(cli.Env{Getenv: func(string) string { return "" }})
	ours, _, err := root.Find([]string{"dockline"})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(&b, "| command | |\n|---|---|\n")
	each(ours, func(c *cobra.Command) {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	})
	each(ours, func(c *cobra.Command) { describe(t, &b, c) })
	return b.String()
}

// each visits the commands that do something, in order.
func each(c *cobra.Command, visit func(*cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.HasSubCommands() {
			each(sub, visit)
		} else if sub.IsAvailableCommand() {
			visit(sub)
		}
	}
}

func describe(t *testing.T, b *strings.Builder, c *cobra.Command) {
	t.Helper()
	if c.Short == "" || c.Example == "" {
		t.Errorf("%s has no help, or no example", c.CommandPath())
	}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n```usage\n%s\n```\n\n```text\n%s\n```\n\n```sh\n%s\n```\n", c.CommandPath(), c.UseLine(), long, dedent(c.Example))
	var rows strings.Builder
	c.InitDefaultHelpFlag()
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", name, f.Value.Type(), f.Usage)
	})
	if rows.Len() > 0 {
		fmt.Fprintf(b, "\n| option | | |\n|---|---|---|\n%s", rows.String())
	}
}

func dedent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}
