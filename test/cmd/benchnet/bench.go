package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/program"
	"github.com/dockline/dockline/test/harness/thread"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	plugin = "dockline-net"
	driver = plugin + ":latest"

	// Addresses of documentation (RFC 5737): the other machine's on the wire, for
	// what is on it by eth0, and for what is on it by eth1.
	farLAN, farDMZ = "192.0.2.254", "198.51.100.254"
)

// plainVariant is what a bridge with an uplink can be at best.
const plainVariant = "plain bridge"

// variant is a way from this host to the other machine.
type variant struct {
	name    string
	network string // "": none of the engine's
	far     string
	args    []string // docker network create's
	plain   bool     // no container, but the namespace on the plain bridge
}

var variants = []variant{
	{name: "host", far: farLAN},
	{name: plainVariant, far: farDMZ, plain: true},
	{name: "dockline-net macvlan", network: "ours-macvlan", far: farLAN, args: []string{"-d", driver, "--ipam-driver", driver, "--subnet", "192.0.2.0/24", "--gateway", farLAN, "--ip-range", "192.0.2.32/27", "-o", "parent=eth0"}},
	{name: "built-in macvlan", network: "macvlan", far: farLAN, args: []string{"-d", "macvlan", "--subnet", "192.0.2.0/24", "--gateway", farLAN, "--ip-range", "192.0.2.64/27", "-o", "parent=eth0"}},
	{name: "dockline-net bridge", network: "ours-bridge", far: farDMZ, args: []string{"-d", driver, "--ipam-driver", driver, "--subnet", "198.51.100.0/24", "--gateway", farDMZ, "-o", "mode=bridge", "-o", "uplink=eth1"}},
	{name: "built-in bridge", network: "bridge-own", far: farLAN, args: []string{"-d", "bridge", "--subnet", "203.0.113.0/24"}},
}

// bench is what the run began and what it has measured.
type bench struct {
	config
	lab  *lab.Lab
	host *host.Host
	far  *wire.Station

	throughput map[string][]float64 // Gbit/s, by variant
	costs      map[string][]float64 // CPU s per Gbit, by variant
	latencies  map[string]*histogram
	runTimes   map[string][]float64 // seconds, by variant
	endpoint   []endpointTimes
	reconciles map[string][]float64 // milliseconds
	bareRepair []float64            // of the kernel alone
}

func newBench(ctx context.Context, c config) (*bench, error) {
	l, err := lab.Open(lab.Base())
	if err != nil {
		return nil, err
	}
	b := &bench{
		config: c, lab: l, throughput: map[string][]float64{}, costs: map[string][]float64{}, latencies: map[string]*histogram{},
		runTimes: map[string][]float64{}, reconciles: map[string][]float64{},
	}
	if err := b.machines(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// machines makes this host and the other machine, with a wire between them
// that the host has two interfaces on.
func (b *bench) machines(ctx context.Context) error {
	lan, err := wire.New(ctx, b.lab, "lan")
	if err != nil {
		return err
	}
	if b.far, err = lan.Foreign(ctx, "far", farLAN+"/24", farDMZ+"/24"); err != nil {
		return err
	}
	if b.host, err = host.New(ctx, b.lab, "a", b.suite); err != nil {
		return err
	}
	if err := b.host.Plug(ctx, lan, "eth0", "192.0.2.1/24"); err != nil {
		return err
	}
	return errors.Join(b.host.Plug(ctx, lan, "eth1"), b.host.Plug(ctx, lan, "eth2"))
}

func (b *bench) prepare(ctx context.Context) error {
	if err := b.host.StartEngine(ctx, "--bridge=", "--iptables=true", "--ip-forward=true", "--ip-masq=true"); err != nil {
		return err
	}
	engine := b.host.Engine
	if err := engine.LoadImage(ctx, b.lab.Dir); err != nil {
		return err
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	if err := engine.InstallPlugin(ctx, plugin, filepath.Join(top, "build/plugins", plugin)); err != nil {
		return err
	}
	version, err := engine.Version(ctx)
	if err != nil {
		return err
	}
	if err := b.plainBridge(ctx); err != nil {
		return err
	}
	program.Print("engine %s; medians of %d rounds", version, b.rounds)
	for _, v := range variants {
		if v.network == "" {
			continue
		}
		// The built-in and our macvlan network are on one interface and one subnet.
		args := append(append([]string{"network", "create"}, v.args...), v.network)
		if _, err := engine.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// in runs fn in the network of a variant's container, or of the host.
func (b *bench) in(ctx context.Context, v variant, fn func() error) error {
	path, err := b.namespace(ctx, v)
	if err != nil {
		return err
	}
	return thread.Run(func() error {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open a namespace: %w", err)
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a namespace: %w", err)
		}
		return fn()
	})
}

// namespace is the file that stands for the network of a variant's container.
func (b *bench) namespace(ctx context.Context, v variant) (string, error) {
	switch {
	case v.plain:
		return netns.Path(b.plain()), nil
	case v.network == "":
		return netns.Path(b.host.NS), nil
	}
	pid, err := b.host.Engine.Run(ctx, "inspect", "--format", "{{.State.Pid}}", v.network)
	return "/proc/" + pid + "/ns/net", err
}

func (b *bench) close() error {
	var errs []error
	if b.host != nil {
		errs = append(errs, b.host.Close())
	}
	if b.far != nil {
		errs = append(errs, b.far.Close())
	}
	return errors.Join(append(errs, b.lab.Close())...)
}

func since(begin time.Time) float64 { return time.Since(begin).Seconds() }
