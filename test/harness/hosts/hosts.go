// Package hosts is the test's way to several hosts on one machine: the packages
// lab, wire and host, with failures that end the test and everything taken away
// when it ends.
//
//	lab := hosts.Open(t)
//	lan := lab.Wire(t, "lan")
//	a := lab.Host(t, "a", debian.Trixie, hosts.On(lan, "192.0.2.1/24"))
//	a.Docker("run", "--rm", harness.Image, "true")
package hosts

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	commandTime = 3 * time.Minute
	treeTime    = 10 * time.Minute // to make a tree
)

// Lab is a lab of one test.
type Lab struct{ *lab.Lab }

// Open makes a lab that is closed when the test ends, and fails the test if
// anything is left of it then.
func Open(t testing.TB) *Lab {
	t.Helper()
	l, err := lab.Open(lab.Base())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		left, err := l.Left()
		if err != nil {
			t.Error(err)
		}
		for _, what := range left {
			t.Error("left behind:", what)
		}
	})
	return &Lab{l}
}

// commandContext bounds one step of a test.
func commandContext(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), commandTime, errors.New("the command takes too long"))
}

// Wire is a wire of one test.
type Wire struct {
	*wire.Wire
	t testing.TB
}

// Wire makes a layer 2.
func (l *Lab) Wire(t testing.TB, name string) *Wire {
	t.Helper()
	ctx, cancel := commandContext(t)
	defer cancel()
	w, err := wire.New(ctx, l.Lab, name)
	if err != nil {
		t.Fatal(err)
	}
	return &Wire{w, t}
}

// Foreign makes a machine that none of the hosts knows, with these addresses.
func (w *Wire) Foreign(name string, addresses ...string) *Station {
	w.t.Helper()
	ctx, cancel := commandContext(w.t)
	defer cancel()
	s, err := w.Wire.Foreign(ctx, name, addresses...)
	if err != nil {
		w.t.Fatal(err)
	}
	return &Station{s, w.t}
}

// Capture records the frames that keep wants, all of them if it is nil, until
// the test ends.
func (w *Wire) Capture(keep func(wire.Frame) bool) *Capture {
	w.t.Helper()
	c, err := w.Wire.Capture(keep)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return &Capture{c, w.t}
}

// Capture is a capture of one test.
type Capture struct {
	*wire.Capture
	t testing.TB
}

// Await returns the first frame that match wants, be it there already or not.
func (c *Capture) Await(match func(wire.Frame) bool) wire.Frame {
	c.t.Helper()
	ctx, cancel := commandContext(c.t)
	defer cancel()
	f, err := c.Capture.Await(ctx, match)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

// Option is something that a host has.
type Option func(*options)

type options struct {
	uplinks []uplink
	args    []string
	bare    bool
	lend    []string
}

type uplink struct {
	wire      *Wire
	addresses []string
}

// On gives the host another uplink on a wire, eth0 for the first and so on,
// with these addresses if there are any.
func On(w *Wire, addresses ...string) Option {
	return func(o *options) { o.uplinks = append(o.uplinks, uplink{w, addresses}) }
}

// Args gives the engine more arguments, which win over the harness's.
func Args(args ...string) Option {
	return func(o *options) { o.args = append(o.args, args...) }
}

// Lend shows the host folders of the machine, see host.Lend.
func Lend(dirs ...string) Option {
	return func(o *options) { o.lend = append(o.lend, dirs...) }
}

// Bare leaves the engine and the test image out.
func Bare() Option { return func(o *options) { o.bare = true } }

// Host starts a host with an engine that has the test image. The first host of a
// suite on a machine takes a minute or two, see debian.Open.
func (l *Lab) Host(t testing.TB, name string, suite debian.Suite, opts ...Option) *Host {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), treeTime, errors.New("the host takes too long"))
	defer cancel()
	raw, err := host.New(ctx, l.Lab, name, suite, host.Lend(o.lend...))
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Host: raw, t: t}
	t.Cleanup(h.close)
	if err := h.start(ctx, o, l.Dir); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *Host) start(ctx context.Context, o options, scratch string) error {
	for i, u := range o.uplinks {
		if err := h.Plug(ctx, u.wire.Wire, ethernet(i), u.addresses...); err != nil {
			return err
		}
	}
	if o.bare {
		return nil
	}
	if err := h.StartEngine(ctx, o.args...); err != nil {
		return err
	}
	return h.Engine.LoadImage(ctx, scratch)
}

func (h *Host) close() {
	if h.t.Failed() && h.Engine != nil {
		h.t.Logf("the engine's log on host %s ends in:\n%s", h.Name, h.Engine.LogTail(25))
	}
	if err := h.Close(); err != nil {
		h.t.Error(err)
	}
}
