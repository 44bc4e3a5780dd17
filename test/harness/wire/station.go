package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/proc"
)

// Station is a machine as the network sees it: a network namespace. Of the
// machine that the tests run on it sees everything but the network.
type Station struct {
	Name string
	NS   string // the namespace, as `ip netns` knows it

	cables []cable
}

// cable joins an interface of a station to a wire.
type cable struct {
	name      string // the interface's, on the station's side
	wire      *Wire
	addresses []string
}

// NewStation makes a station that has nothing but its loopback interface. The
// name is short (10 letters), for it becomes part of interface names.
func NewStation(ctx context.Context, l *lab.Lab, name string) (*Station, error) {
	s := &Station{Name: name, NS: l.Namespace(name)}
	if err := netns.Add(ctx, s.NS); err != nil {
		return nil, fmt.Errorf("make station %s: %w", name, err)
	}
	return s, nil
}

// Plug gives the station an interface with a cable to the wire and, unless
// there are none, these addresses (with their prefix lengths).
func (s *Station) Plug(ctx context.Context, w *Wire, name string, addresses ...string) error {
	c := cable{name, w, addresses}
	s.cables = append(s.cables, c)
	return s.plug(ctx, c)
}

func (s *Station) plug(ctx context.Context, c cable) error {
	port := s.port(c.name)
	steps := [][]string{
		{"-n", s.NS, "link", "add", c.name, "address", s.mac(c.name).String(), "type", "veth", "peer", "name", port, "netns", c.wire.ns},
		{"-n", c.wire.ns, "link", "set", port, "master", bridge, "addrgenmode", "none", "up"},
		{"-n", s.NS, "link", "set", c.name, "up"},
	}
	for _, a := range c.addresses {
		step := []string{"-n", s.NS, "address", "add", a, "dev", c.name}
		if strings.Contains(a, ":") {
			step = append(step, "nodad") // usable at once
		}
		steps = append(steps, step)
	}
	for _, args := range steps {
		if err := netns.IP(ctx, args...); err != nil {
			return fmt.Errorf("plug %s of station %s into wire %s: %w", c.name, s.Name, c.wire.Name, err)
		}
	}
	return s.await(ctx, c.name, true)
}

// port is the name of the switch's side of an interface's cable.
func (s *Station) port(name string) string { return s.Name + "-" + name }

// mac is an interface's address from the factory, the same after a reboot.
func (s *Station) mac(name string) net.HardwareAddr {
	h := fnv.New64a() // whose upper bytes depend on the last letter too
	h.Write([]byte(s.NS + "/" + name))
	return append(net.HardwareAddr{2}, h.Sum(nil)[:5]...) // locally administered
}

// Reboot gives the station a fresh network in place of the old one, with the
// same cables and their addresses; whatever else there was is gone. What runs
// in the old one stays there.
func (s *Station) Reboot(ctx context.Context) error {
	for _, c := range s.cables {
		// The old network would keep the cable for as long as anything runs in it.
		if err := netns.IP(ctx, "-n", c.wire.ns, "link", "delete", s.port(c.name)); err != nil {
			return err
		}
	}
	if err := netns.Delete(s.NS); err != nil {
		return err
	}
	if err := netns.Add(ctx, s.NS); err != nil {
		return err
	}
	for _, c := range s.cables {
		if err := s.plug(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// Cut takes the carrier away from an interface, as pulling its cable does.
func (s *Station) Cut(ctx context.Context, name string) error { return s.set(ctx, name, false) }

// Mend undoes Cut.
func (s *Station) Mend(ctx context.Context, name string) error { return s.set(ctx, name, true) }

func (s *Station) set(ctx context.Context, name string, up bool) error {
	i := slices.IndexFunc(s.cables, func(c cable) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("station %s has no cable at %s", s.Name, name)
	}
	state := "down"
	if up {
		state = "up"
	}
	if err := netns.IP(ctx, "-n", s.cables[i].wire.ns, "link", "set", s.port(name), state); err != nil {
		return err
	}
	return s.await(ctx, name, up)
}

// await waits until an interface is in operation (RFC 2863) or not, as a step
// of ours makes it. The kernel gets there in its own time, up to a second later.
func (s *Station) await(ctx context.Context, name string, up bool) error {
	return proc.Await(ctx, func(ctx context.Context) error {
		out, err := s.Run(ctx, "ip", "-br", "link", "show", "dev", name)
		if f := strings.Fields(out); err == nil && (len(f) < 2 || (f[1] == "UP") != up) {
			err = fmt.Errorf("%s of station %s does not follow its cable: %s", name, s.Name, out)
		}
		return err
	})
}

// Command prepares a command in the station's network. It is a harness.Host's.
func (s *Station) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return netns.Command(ctx, s.NS, name, args...)
}

// Run runs a command in the station's network and returns what it printed on
// stdout without the blanks around it.
func (s *Station) Run(ctx context.Context, name string, args ...string) (string, error) {
	return Run(s.Name, s.Command(ctx, name, args...))
}

// Run runs a prepared command and returns what it printed on stdout without the
// blanks around it. An error has what it printed else.
func Run(station string, cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("on %s: %s: %w: %s", station, strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()+out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Do runs fn in the station's network, on a thread of its own: sockets that it
// opens belong there.
func (s *Station) Do(fn func() error) error { return netns.Do(s.NS, fn) }

// Interface finds an interface of the station.
func (s *Station) Interface(name string) (*net.Interface, error) {
	var link *net.Interface
	err := s.Do(func() (err error) {
		link, err = net.InterfaceByName(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find %s of station %s: %w", name, s.Name, err)
	}
	return link, nil
}

// Send puts a whole Ethernet frame on the cable of an interface.
func (s *Station) Send(name string, frame []byte) error {
	err := s.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
		return errors.Join(err, unix.Close(fd))
	})
	if err != nil {
		return fmt.Errorf("send a frame from %s of station %s: %w", name, s.Name, err)
	}
	return nil
}

// Close takes the station away. Processes in it are not ended; see lab.End.
func (s *Station) Close() error { return netns.Delete(s.NS) }
