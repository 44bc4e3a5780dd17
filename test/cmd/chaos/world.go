package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	plugin     = "dockline-log"
	collectors = 5
	auditor    = collectors // the one more, of the pool audit
	port       = 2514
	configDir  = "/etc/dockline"
	listFile   = "/etc/chaos/collectors"
	consulAddr = "127.0.0.1:8500"
	awaitTime  = time.Minute

	audited = "static" // this group's records go to the pool audit as well
	spread  = "srv"    // this one's are spread, each record by itself
	split   = "etcd"   // this one's keys are heavy
)

// world is everything that the program began and has to take away.
type world struct {
	config
	rnd        *rand.Rand
	lab        *lab.Lab
	lan        *wire.Wire
	host       *host.Host
	command    string // the plugin's binary, as the host sees it
	ledger     *ledger
	settings   *settings
	consul     *consul
	names      *names
	etcd       *etcd
	sources    map[string]members // who is in each pool but static
	servers    []*server
	containers []*writer
	refused    int // configurations

	troubles sync.WaitGroup // what a collector or a source has still to come back from
	mu       sync.Mutex     // guards what follows
	bad      error          // of the troubles
	done     int            // events
}

// writer is a container.
type writer struct {
	name, group string
	wrote       uint64
}

// server is a collector in a network of its own, which comes and goes.
type server struct {
	*collector.Server
	w        *world
	i        int
	station  *wire.Station
	delay    atomic.Int64 // for every record, in nanoseconds
	troubled atomic.Bool
	errors   []string
}

func nameOf(i int) string { return "c" + strconv.Itoa(i+1) }

func addressOf(i int) string {
	if i == auditor {
		return "10.9.0.20"
	}
	return "10.9.0.1" + strconv.Itoa(i+1)
}

// collectorOf is the number of the collector of that name, -1 if there is none:
// it goes by address and port, or by the target of an SRV record.
func collectorOf(name string) int {
	at, _, _ := net.SplitHostPort(name)
	for i := range collectors + 1 {
		if at == addressOf(i) || strings.TrimSuffix(at, ".") == nameOf(i)+".chaos.test" {
			return i
		}
	}
	return -1
}

func newWorld(c config) (*world, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	w := &world{config: c, lab: l, rnd: rand.New(rand.NewPCG(c.seed, 6)), ledger: newLedger(), settings: newSettings(), sources: map[string]members{}}
	for _, g := range groups {
		if g != "static" {
			w.sources[g] = all()
		}
	}
	return w, nil
}

func (w *world) startAll(ctx context.Context) error {
	program.Say("seed %d: a host with an engine, %d collectors, a name server, Consul, etcd, %d containers", w.seed, collectors+1, w.config.containers)
	var err error
	if w.lan, err = wire.New(ctx, w.lab, "lan"); err != nil {
		return err
	}
	if w.host, err = host.New(ctx, w.lab, "a", debian.Bookworm); err != nil {
		return err
	}
	if err := w.host.Plug(ctx, w.lan, "eth0", "10.9.0.1/24"); err != nil {
		return err
	}
	for _, start := range []func(context.Context) error{w.startSources, w.startServers, w.startEngine, w.startContainers} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startSources starts what names collectors, in the host's network.
func (w *world) startSources(ctx context.Context) error {
	err := w.host.Do(func() error {
		conn, err := net.ListenPacket("udp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		w.names = startNames(conn)
		l, err := net.Listen("tcp", consulAddr)
		if err != nil {
			return err
		}
		w.consul = startConsul(l)
		return nil
	})
	if err != nil {
		return fmt.Errorf("start the name server and Consul: %w", err)
	}
	w.etcd = &etcd{w: w, dir: etcdDir(w.lab.Dir)}
	if err := w.etcd.start(ctx); err != nil {
		return err
	}
	if err := w.put(ctx, "/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n"); err != nil {
		return err
	}
	for g := range w.sources {
		if err := w.publish(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// publish has a source say who its collectors are.
func (w *world) publish(ctx context.Context, group string) error {
	m := w.sources[group]
	switch group {
	case "file":
		return w.put(ctx, listFile, "# collectors\n"+strings.Join(m.urls(), "\n")+"\n")
	case "dns":
		w.names.set(func() { w.names.addrs = m })
	case "srv":
		w.names.set(func() { w.names.srv = m })
	case "consul":
		w.consul.set(m)
	case "etcd":
		return w.etcd.set(ctx, m)
	}
	return nil
}

func (w *world) startServers(ctx context.Context) error {
	for i := range collectors + 1 {
		station, err := w.lan.Foreign(ctx, nameOf(i), addressOf(i)+"/24")
		if err != nil {
			return err
		}
		s := &server{w: w, i: i, station: station}
		if err := s.start(); err != nil {
			return err
		}
		w.servers = append(w.servers, s)
	}
	return nil
}

// start starts the collector, or one that takes the place of a former one.
func (s *server) start() error {
	return s.station.Do(func() (err error) {
		s.Server, err = collector.Start(collector.Options{
			Name: nameOf(s.i), Proto: "relp", Addr: net.JoinHostPort(addressOf(s.i), strconv.Itoa(port)),
			Each: func(r collector.Record) {
				time.Sleep(time.Duration(s.delay.Load())) // it is slow
				s.w.ledger.record(r, s.i)
			},
		})
		return err
	})
}

// noteErrors keeps what the collector says of the plugin's protocol.
func (s *server) noteErrors() {
	if st := s.Stats(); st.Errors > 0 {
		s.errors = append(s.errors, st.LastError)
	}
}

func (w *world) startEngine(ctx context.Context) error {
	if err := w.host.StartEngine(ctx); err != nil {
		return err
	}
	e := w.host.Engine
	if err := e.LoadImage(ctx, w.lab.Dir); err != nil {
		return err
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	if err := w.put(ctx, configDir+"/dockline-log.yaml", w.settings.text()); err != nil {
		return err
	}
	if err := e.InstallPlugin(ctx, plugin, filepath.Join(top, "build/plugins", plugin), "SPOOL_MAX=8GiB", "config.source="+configDir); err != nil {
		return err
	}
	id, err := e.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	w.command = filepath.Join(e.DataRoot, "plugins", id, "rootfs", plugin)
	return err
}

func (w *world) startContainers(ctx context.Context) error {
	for i := range w.config.containers {
		c := &writer{name: fmt.Sprintf("w%d", i), group: groups[i%len(groups)]}
		_, err := w.host.Engine.Docker.Start(ctx, c.name, "--label", "group="+c.group, "--log-driver", plugin, harness.Image,
			"workload", "tally", "workload", "seq", "-n", "100000000", "-rate", strconv.Itoa(w.rate))
		if err != nil {
			return err
		}
		w.containers = append(w.containers, c)
	}
	return nil
}

// put replaces a file of the host, as all do that keep such files.
func (w *world) put(ctx context.Context, path, content string) error {
	cmd := w.host.Command(ctx, "sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$(dirname "$1")/.new" && mv "$(dirname "$1")/.new" "$1"`, "-", path)
	cmd.Stdin = strings.NewReader(content)
	_, err := wire.Run("the host", cmd)
	return err
}

// ask asks the plugin's binary.
func (w *world) ask(ctx context.Context, args ...string) (string, error) {
	return w.host.Run(ctx, w.command, args...)
}

// metric returns what stands behind a metric's name, labels and value; for one
// with labels the first. "" is none.
func (w *world) metric(ctx context.Context, name string) (string, error) {
	text, err := w.ask(ctx, "metrics")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "dockline_log_"+name)
		if ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "{")) {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", nil
}

// await polls: what is asked tells nobody that it has changed.
func (w *world) await(ctx context.Context, what string, ok func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitTime, fmt.Errorf("it took too long for %s", what))
	defer cancel()
	return proc.Await(ctx, func(ctx context.Context) error {
		is, err := ok(ctx)
		if err == nil && !is {
			err = errors.New("not yet")
		}
		return err
	})
}

// close takes everything away. It may find the world half made.
func (w *world) close() error {
	var errs []error
	for _, s := range w.servers {
		if s.Server != nil {
			errs = append(errs, s.Reset())
		}
	}
	if w.etcd != nil {
		errs = append(errs, w.etcd.close())
	}
	if w.consul != nil {
		errs = append(errs, w.consul.server.Close())
	}
	if w.names != nil {
		errs = append(errs, w.names.close())
	}
	if w.host != nil {
		errs = append(errs, w.host.Close())
	}
	for _, s := range w.servers {
		errs = append(errs, s.station.Close())
	}
	if w.lan != nil {
		errs = append(errs, w.lan.Close())
	}
	return errors.Join(append(errs, w.lab.Close())...)
}
