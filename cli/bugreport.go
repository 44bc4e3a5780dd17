package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/cli/engine"
	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/redact"
)

const bugReportHelp = `Put into one archive what somebody needs who is to find a fault: versions, what the
engine says of the plugins, their status, configuration, metrics and last log lines,
what the engine's log has of plugins, and facts of the kernel. Nothing that
containers wrote is in it.

Passwords, tokens and keys are taken out of every file by what they look like and
where they stand, and those of the plugins' settings wherever else they turn up.
Addresses, names of containers, networks and hosts stay: look at it before you
send it.`

func (c *common) bugReport() *cobra.Command {
	var output, logSocket, netSocket string
	cmd := &cobra.Command{
		Use: "bug-report [OPTIONS]", Short: "Put what is needed to find a fault into one archive", Args: exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		Long: bugReportHelp,
		Example: `  docker dockline bug-report
  docker dockline bug-report --output - | tar -tz`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isRoot() && logSocket == "" && netSocket == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: without root, the report has nothing of the plugins themselves")
			}
			r := &report{common: c, begun: time.Now().Truncate(time.Second), files: map[string][]byte{}, log: target{common: c, kind: engine.Log, socket: logSocket}, net: target{common: c, kind: engine.Net, socket: netSocket}}
			r.gather(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			return r.save(cmd, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", `File to write, "-" for stdout (default "dockline-bug-report-HOST-TIME.tar.gz")`)
	cmd.Flags().StringVar(&logSocket, "log-socket", "", "The log driver's own socket, instead of asking the engine")
	cmd.Flags().StringVar(&netSocket, "net-socket", "", "The network driver's own socket, instead of asking the engine")
	return cmd
}

// report gathers files. What cannot be had is a file that says why.
type report struct {
	*common
	log, net target
	begun    time.Time
	mu       sync.Mutex // guards files
	files    map[string][]byte
	secrets  redact.Redactor
}

func (r *report) gather(ctx context.Context) {
	r.add("versions.json", func() ([]byte, error) {
		v, err := r.versions(ctx)
		text, _ := json.MarshalIndent(v, "", "  ")
		return append(text, '\n'), err
	})
	r.engineFacts(ctx)
	var asked sync.WaitGroup
	for folder, of := range map[string]struct {
		t     *target
		paths []string
	}{
		"dockline-log": {&r.log, []string{"version", "status", "config", "metrics", "log", "readyz"}},
		"dockline-net": {&r.net, []string{"version", "status", "metrics", "log", "readyz", "cluster", "events", "addresses/reservations"}},
	} {
		for _, p := range of.paths { // all at once: a plugin that hangs is what a report may be about
			name := path.Join(folder, strings.ReplaceAll(p, "/", "-")+".json")
			if p == "metrics" || p == "log" || p == "readyz" {
				name = path.Join(folder, p+".txt")
			}
			asked.Go(func() { r.add(name, func() ([]byte, error) { return r.ask(ctx, of.t, p) }) })
		}
	}
	asked.Wait()
	r.engineLog(ctx)
	r.kernelFacts(ctx)
}

func (r *report) add(name string, of func() ([]byte, error)) {
	text, err := of()
	if err != nil {
		name, text = name+".error", append(text, []byte(err.Error()+"\n")...)
	}
	if len(text) > maxFile { // whole lines, so that no secret is cut in two
		cut := text[:maxFile]
		text = fmt.Appendf(nil, "%s\n... and %d bytes more\n", cut[:max(bytes.LastIndexByte(cut, '\n'), 0)], len(text)-len(cut))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = text
}

// maxFile bounds one file of the report, in bytes.
const maxFile = 8 << 20

func (r *report) ask(ctx context.Context, t *target, what string) ([]byte, error) {
	text, err := t.raw(ctx, patience, admin.Get, "/"+what, nil)
	if err != nil || what != "log" {
		return text, err
	}
	var lines []string
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, fmt.Errorf("read the log lines: %w", err)
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// engineFacts asks the engine what it says of itself and of the plugins, whose
// settings may hold secrets: these are learnt here.
func (r *report) engineFacts(ctx context.Context) {
	for name, at := range map[string]string{"info": "/info", "plugins": "/plugins", "networks": "/networks"} {
		r.add("engine/"+name+".json", func() ([]byte, error) {
			e, err := engine.Dial(r.engine)
			if err != nil {
				return nil, err
			}
			var v any
			if err := e.Get(ctx, at, &v); err != nil {
				return nil, err
			}
			if name == "plugins" {
				r.learn(v)
			}
			return json.MarshalIndent(v, "", "  ")
		})
	}
}

// engineLog is what the engine's log has of plugins where systemd keeps it: one that
// does not start says why there alone.
func (r *report) engineLog(ctx context.Context) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		return
	}
	r.add("engine/log.txt", func() ([]byte, error) {
		text, err := r.run(ctx, "journalctl", "--no-pager", "-o", "short-iso", "-n", "20000", "-u", "docker.service", "-u", "snap.docker.dockerd.service")
		var lines []byte
		for line := range bytes.Lines(text) {
			if bytes.Contains(line, []byte("plugin")) {
				lines = append(lines, line...)
			}
		}
		return lines, err
	})
}

// run asks a command that changes nothing.
func (r *report) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}

// learn takes note of what is secret in any text of a decoded JSON value.
func (r *report) learn(v any) {
	switch v := v.(type) {
	case string:
		r.secrets.Learn(v)
	case []any:
		for _, one := range v {
			r.learn(one)
		}
	case map[string]any:
		for _, one := range v {
			r.learn(one)
		}
	}
}

// kernelFiles say what the kernel has and how it is set.
var kernelFiles = []string{
	"/proc/version", "/proc/cmdline", "/proc/modules", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/net/dev", "/proc/net/route", "/proc/net/ipv6_route", "/proc/net/arp", "/proc/net/softnet_stat",
	"/etc/os-release",
	"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
	"/proc/sys/net/ipv4/neigh/default/gc_thresh3", "/proc/sys/fs/pipe-user-pages-soft", "/proc/sys/fs/pipe-max-size", "/proc/sys/fs/file-nr",
	"/proc/pressure/io", "/proc/pressure/memory",
}

// kernelCommands are asked where they are installed; they change nothing.
var kernelCommands = [][]string{
	{"ip", "-d", "address"}, {"ip", "route", "show", "table", "all"}, {"ip", "rule"}, {"ip", "neighbour"}, {"bridge", "link"}, {"bridge", "fdb"},
	{"nft", "list", "ruleset"}, {"df", "-h"}, {"sysctl", "net.ipv4.conf", "net.ipv6.conf"},
}

// maxKernel bounds what is kept of one of these, in bytes.
const maxKernel = 1 << 20

func (r *report) kernelFacts(ctx context.Context) {
	r.add("kernel/uname", func() ([]byte, error) {
		var u unix.Utsname
		err := unix.Uname(&u)
		return fmt.Appendf(nil, "%s %s %s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:])), err
	})
	files := slices.Clone(kernelFiles)
	for _, pattern := range []string{"/proc/sys/net/ipv4/conf/*/rp_filter", "/proc/sys/net/ipv4/conf/*/arp_ignore"} {
		found, _ := filepath.Glob(pattern) // the pattern is right
		files = append(files, found...)
	}
	var small bytes.Buffer
	for _, f := range files {
		text, err := readSome(f)
		switch {
		case err != nil:
			fmt.Fprintf(&small, "%s: %v\n", f, err)
		case bytes.Count(text, []byte("\n")) <= 1:
			fmt.Fprintf(&small, "%s: %s\n", f, bytes.TrimSpace(text))
		default:
			r.files["kernel"+f] = text
		}
	}
	r.files["kernel/settings"] = small.Bytes()
	for _, args := range kernelCommands {
		if _, err := exec.LookPath(args[0]); err != nil {
			continue
		}
		r.add("kernel/"+strings.Join(args, "-"), func() ([]byte, error) {
			text, err := r.run(ctx, args[0], args[1:]...)
			return text[:min(len(text), maxKernel)], err
		})
	}
}

func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKernel))
}

// save writes the archive, which only its owner can read.
func (r *report) save(cmd *cobra.Command, output string) error {
	host, _ := os.Hostname() // it is in the name only
	folder := fmt.Sprintf("dockline-bug-report-%s-%s", host, time.Now().UTC().Format("20060102T150405Z"))
	if output == "-" {
		return r.write(r.env.Out, folder)
	}
	if output == "" {
		output = folder + ".tar.gz"
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := r.write(f, folder); err != nil {
		_ = f.Close()
		_ = os.Remove(output)
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	fmt.Fprintln(cmd.OutOrStdout(), output)
	fmt.Fprintf(cmd.ErrOrStderr(), "%d files; secrets are taken out, names and addresses are not: look at it before you send it\n", len(r.files))
	return nil
}

func (r *report) write(w io.Writer, folder string) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	names := make([]string, 0, len(r.files))
	for name := range r.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text := []byte(r.secrets.Text(string(r.files[name])))
		h := &tar.Header{Name: path.Join(folder, name), Mode: 0o600, Size: int64(len(text)), ModTime: r.begun, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if _, err := t.Write(text); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
