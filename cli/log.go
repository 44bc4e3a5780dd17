package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/cli/format"
	"github.com/dockline/dockline/logdriver"
	"github.com/dockline/dockline/logdriver/admin"
	"github.com/dockline/dockline/logdriver/poison"
)

func (c *common) logs() *cobra.Command {
	t := &target{common: c, kind: engine.Log}
	cmd := group(&cobra.Command{Use: "log", Short: "Look into dockline-log, the log driver"},
		t.status(), t.streams(), t.pools(), t.where(), t.explain(), t.poison(), t.drain(), t.metricsCommand(), c.checkConfig())
	t.flags(cmd)
	return cmd
}

func (t *target) logStatus(ctx context.Context) (s admin.Status, err error) {
	return s, t.get(ctx, "/status", nil, &s)
}

// containers are the names of those that the plugin knows.
func (t *target) containers(ctx context.Context) ([]string, error) {
	s, err := t.logStatus(ctx)
	var names []string
	for _, st := range s.Streams {
		names = append(names, st.Name)
	}
	return names, err
}

func (t *target) status() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "status [OPTIONS]", Short: "Show how the log driver fares", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  docker dockline log status
  docker dockline log status --format json
  docker dockline log status --format '{{.SpoolBytes}} of {{.SpoolMax}}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := t.logStatus(cmd.Context())
			if err != nil {
				return err
			}
			return format.One(cmd.OutOrStdout(), form, s, func(w io.Writer) error { return printStatus(w, s) })
		},
	}
	formatFlag(cmd, &form, format.HelpOne)
	return cmd
}

func printStatus(w io.Writer, s admin.Status) error {
	live, behind, most := 0, uint64(0), time.Time{}
	for _, st := range s.Streams {
		if st.Live {
			live++
		}
		behind += st.BacklogBytes
		if !st.BacklogSince.IsZero() && (most.IsZero() || st.BacklogSince.Before(most)) {
			most = st.BacklogSince
		}
	}
	healthy := 0
	for _, c := range s.Collectors {
		if c.Healthy {
			healthy++
		}
	}
	var b strings.Builder
	line := func(key, text string, args ...any) { fmt.Fprintf(&b, "%-15s%s\n", key+":", fmt.Sprintf(text, args...)) }
	source := s.Config.Source
	if source == "settings" {
		source = "the plugin's settings"
	}
	line("Configuration", "%s", cmp.Or(source, "none"))
	if len(s.Config.Pools) > 0 {
		line("Pools", "%s", strings.Join(s.Config.Pools, ", "))
	}
	line("Containers", "%d that log, %d that ended", live, len(s.Streams)-live)
	if len(s.Collectors) == 0 {
		line("Collectors", "none in use: no container's records go anywhere now")
	} else {
		line("Collectors", "%d of %d healthy", healthy, len(s.Collectors))
	}
	line("Spool", "%s of %s, in %d files", size(s.SpoolBytes), size(s.SpoolMax), s.Spool.Segments)
	line("Backlog", "%s%s", size(behind), waiting(most))
	line("Dropped", "%s since the plugin started", size(s.DroppedBytes))
	for _, said := range troubles(s) {
		line("Trouble", "%s", said)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// troubles says in words what is not well, and what to do.
func troubles(s admin.Status) (all []string) {
	add := func(text string, args ...any) { all = append(all, fmt.Sprintf(text, args...)) }
	if s.Refuses != "" {
		add("%s", s.Refuses)
	} else if s.DrainOnly {
		add("nothing is shipped for a while, for dockline-log died again and again; its log says why: docker dockline bug-report")
	}
	if s.Config.Refused != "" {
		add("a new configuration is refused, the one before goes on: %s", s.Config.Refused)
	}
	if s.Config.Error != "" {
		add("the configuration's source cannot be read: %s", s.Config.Error)
	}
	for _, src := range s.Sources {
		if src.Error != "" {
			add("%s does not say who the collectors are, the %d that it named last stay: %s", src.Source, src.Collectors, src.Error)
		}
	}
	for _, w := range s.Warnings {
		add("%s", w)
	}
	for _, c := range s.Collectors {
		switch {
		case !c.Healthy:
			add("collector %s of pool %s is down%s", c.Name, c.Pool, reason(c))
		case c.Shed > 0:
			add("collector %s of pool %s pushes back, and is relieved of %.0f%% of its keys%s", c.Name, c.Pool, 100*c.Shed, reason(c))
		}
	}
	for _, st := range s.Streams {
		if st.GivesWay {
			add("the spool is full: what %s writes gives way (%s); free disk space, or raise SPOOL_MAX", st.Name, st.OnFull)
		}
	}
	if h := s.Spool; h.Stuck > 0 || h.QuarantineFiles > 0 || h.CursorErrors > 0 {
		add("the spool's disk: %d moves hang, %d cursors could not be written, %s are in quarantine", h.Stuck, h.CursorErrors, size(h.QuarantineBytes))
	}
	return all
}

// reason is why a collector is not well, and for how long.
func reason(c admin.CollectorStatus) string {
	if c.Error == "" {
		return ""
	}
	return fmt.Sprintf(" for %s: %s", ago(c.ErrorSince), c.Error)
}

func size[T int64 | uint64 | float64](n T) string { return units.BytesSize(float64(n)) }

func waiting(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return ", the oldest for " + ago(since)
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return strings.ToLower(units.HumanDuration(time.Since(t)))
}

// streamRow is a stream as it is listed.
type streamRow struct {
	Stream    string `header:"STREAM,wide"`
	Container string `header:"CONTAINER ID"`
	Name      string `header:"NAME"`
	State     string `header:"STATE"`
	Pools     string `header:"POOLS"`
	Collector string `header:"COLLECTORS"` // in the order of the pools
	Backlog   string `header:"BACKLOG"`
	Waiting   string `header:"WAITING"`
	Spooled   string `header:"SPOOLED"`
	Rate      string `header:"RATE"`
	OnFull    string `header:"ON FULL,wide"`
	Split     string `header:"SPLIT,wide"`
}

func (t *target) streams() *cobra.Command {
	var form string
	var whole, quiet, behind bool
	cmd := &cobra.Command{
		Use: "streams [OPTIONS]", Aliases: []string{"ls"}, Short: "List containers' streams: where they go, and what waits", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  docker dockline log streams
  docker dockline log streams --behind
  docker dockline log streams --format 'table {{.Name}}\t{{.Backlog}}\t{{.OnFull}}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := t.logStatus(cmd.Context())
			if err != nil {
				return err
			}
			var rows []streamRow
			for _, st := range s.Streams {
				if !behind || st.BacklogBytes > 0 {
					rows = append(rows, rowOf(st, whole))
				}
			}
			return format.List(cmd.OutOrStdout(), quietly(cmd, form, quiet, "Container"), rows)
		},
	}
	listFlags(cmd, &form, &quiet, "container IDs")
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "Don't truncate output")
	cmd.Flags().BoolVar(&behind, "behind", false, "Only show those of which something is not delivered")
	return cmd
}

func rowOf(st admin.StreamStatus, whole bool) streamRow {
	r := streamRow{
		Stream: st.Stream, Container: short12(st.Container, whole), Name: st.Name, State: "ended",
		Backlog: size(st.BacklogBytes), Waiting: ago(st.BacklogSince), Spooled: size(st.SpooledBytes),
		Rate: size(st.Rate) + "/s", OnFull: st.OnFull, Split: strconv.Itoa(max(st.Split, 1)),
	}
	if st.Live {
		r.State = "live"
	}
	var pools, collectors []string
	for _, p := range st.Pools {
		pools, collectors = append(pools, p.Pool), append(collectors, orDash(p.Collector))
	}
	r.Pools, r.Collector = orDash(strings.Join(pools, ",")), orDash(strings.Join(collectors, ","))
	if st.PerRecord {
		r.Collector = "by record"
	} else if st.Split > 1 {
		r.Collector = fmt.Sprintf("%s (split over %d)", r.Collector, st.Split)
	}
	return r
}

// poolRow is a collector of a pool as it is listed.
type poolRow struct {
	Pool      string `header:"POOL"`
	Collector string `header:"COLLECTOR"`
	Health    string `header:"HEALTH"`
	Streams   string `header:"STREAMS"`
	Shed      string `header:"SHED"`
	AckTime   string `header:"ACKNOWLEDGES AFTER"`
	Since     string `header:"FAILING FOR"`
	Error     string `header:"ERROR"`
}

func (t *target) pools() *cobra.Command {
	var form string
	var whole bool
	cmd := &cobra.Command{
		Use: "pools [OPTIONS]", Short: "List pools and the health of their collectors", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Example: `  docker dockline log pools
  docker dockline log pools --format '{{.Pool}}/{{.Collector}}: {{.Health}}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := t.logStatus(cmd.Context())
			if err != nil {
				return err
			}
			rows := poolRows(s)
			for i := range rows {
				rows[i].Error = shorten(rows[i].Error, form, whole)
			}
			return format.List(cmd.OutOrStdout(), form, rows)
		},
	}
	formatFlag(cmd, &form, format.Help)
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "Don't truncate output")
	return cmd
}

func poolRows(s admin.Status) (rows []poolRow) {
	used := map[string]bool{}
	for _, c := range s.Collectors {
		r := poolRow{Pool: c.Pool, Collector: c.Name, Health: "healthy", Streams: strconv.Itoa(c.Streams), Shed: fmt.Sprintf("%.0f%%", 100*c.Shed), AckTime: "-", Since: ago(c.ErrorSince), Error: orDash(c.Error)}
		switch {
		case c.Leaving:
			r.Health = "leaving"
		case !c.Healthy:
			r.Health = "down"
		case c.Shed > 0:
			r.Health = "pushes back"
		}
		if c.AckTime > 0 {
			r.AckTime = time.Duration(c.AckTime * float64(time.Second)).Round(10 * time.Microsecond).String()
		}
		used[c.Pool] = true
		rows = append(rows, r)
	}
	for _, name := range s.Config.Pools {
		if !used[name] {
			rows = append(rows, poolRow{name, "-", "not in use", "0", "-", "-", "-", "-"})
		}
	}
	return rows
}

// poisonRow is what a collector refused, as it is listed.
type poisonRow struct {
	At        string `header:"REFUSED AT"`
	Collector string `header:"COLLECTOR"`
	Container string `header:"CONTAINER"`
	Records   string `header:"RECORDS"`
	Class     string `header:"CLASS"`
	Reason    string `header:"REASON"`
	ID        string `header:"ID,wide"`
	Encoded   string `header:"RECORD,wide"`
}

// maxReason is how much of one a table shows.
const maxReason = 100

// shorten cuts a reason for a table.
func shorten(reason, form string, whole bool) string {
	if whole || form != "" && form != "table" || len(reason) <= maxReason {
		return reason
	}
	return format.Truncate(reason, maxReason-1) + "…"
}

func (t *target) poison() *cobra.Command {
	var form string
	var whole bool
	cmd := &cobra.Command{
		Use: "poison [OPTIONS]", Short: "List records that collectors will never take, with the reason", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `List records that collectors will never take, with the reason.

They were put aside, so that what is behind them goes on; the newest 8 to 16 MiB
are kept. docker logs still has their lines.`,
		Example: `  docker dockline log poison
  docker dockline log poison --no-trunc
  docker dockline log poison --format '{{.ID}} {{.Encoded}}'   # with the records as they were sent`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []poison.Entry
			if err := t.get(cmd.Context(), "/poison", nil, &all); err != nil {
				return err
			}
			var rows []poisonRow
			for _, e := range all {
				r := poisonRow{stamp(e.At), e.Collector, short12(e.Container, whole), strconv.Itoa(e.Records), e.Class, e.Reason, e.ID, string(e.Encoded)}
				r.Reason = shorten(r.Reason, form, whole)
				rows = append(rows, r)
			}
			out := cmd.OutOrStdout()
			if strings.Contains(form, "{{") && !isTerminal(t.env.Out) {
				out = t.env.Out // who sends the records again wants them as they were
			}
			return format.List(out, form, rows)
		},
	}
	formatFlag(cmd, &form, format.Help)
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "Don't truncate output")
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) //nolint:gosec // a descriptor
	return err == nil
}

func (t *target) drain() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain [OPTIONS]", Short: "Wait until everything that is spooled is delivered", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Wait until everything that is spooled is delivered: before the plugin is removed.

It says on stderr what is waiting for whom, and ends with code 1 when the time is
over. Containers that go on writing are waited for, too.`,
		Example: `  docker dockline log drain
  docker dockline log drain --timeout 5m && docker plugin disable dockline-log`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			socket, err := t.find(ctx)
			if err != nil {
				return err
			}
			if timeout > 0 {
				var cancel func()
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			if err := admin.AwaitDrained(ctx, socket, func(left string) { fmt.Fprintln(cmd.ErrOrStderr(), "waiting:", left) }); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "everything is delivered")
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "How long to wait, such as 90s or 5m (default for ever)")
	return cmd
}

func (c *common) checkConfig() *cobra.Command {
	var collectors string
	cmd := &cobra.Command{
		Use: "check-config [OPTIONS] FILE", Short: "Say what is wrong with a configuration before it is put in place", Args: exactly(1),
		Long: `Say what is wrong with a configuration before it is put in place.

It is read with the files beside it, as the plugin would, and nobody is reached.
Line and reason of everything that is wrong are named, and the exit code is 1; it
is 0 if the plugin would take it. Warnings are for what it takes and is most likely
not meant. Check it where it is to be used: files of the host are looked for.`,
		Example: "  docker dockline log check-config /etc/dockline/dockline-log.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			pools, warnings, err := logdriver.CheckConfig(args[0], collectors)
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if err != nil {
				return fmt.Errorf("it would be refused:\n%w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s would be taken; pools: %s\n", args[0], strings.Join(pools, ", "))
			return nil
		},
	}
	cmd.Flags().StringVar(&collectors, "collectors", c.env.Getenv("COLLECTORS"), "What the plugin's setting COLLECTORS is")
	cmd.Flags().Lookup("collectors").DefValue = ""
	return cmd
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
