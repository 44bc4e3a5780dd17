// Command benchdisk measures what the log plugin writes to the disk: the spool
// lies on a file system of its own, on a loop device that nobody else uses, and
// the kernel's count of sectors written to it is read before a container
// starts, after its last line, and a minute later.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/program"
)

const (
	plugin = "dockline-log"
	// The kernel writes back what has been dirty for 30 s, and commits what ext4
	// has to say about it after 5 s; both are over by then.
	settleTime  = 60 * time.Second
	deviceBytes = 4 << 30 // of a sparse file
	sector      = 512     // what /proc/diskstats counts, whatever the device's own are
)

func main() {
	seconds := flag.Int("seconds", 60, "for how long each container writes")
	flag.Parse()
	limit := 10*time.Minute + time.Duration(len(variants))*(settleTime+2*time.Duration(*seconds)*time.Second)
	program.Main("benchdisk", limit, func(ctx context.Context) (program.Result, error) { return run(ctx, *seconds) })
}

// variant is one container.
type variant struct {
	name    string
	rate    int // lines a second
	options []string
}

var variants = []variant{
	{"nothing kept", 20_000, []string{"max-size=0"}},
	{"nothing kept", 100, []string{"max-size=0"}},
	{"the default, 100 MB kept", 20_000, nil},
	{"nothing kept, `sync=interval=1s`", 20_000, []string{"max-size=0", "sync=interval=1s"}},
}

func run(ctx context.Context, seconds int) (r program.Result, err error) {
	b := &bench{seconds: seconds}
	if b.lab, err = lab.Open(lab.Base()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	if err := program.Parts(ctx, b.prepare, b.measureAll); err != nil {
		return nil, err
	}
	return program.Figures(fmt.Sprintf("written_per_spooled=%.4f quiet=%.4f kept=%.4f synced=%.4f", b.shares[0], b.shares[1], b.shares[2], b.shares[3])), nil
}

func (b *bench) measureAll(ctx context.Context) error {
	program.Print("| | lines/s | MiB spooled | MiB written until the last line | and 60 s later | writes |")
	program.Print("|---|---|---|---|---|---|")
	for i, v := range variants {
		share, err := b.measure(ctx, fmt.Sprint("disk-", i), v)
		if err != nil {
			return err
		}
		b.shares = append(b.shares, share)
	}
	return nil
}

type bench struct {
	seconds int
	lab     *lab.Lab
	engine  *harness.Engine
	place   string // where the device is mounted
	device  string // its name in /proc/diskstats
	shares  []float64
}

func (b *bench) prepare(ctx context.Context) (err error) {
	if err := b.mount(ctx); err != nil {
		return err
	}
	if b.engine, err = harness.StartEngine(ctx, b.lab, "engine", harness.EngineOptions{}); err != nil {
		return err
	}
	if err := b.engine.LoadImage(ctx, b.lab.Dir); err != nil {
		return err
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	return b.engine.InstallPlugin(ctx, plugin, filepath.Join(top, "build/plugins", plugin), "spool.source="+b.place)
}

// mount makes the file system. The lab unmounts it, which frees the device.
func (b *bench) mount(ctx context.Context) error {
	image := filepath.Join(b.lab.Dir, "disk")
	b.place = filepath.Join(b.lab.Dir, "place")
	if err := os.Mkdir(b.place, 0o755); err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(deviceBytes), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image},
		{"mount", "-o", "loop", image, b.place},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("make a disk: %s: %w: %s", args[0], err, out)
		}
	}
	out, err := exec.CommandContext(ctx, "findmnt", "-n", "-o", "SOURCE", b.place).Output()
	if err != nil {
		return fmt.Errorf("find the disk's device: %w", err)
	}
	b.device = filepath.Base(strings.TrimSpace(string(out)))
	return nil
}

// written is how much was written to the device since it is there.
func (b *bench) written() (bytes, writes int64, err error) {
	data, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0, 0, fmt.Errorf("read what was written: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		// Documentation/admin-guide/iostats.rst: fields 5 and 7 behind the name.
		if f := strings.Fields(line); len(f) > 9 && f[2] == b.device {
			n, err1 := strconv.ParseInt(f[7], 10, 64)
			sectors, err2 := strconv.ParseInt(f[9], 10, 64)
			return sectors * sector, n, errors.Join(err1, err2)
		}
	}
	return 0, 0, fmt.Errorf("/proc/diskstats has no %s", b.device)
}

// measure returns how many bytes were written for each that was spooled.
func (b *bench) measure(ctx context.Context, name string, v variant) (share float64, err error) {
	s, err := collector.Start(collector.Options{Name: "c1", Proto: "json+tcp", Each: func(collector.Record) {}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	before, writesBefore, err := b.written()
	if err != nil {
		return 0, err
	}
	lines := v.rate * b.seconds
	args := []string{"--log-driver", plugin, "--log-opt", "collectors=" + s.URL()}
	for _, o := range v.options {
		args = append(args, "--log-opt", o)
	}
	args = append(args, harness.Image, "workload", "seq", "-n", strconv.Itoa(lines), "-rate", strconv.Itoa(v.rate), "-size", "120")
	if _, err := b.engine.Docker.Start(ctx, name, args...); err != nil {
		return 0, err
	}
	if _, err := b.engine.Wait(ctx, name); err != nil {
		return 0, err
	}
	last, _, err := b.written()
	if err != nil {
		return 0, err
	}
	if !program.Pause(ctx, settleTime) { // this is the measurement: what the kernel does when nothing happens
		return 0, context.Cause(ctx)
	}
	later, writes, err := b.written()
	if err != nil {
		return 0, err
	}
	if got := s.Stats(); got.Records != uint64(lines) {
		return 0, fmt.Errorf("the collector has %d of %d records", got.Records, lines)
	}
	const frame = 120 + 35 // what the engine makes of a line
	spooled := float64(lines * frame)
	program.Print("| %s | %d | %.1f | %.2f | %.2f | %d |", v.name, v.rate, spooled/(1<<20), float64(last-before)/(1<<20), float64(later-before)/(1<<20), writes-writesBefore)
	return float64(later-before) / spooled, b.engine.Remove(ctx, name)
}
