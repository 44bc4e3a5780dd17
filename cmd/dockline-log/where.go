package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver"
)

// whereQuery is what `dockline-log where` is asked.
type whereQuery struct{ container, since, until, format string }

func (q *whereQuery) flags(f *flag.FlagSet) {
	f.StringVar(&q.since, "since", "", "")
	f.StringVar(&q.until, "until", "", "")
	f.StringVar(&q.format, "format", "table", "")
}

// take takes the container from the arguments and returns the others.
func (q *whereQuery) take(args []string) ([]string, error) {
	if q.format != "table" && q.format != "json" {
		return nil, fmt.Errorf("-format %q is neither table nor json", q.format)
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("say of which container: its name, or the beginning of its id\n%s", usage)
	}
	q.container = args[0]
	return args[1:], nil
}

func (q *whereQuery) ask(ctx context.Context, socket string) error {
	v := url.Values{"container": {q.container}}
	if q.since != "" {
		v.Set("from", q.since)
	}
	if q.until != "" {
		v.Set("to", q.until)
	}
	var answer bytes.Buffer
	if err := admin.Get(ctx, socket, "/where?"+v.Encode(), &answer); err != nil {
		return err
	}
	if q.format == "json" {
		_, err := answer.WriteTo(os.Stdout)
		return err
	}
	var w logdriver.Where
	if err := json.Unmarshal(answer.Bytes(), &w); err != nil {
		return fmt.Errorf("read the plugin's answer: %w", err)
	}
	return printWhere(os.Stdout, &w)
}

// printWhere writes a table for each container, and below it what it cannot say.
func printWhere(out io.Writer, w *logdriver.Where) error {
	var b strings.Builder
	for i, c := range w.Containers {
		if i > 0 {
			b.WriteByte('\n')
		}
		printContainer(&b, &c)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printContainer(b *strings.Builder, c *logdriver.ContainerRecords) {
	fmt.Fprintf(b, "%s  %s\n", c.Name, c.Container[:min(12, len(c.Container))])
	if len(c.Intervals) > 0 {
		table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "COLLECTOR\tPOOL\tFROM\tTO\tRECORDS\tBYTES\tALONE")
		for _, i := range c.Intervals {
			more, alone := "", "no"
			if i.AtLeast {
				more = "+"
			}
			if i.Exact {
				alone = "yes"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d%s\t%s\t%s\n", i.Collector, i.Pool, stamp(i.From), stamp(i.To), i.Records, more, units.BytesSize(float64(i.Bytes)), alone)
		}
		_ = table.Flush() // into a strings.Builder
	} else {
		fmt.Fprintln(b, "no collector is known to hold any of that time")
	}
	if !c.Complete {
		fmt.Fprintf(b, "Known since %s: what was acknowledged before may be elsewhere.\n", stamp(c.KnownSince))
	}
	for _, g := range c.Gaps {
		fmt.Fprintf(b, "What was acknowledged from %s to %s may be elsewhere: %s.\n", stamp(g.From), stamp(g.To), g.Why)
	}
	if c.UndeliveredBytes > 0 {
		fmt.Fprintf(b, "%s since about %s are in the spool, with no collector yet.\n", units.BytesSize(float64(c.UndeliveredBytes)), stamp(c.UndeliveredSince))
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
