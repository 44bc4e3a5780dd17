// Package host makes whole hosts for tests: a station on wires with a system of
// its own, in which an engine of some Debian release runs. Of the machine below
// it a host sees devices, processes and control groups. Its files are a Debian
// tree under a layer of its own, and it has its own /run, /sys, network, mounts
// and host name; so what an engine and its plugins find there is what they find
// on a machine of that release.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/wire"
)

const endTime = 3 * time.Minute

// Host is a station with a system of its own. A dead test run leaves no trace
// of it either: its mounts end with the last process in it, and those, its
// namespace and its files are found by the lab's sweep.
type Host struct {
	*wire.Station
	Suite  debian.Suite
	Engine *harness.Engine // nil until StartEngine

	lab  *lab.Lab
	tree *debian.Tree
	dir  string   // its folder in the lab, for the engine; it sees that at the same place
	over string   // the folder with its layer over the tree
	run  string   // for sockets; seen at the same place
	mnt  *os.File // keeps the mount namespace
	uts  *os.File // keeps the host's name
	lent []string // see Lend
}

// Option changes what New makes.
type Option func(*Host)

// Lend shows the host folders of the machine at the same places. What it writes
// there is its own, in its layer.
func Lend(dirs ...string) Option {
	return func(h *Host) { h.lent = append(h.lent, dirs...) }
}

// New makes a host without any interface, and without an engine. Making the
// first host of a suite on a machine makes its tree, see debian.Open.
func New(ctx context.Context, l *lab.Lab, name string, suite debian.Suite, opts ...Option) (*Host, error) {
	h := &Host{Suite: suite, lab: l, dir: filepath.Join(l.Dir, name), over: filepath.Join(l.Dir, name+".fs")}
	for _, opt := range opts {
		opt(h)
	}
	for _, dir := range []string{h.dir, h.over, h.layer("upper"), h.layer("work"), h.layer("root")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make host %s: %w", name, err)
		}
	}
	var err error
	if h.run, err = l.Outside(); err != nil {
		return nil, err
	}
	if h.Station, err = wire.NewStation(ctx, l, name); err != nil {
		return nil, err
	}
	if h.tree, err = debian.Open(ctx, suite); err != nil {
		return nil, err
	}
	if err := h.assemble(); err != nil {
		return nil, errors.Join(fmt.Errorf("make host %s: %w", name, err), h.tree.Close())
	}
	return h, nil
}

// Dir is a folder of the host that it sees at the same place as the machine does,
// on a file system that engines can lay their own layers over.
func (h *Host) Dir() string { return h.dir }

// Lab is where the host was made.
func (h *Host) Lab() *lab.Lab { return h.lab }

func (h *Host) layer(name string) string { return filepath.Join(h.over, name) }

// StartEngine starts the host's engine, with more arguments if there are any.
// The docker command that talks to it is the machine's own.
func (h *Host) StartEngine(ctx context.Context, args ...string) error {
	e, err := harness.StartEngine(ctx, h.lab, h.Name, harness.EngineOptions{Host: h, Args: args, Own: true, Run: h.run})
	if err != nil {
		return fmt.Errorf("on host %s: %w", h.Name, err)
	}
	h.Engine = e
	return nil
}

// Command prepares a command on the host, with its programs and its files. It
// is a harness.Host's. What it starts has to be there: the trees are small.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	self := fmt.Sprintf("/proc/%d/fd/", os.Getpid())
	return exec.CommandContext(ctx, "nsenter", append([]string{
		"--net=" + netns.Path(h.NS),
		fmt.Sprintf("--mount=%s%d", self, h.mnt.Fd()),
		fmt.Sprintf("--uts=%s%d", self, h.uts.Fd()),
		"--", name,
	}, args...)...)
}

// Run runs a command on the host and returns what it printed on stdout without
// the blanks around it.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return wire.Run(h.Name, h.Command(ctx, name, args...))
}

// Crash ends everything that runs on the host at once, as a power cut does, and
// gives it a fresh network and /run, as it has when it is started again. What
// was written to files is there still. Engine.Start starts the engine.
func (h *Host) Crash(ctx context.Context) error {
	if err := h.end(ctx); err != nil {
		return fmt.Errorf("crash host %s: %w", h.Name, err)
	}
	if err := h.Reboot(ctx); err != nil {
		return fmt.Errorf("crash host %s: %w", h.Name, err)
	}
	h.mnt.Close()
	h.uts.Close()
	if err := h.assemble(); err != nil {
		return fmt.Errorf("crash host %s: %w", h.Name, err)
	}
	return nil
}

// end kills the engine, by its folder, and what has its root in either layer.
func (h *Host) end(ctx context.Context) error {
	return errors.Join(h.lab.End(ctx, h.dir), h.lab.End(ctx, h.over))
}

// Close stops the engine and takes the host away. Its files go with the lab.
func (h *Host) Close() error {
	var err error
	if h.Engine != nil {
		err = h.Engine.Stop()
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), endTime, errors.New("the host does not end"))
	defer cancel()
	return errors.Join(err, h.end(ctx), h.mnt.Close(), h.uts.Close(), h.Station.Close(), h.tree.Close())
}
