package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dockline/dockline/internal/failpoint"
	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	plugin = "dockline-net"
	driver = plugin + ":latest"
	// inside is the failpoints' directory as the plugin sees it, in the mount
	// that it shares with the host.
	inside = "/var/lib/dockline/failpoints"
)

// Addresses of documentation (RFC 5737, RFC 3849).
var networks = []struct {
	name, v4, v6 string
	gate4, gate6 string // the station's on the wire; "": containers among themselves
	options      []string
}{
	{"lan", "192.0.2.0/24", "2001:db8:0:1::/64", "192.0.2.254", "2001:db8:0:1::fe", []string{"parent=eth0"}},
	{"dmz", "198.51.100.0/24", "2001:db8:0:2::/64", "198.51.100.254", "2001:db8:0:2::fe", []string{"mode=bridge", "uplink=eth1"}},
	{"backstage", "203.0.113.0/24", "2001:db8:0:3::/64", "", "", []string{"mode=bridge"}},
}

// world is everything that the program began and has to take away.
type world struct {
	config
	lab     *lab.Lab
	host    *host.Host
	station *wire.Station
	mount   string // the plugin's propagated mount
	points  string // the failpoints' directory, as the host sees it
	before  []string
	rand    *rand.Rand // of the kills only
	queue   []string   // points to die at next

	// churn is held for reading by whoever starts or stops a container, and for
	// writing by whoever needs them to stay as they are.
	churn      sync.RWMutex
	containers []*container
	killed     int
	starts     atomic.Int64
	failed     atomic.Int64
	used       map[string]int // kills by point
	misses     map[string]int // vain orders by point

	mu         sync.Mutex // guards all below
	has        map[string]string
	duplicates []string
	broken     map[string]string
	leaked     []string
}

func newWorld(ctx context.Context, c config) (*world, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	w := &world{
		config: c, lab: l, rand: rand.New(rand.NewPCG(c.seed, 1)),
		has: map[string]string{}, broken: map[string]string{}, used: map[string]int{}, misses: map[string]int{},
	}
	if err := w.machines(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// machines makes the host and, on its two wires, a machine that it does not know.
func (w *world) machines(ctx context.Context) error {
	var wires []*wire.Wire
	for _, name := range []string{"lan", "dmz"} {
		made, err := wire.New(ctx, w.lab, name)
		if err != nil {
			return err
		}
		wires = append(wires, made)
	}
	var err error
	if w.station, err = wire.NewStation(ctx, w.lab, "stranger"); err != nil {
		return err
	}
	if w.host, err = host.New(ctx, w.lab, "a", w.suite); err != nil {
		return err
	}
	for i, made := range wires {
		name := fmt.Sprintf("eth%d", i)
		if err := w.station.Plug(ctx, made, name, networks[i].gate4+"/24", networks[i].gate6+"/64"); err != nil {
			return err
		}
		var own []string
		if i == 0 {
			own = []string{"192.0.2.1/24"}
		}
		if err := w.host.Plug(ctx, made, name, own...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) start(ctx context.Context) error {
	program.Say("seed %d: engine of %s, plugin, networks, %d containers", w.seed, w.suite, w.config.containers)
	if err := w.host.StartEngine(ctx, "--bridge=", "--iptables=true"); err != nil {
		return err
	}
	if err := w.host.Engine.LoadImage(ctx, w.lab.Dir); err != nil {
		return err
	}
	if err := w.install(ctx); err != nil {
		return err
	}
	var err error
	if w.before, err = w.traces(ctx); err != nil {
		return err
	}
	for _, n := range networks {
		args := []string{"network", "create", "-d", driver, "--ipam-driver", driver, "--ipv6", "--subnet", n.v4, "--subnet", n.v6}
		if n.gate4 != "" {
			args = append(args, "--gateway", n.gate4, "--gateway", n.gate6)
		}
		if n.name == "lan" { // few, so that what is given twice shows soon
			args = append(args, "--ip-range", "192.0.2.32/27")
		}
		for _, o := range n.options {
			args = append(args, "-o", o)
		}
		if _, err := w.host.Engine.Run(ctx, append(args, n.name)...); err != nil {
			return err
		}
	}
	for i := range w.config.containers {
		w.containers = append(w.containers, &container{name: fmt.Sprintf("box-%d", i), network: networks[i%len(networks)].name})
	}
	return w.each(ctx, func(ctx context.Context, c *container) error { return w.up(ctx, c) })
}

// install installs the build, with the one variable that makes it die.
func (w *world) install(ctx context.Context) error {
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	folder := filepath.Join(w.lab.Dir, plugin)
	if out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(top, "build/plugins", plugin), folder).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the plugin (make plugins): %w: %s", err, out)
	}
	if err := addVariable(filepath.Join(folder, "config.json")); err != nil {
		return err
	}
	engine := w.host.Engine
	if _, err := engine.Run(ctx, "plugin", "create", plugin, folder); err != nil {
		return err
	}
	id, err := engine.Run(ctx, "plugin", "inspect", "--format", "{{.Id}}", plugin)
	if err != nil {
		return err
	}
	w.mount = filepath.Join(engine.DataRoot, "plugins", id, "propagated-mount")
	w.points = filepath.Join(w.mount, filepath.Base(inside))
	if err := os.MkdirAll(w.points, 0o700); err != nil {
		return fmt.Errorf("make the failpoints' directory: %w", err)
	}
	_, err = engine.Run(ctx, "plugin", "enable", plugin)
	return err
}

func addVariable(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the plugin's configuration: %w", err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("read the plugin's configuration: %w", err)
	}
	env, _ := c["env"].([]any)
	for _, e := range env {
		if v, ok := e.(map[string]any); ok && v["name"] == "LOG_LEVEL" {
			v["value"] = "debug"
		}
	}
	c["env"] = append(env, map[string]any{"name": failpoint.Variable, "description": "where to die", "settable": []string{"value"}, "value": inside})
	if raw, err = json.Marshal(c); err != nil {
		return fmt.Errorf("write the plugin's configuration: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return fmt.Errorf("write the plugin's configuration: %w", err)
	}
	return nil
}

func (w *world) logTail() string {
	if w.host == nil || w.host.Engine == nil {
		return ""
	}
	return w.host.Engine.LogTail(30)
}

// keepLog keeps the engine's log, with the plugin's in it, for whoever looks for
// the cause.
func (w *world) keepLog() {
	if w.host == nil || w.host.Engine == nil {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("crashnet-%d.log", w.seed))
	raw, err := os.ReadFile(w.host.Engine.Log)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		program.Say("the engine's log is lost: %v", err)
		return
	}
	program.Say("the engine's log is kept in %s", path)
}

func (w *world) result() *result {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &result{kills: w.killed, starts: int(w.starts.Load()), leaked: len(w.leaked), duplicates: len(w.duplicates), broken: len(w.broken)}
}

// close takes everything away. It may find the world half made.
func (w *world) close() error {
	var errs []error
	if w.host != nil {
		errs = append(errs, w.host.Close())
	}
	if w.station != nil {
		errs = append(errs, w.station.Close())
	}
	return errors.Join(append(errs, w.lab.Close())...)
}
