package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
)

// process is a collector that runs as a process of its own. What it received
// is in its journal, which survives it.
type process struct {
	name, proto, addr, url string
	program, journal       string
	cmd                    *exec.Cmd
	up                     atomic.Bool
	read                   int64 // bytes of the journal; used by the display alone
	records                atomic.Uint64
}

func (d *demo) startCollectors(ctx context.Context) error {
	step("starting three collectors")
	program, err := harness.BuildProgram(ctx, d.lab.Dir, "collector")
	if err != nil {
		return err
	}
	for i, proto := range []string{"json+tcp", "syslog+tcp", "relp"} {
		name := fmt.Sprintf("c%d", i+1)
		c := &process{
			name: name, proto: proto, addr: "127.0.0.1:0",
			program: program, journal: filepath.Join(d.lab.Dir, name+".journal"),
		}
		d.collectors = append(d.collectors, c)
		if err := c.start(ctx); err != nil {
			return err
		}
		note("%s", c.url)
	}
	return nil
}

// start runs the collector, the second time at the address of the first, and
// returns when it listens.
func (c *process) start(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.program,
		"-name", c.name, "-proto", c.proto, "-listen", c.addr, "-journal", c.journal)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for the demo, which ends them last
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start collector %s: %w", c.name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start collector %s: %w", c.name, err)
	}
	c.cmd = cmd
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start collector %s: it ended before it listened: %w", c.name, err)
	}
	c.url = strings.TrimSpace(url)
	_, rest, _ := strings.Cut(c.url, "://")
	c.addr, _, _ = strings.Cut(rest, "?")
	c.up.Store(true)
	return nil
}

// kill ends the collector as a crash does.
func (c *process) kill() error {
	c.up.Store(false)
	if c.cmd == nil {
		return nil
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end collector %s: %w", c.name, err)
	}
	_ = c.cmd.Wait() // its end by a signal is no news
	c.cmd = nil
	return nil
}

// collect passes on what the collector has received since the last call.
func (c *process) collect(check *collector.Checker) error {
	f, err := os.Open(c.journal)
	if err != nil {
		return fmt.Errorf("read what %s received: %w", c.name, err)
	}
	defer f.Close()
	if _, err := f.Seek(c.read, io.SeekStart); err != nil {
		return fmt.Errorf("read what %s received: %w", c.name, err)
	}
	n, err := collector.ReadJournal(f, func(s collector.Sighting) {
		check.Add(s)
		c.records.Add(1)
	})
	c.read += n
	return err
}
