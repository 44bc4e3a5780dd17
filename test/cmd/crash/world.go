package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/rsyslog"
	"github.com/dockline/dockline/test/harness/witness"
)

const plugin = "dockline-log"

// world is everything that the program began and has to take away.
type world struct {
	config
	lab        *lab.Lab
	engine     *harness.Engine
	registry   *harness.Registry
	book       *witness.Book
	containers []*writer
	servers    []*server // ours
	rsyslog    *rsyslog.Server
	spool      *witness.Spool
	next       string // the plugin to upgrade to, in the registry
	killed     atomic.Int64
}

// writer is a container, and what each of its runs has written.
type writer struct {
	name    string
	acks    bool // its collectors acknowledge
	command []string
	runs    []witness.Run
}

// server is a collector of ours that comes and goes at one address.
type server struct {
	*collector.Server
	proto string
	held  int64 // bytes that crashes can have lost at most
}

func newWorld(c config) (*world, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	return &world{config: c, lab: l, book: witness.NewBook()}, nil
}

func (w *world) startAll(ctx context.Context) error {
	program.Say("seed %d: engine, registry, plugin, collectors, %d containers", w.seed, w.config.containers)
	var err error
	w.engine, err = harness.StartEngine(ctx, w.lab, "engine", harness.EngineOptions{Args: []string{"--live-restore"}})
	if err != nil {
		return err
	}
	if err := w.engine.LoadImage(ctx, w.lab.Dir); err != nil {
		return err
	}
	if err := w.installPlugin(ctx); err != nil {
		return err
	}
	if err := w.startCollectors(ctx); err != nil {
		return err
	}
	return w.startContainers(ctx)
}

// installPlugin installs the build, and leaves another one, which differs in a
// file that does nothing, in a registry to upgrade to.
func (w *world) installPlugin(ctx context.Context) error {
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	build, other := filepath.Join(top, "build/plugins", plugin), filepath.Join(w.lab.Dir, "next")
	if err := harness.AnotherBuild(ctx, build, other, "next"); err != nil {
		return err
	}
	if w.registry, err = harness.StartRegistry(ctx, w.lab, "registry"); err != nil {
		return err
	}
	if w.next, err = w.registry.Push(ctx, w.engine.Docker, plugin+":next", other); err != nil {
		return err
	}
	if err := w.engine.InstallPlugin(ctx, plugin, build, "SPOOL_MAX=32GiB"); err != nil {
		return err
	}
	id, err := w.engine.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	w.spool = witness.NewSpool(w.engine.DataRoot, id)
	return err
}

// startCollectors starts two of each protocol, and rsyslog.
func (w *world) startCollectors(ctx context.Context) error {
	for i, proto := range []string{"relp", "relp", "json+tcp", "json+tcp", "syslog+tcp"} {
		s := &server{proto: proto}
		if err := s.start(fmt.Sprintf("%s%d", strings.TrimSuffix(proto, "+tcp"), i), "", w.book.Record); err != nil {
			return err
		}
		w.servers = append(w.servers, s)
	}
	var err error
	if w.rsyslog, err = rsyslog.New(w.lab, "rsyslog", w.book.Record); err != nil {
		return err
	}
	w.rsyslog.Direct = true
	return w.rsyslog.Start(ctx)
}

func (s *server) start(name, addr string, each func(collector.Record)) (err error) {
	s.Server, err = collector.Start(collector.Options{Name: name, Proto: s.proto, Addr: addr, Each: each})
	return err
}

// urls lists the collectors of the containers of one half. They are given up
// sooner than by default when they hang, for there is little time here.
func (w *world) urls(acks bool) string {
	var all []string
	for _, s := range w.servers {
		if (s.proto == "relp") == acks {
			all = append(all, s.URL()+"&timeout=4s")
		}
	}
	if acks {
		all = append(all, w.rsyslog.URLs()[1]+"&timeout=4s")
	}
	return strings.Join(all, ",")
}

// startContainers starts them: of each half, one in two writes bursts as fast
// as it can, the others steadily.
func (w *world) startContainers(ctx context.Context) error {
	for i := range w.config.containers {
		c := &writer{name: fmt.Sprintf("w%d", i), acks: i%2 == 0}
		c.command = []string{"workload", "seq", "-n", "100000000", "-rate", "1000"}
		if i/2%2 == 0 {
			c.command = []string{"workload", "burst", "-n", "100000", "-lines", "10000", "-pause", "4s"}
		}
		args := []string{
			"--log-driver", plugin, "--log-opt", "hash=name", "--log-opt", "collectors=" + w.urls(c.acks),
			harness.Image, "workload", "tally",
		}
		if _, err := w.engine.Docker.Start(ctx, c.name, append(args, c.command...)...); err != nil {
			return err
		}
		w.containers = append(w.containers, c)
	}
	return nil
}

// stop ends a container's run and notes what it wrote.
func (w *world) stop(ctx context.Context, c *writer) error {
	if _, err := w.engine.Run(ctx, "stop", "-t", "30", c.name); err != nil {
		return err
	}
	wrote, err := w.engine.Tally(ctx, c.name)
	if err != nil {
		return err
	}
	c.runs = append(c.runs, witness.Run{Lines: wrote.Stdout.Count, Ended: time.Now()})
	return nil
}

// close takes everything away. It may find the world half made.
func (w *world) close() error {
	var errs []error
	if w.rsyslog != nil {
		errs = append(errs, w.rsyslog.Close())
	}
	for _, s := range w.servers {
		errs = append(errs, s.Reset())
	}
	closers := []io.Closer{}
	if w.registry != nil {
		closers = append(closers, w.registry)
	}
	for _, c := range append(closers, w.lab) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
