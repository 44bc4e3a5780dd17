package cli

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/logdriver/admin"
)

func (t *target) where() *cobra.Command {
	var form, since, until string
	cmd := &cobra.Command{
		Use: "where [OPTIONS] CONTAINER", Short: "Say which collectors hold a container's records", Args: exactly(1),
		ValidArgsFunction: completions(t.containers, 1),
		Long: `Say which collectors hold a container's records, also when it is gone.

Times are those of the records. ALONE means that no other collector of the pool
holds anything of that time. A + behind a count says that there are more.`,
		Example: `  docker dockline log where web
  docker dockline log where web --since 2h --until 30m
  docker dockline log where web --format '{{join .Collectors ","}}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"container": {args[0]}}
			if since != "" {
				q.Set("from", since)
			}
			if until != "" {
				q.Set("to", until)
			}
			var w admin.Where
			if err := t.get(cmd.Context(), "/where", q, &w); err != nil {
				return err
			}
			for i, one := range w.Containers {
				if i > 0 && (form == "" || form == "table") {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := format.One(cmd.OutOrStdout(), form, one, func(out io.Writer) error { return printContainer(out, &one) }); err != nil {
					return err
				}
			}
			return nil
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	cmd.Flags().StringVar(&since, "since", "", `Only records since then: "2006-01-02T15:04:05Z", seconds since 1970, or how long ago ("90m")`)
	cmd.Flags().StringVar(&until, "until", "", "Only records until then")
	return cmd
}

// printContainer writes a table, and below it what it cannot say.
func printContainer(out io.Writer, c *admin.ContainerRecords) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", c.Name, short12(c.Container, false))
	if len(c.Intervals) > 0 {
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "COLLECTOR\tPOOL\tFROM\tTO\tRECORDS\tBYTES\tALONE")
		for _, i := range c.Intervals {
			more, alone := "", "no"
			if i.AtLeast {
				more = "+"
			}
			if i.Exact {
				alone = "yes"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d%s\t%s\t%s\n", i.Collector, i.Pool, stamp(i.From), stamp(i.To), i.Records, more, size(i.Bytes), alone)
		}
		_ = table.Flush() // into a strings.Builder
	} else {
		fmt.Fprintln(&b, "no collector is known to hold any of that time")
	}
	if !c.Complete {
		fmt.Fprintf(&b, "Known since %s: what was acknowledged before may be elsewhere.\n", stamp(c.KnownSince))
	}
	for _, g := range c.Gaps {
		fmt.Fprintf(&b, "What was acknowledged from %s to %s may be elsewhere: %s.\n", stamp(g.From), stamp(g.To), g.Why)
	}
	if c.UndeliveredBytes > 0 {
		fmt.Fprintf(&b, "%s since about %s are in the spool, with no collector yet.\n", size(c.UndeliveredBytes), stamp(c.UndeliveredSince))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (t *target) explain() *cobra.Command {
	var form, pool string
	cmd := &cobra.Command{
		Use: "explain [OPTIONS] KEY", Short: "Say where the records of a key go, and why there", Args: exactly(1),
		ValidArgsFunction: completions(t.containers, 1),
		Long: `Say where the records of a key go, and why there: each pool's collectors in the
order in which they are asked to take it, and why those before the one that has it
do not. KEY is a container's name or the beginning of its ID, whose key is then
looked up, or a key of its own: the value of what hash= names.

The order is the same on every host with the same collectors.`,
		Example: `  docker dockline log explain web
  docker dockline log explain payments --pool audit    # hash=label:com.example.team`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"key": {args[0]}}
			if pool != "" {
				q.Set("pool", pool)
			}
			var e admin.Explanation
			if err := t.get(cmd.Context(), "/explain", q, &e); err != nil {
				return err
			}
			return format.One(cmd.OutOrStdout(), form, e, func(w io.Writer) error { return printExplanation(w, &e) })
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	cmd.Flags().StringVar(&pool, "pool", "", "Ask this pool alone")
	return cmd
}

func printExplanation(out io.Writer, e *admin.Explanation) error {
	var b strings.Builder
	switch {
	case e.Container == "":
		fmt.Fprintf(&b, "Key %q; no container that is known has this name or ID.\n", e.Key)
	case e.PerRecord:
		fmt.Fprintf(&b, "Container %s  %s: each record has a key of its own, its id (hash=record).\n", e.Name, short12(e.Container, false))
	default:
		fmt.Fprintf(&b, "Container %s  %s has the key %q (hash=%s).\n", e.Name, short12(e.Container, false), e.Key, e.Hash)
	}
	if e.ChosenBy != "" {
		fmt.Fprintf(&b, "Its pools are chosen by: %s.\n", e.ChosenBy)
	}
	if e.NoRecordTo != "" {
		fmt.Fprintln(&b, e.NoRecordTo)
	}
	if e.Container == "" && len(e.Pools) == 0 {
		fmt.Fprintln(&b, "There are no pools: the plugin has no collectors (COLLECTORS, or a configuration), so records stay on this host, for docker logs.")
	}
	for _, p := range e.Pools {
		printRanking(&b, p)
	}
	if len(e.MorePools) > 0 && len(e.Pools) > 0 {
		fmt.Fprintf(&b, "\nOther pools: %s.\n", strings.Join(e.MorePools, ", "))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printRanking(b *strings.Builder, p admin.PoolRanking) {
	who := p.Takes
	if who == "" {
		who = "nobody"
	}
	fmt.Fprintf(b, "\nPool %s: %s has it: %s.\n", p.Pool, who, p.Why)
	if len(p.Ranks) == 0 {
		return
	}
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RANK\tCOLLECTOR\tWEIGHT\tFIRST FOR\tWHY")
	for _, r := range p.Ranks {
		weight, share := "-", "-"
		if r.Weight > 0 {
			weight, share = strconv.FormatUint(uint64(r.Weight), 10), fmt.Sprintf("%.1f%%", 100*r.Share)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", r.Rank, r.Collector, weight, share, r.Why)
	}
	_ = table.Flush() // into a strings.Builder
}
