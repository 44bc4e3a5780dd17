package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/collector"
	"github.com/dockline/dockline/test/harness/debian"
	"github.com/dockline/dockline/test/harness/host"
	"github.com/dockline/dockline/test/harness/wire"
)

const (
	netPlugin = "dockline-net"
	netDriver = netPlugin + ":latest" // engines want the tag
)

// network is one that both hosts have, each with a part of its addresses. Those
// are of documentation (RFC 5737, RFC 3849).
type network struct {
	name, what string
	v4, v6     string // the beginnings of subnets of 24 and 64 bits
	options    []string
}

var networks = []network{
	{"lan", "macvlan on the NIC that the host itself uses", "192.0.2.", "2001:db8:0:1:", []string{"parent=eth0"}},
	{"dmz", "a bridge with a NIC without addresses as its uplink", "198.51.100.", "2001:db8:0:2:", []string{"mode=bridge", "uplink=eth1"}},
}

// site is two hosts and a machine with collectors, on one wire.
type site struct {
	demo       *demo
	wire       *wire.Wire
	hosts      []*host.Host
	before     map[*host.Host]string // its interfaces
	logs       *wire.Station
	collectors []*collector.Server
	endpoints  int
	lines      chan line // what the collectors have received; nobody waits for its reader
}

// line is a record, as it is shown.
type line struct{ collector, container, text string }

// setUp makes wire, hosts and collectors.
func (s *site) setUp(ctx context.Context) (err error) {
	step("a wire, and two hosts on it with an engine each (namespaces of this machine)")
	if s.wire, err = wire.New(ctx, s.demo.lab, "wire"); err != nil {
		return err
	}
	for n := 1; n <= 2; n++ {
		if err := s.addHost(ctx, n); err != nil {
			return err
		}
	}
	return s.startCollectors(ctx)
}

func (s *site) addHost(ctx context.Context, n int) error {
	h, err := host.New(ctx, s.demo.lab, fmt.Sprintf("host%d", n), debian.Machine)
	if err != nil {
		return err
	}
	s.hosts = append(s.hosts, h)
	if err := h.Plug(ctx, s.wire, "eth0", fmt.Sprintf("192.0.2.%d/24", n), fmt.Sprintf("2001:db8:0:1::%d/64", n)); err != nil {
		return err
	}
	if err := h.Plug(ctx, s.wire, "eth1"); err != nil {
		return err
	}
	if err := h.StartEngine(ctx); err != nil {
		return err
	}
	version, err := h.Engine.Version(ctx)
	if err != nil {
		return err
	}
	if s.before[h], err = h.Run(ctx, "ip", "-br", "link"); err != nil {
		return err
	}
	note("%s: engine %s, eth0 has 192.0.2.%d, eth1 has no address; installing %s and %s", h.Name, version, n, plugin, netPlugin)
	if err := h.Engine.LoadImage(ctx, s.demo.lab.Dir); err != nil {
		return err
	}
	top, err := harness.ModuleDir()
	if err != nil {
		return err
	}
	for _, name := range []string{plugin, netPlugin} {
		if err := h.Engine.InstallPlugin(ctx, name, filepath.Join(top, "build/plugins", name)); err != nil {
			return err
		}
	}
	return nil
}

// startCollectors puts two collectors on a machine of their own.
func (s *site) startCollectors(ctx context.Context) (err error) {
	const address = "192.0.2.10"
	if s.logs, err = s.wire.Foreign(ctx, "logs", address+"/24"); err != nil {
		return err
	}
	for i, proto := range []string{"relp", "json+tcp"} {
		name := fmt.Sprintf("wire%d", i+1)
		err := s.logs.Do(func() error {
			c, err := collector.Start(collector.Options{Name: name, Proto: proto, Addr: address + ":0", Each: s.received})
			if err == nil {
				s.collectors = append(s.collectors, c)
				note("logs: collector %s", c.URL())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *site) received(r collector.Record) {
	s.demo.check.Record(r)
	select {
	case s.lines <- line{r.Collector, r.Container, string(r.Line)}:
	default:
	}
}

func (s *site) urls() string {
	var all []string
	for _, c := range s.collectors {
		all = append(all, c.URL())
	}
	return strings.Join(all, ",")
}

// createNetworks makes each network on each host.
func (s *site) createNetworks(ctx context.Context) error {
	for _, n := range networks {
		step("network %s: %s", n.name, n.what)
		for i, h := range s.hosts {
			args := []string{"network", "create", "-d", netDriver, "--ipam-driver", netDriver, "--ipv6",
				"--subnet", n.v4 + "0/24", "--gateway", n.v4 + "254", "--ip-range", fmt.Sprintf("%s%d/26", n.v4, 64*(i+1)),
				"--subnet", n.v6 + ":/64", "--gateway", n.v6 + ":fe", "--ip-range", fmt.Sprintf("%s%d::/80", n.v6, i+1)}
			for _, o := range n.options {
				args = append(args, "-o", o)
			}
			args = append(args, n.name)
			if _, err := h.Engine.Run(ctx, args...); err != nil {
				return err
			}
			note("%s$ docker %s", h.Name, strings.Join(args, " "))
		}
	}
	return nil
}

// remove removes containers and networks, and makes sure that the hosts'
// interfaces are as before.
func (s *site) remove(ctx context.Context) error {
	step("removing containers and networks")
	for _, h := range s.hosts {
		ids, err := h.Engine.Run(ctx, "ps", "-aq")
		if err != nil {
			return err
		}
		if err := h.Engine.Remove(ctx, strings.Fields(ids)...); err != nil {
			return err
		}
		for _, n := range networks {
			if _, err := h.Engine.Run(ctx, "network", "rm", n.name); err != nil {
				return err
			}
		}
		after, err := h.Run(ctx, "ip", "-br", "link")
		if err != nil {
			return err
		}
		if after != s.before[h] {
			return fmt.Errorf("the interfaces of %s were\n%s\nand are now\n%s", h.Name, s.before[h], after)
		}
		note("%s: ip link shows what it showed before: %s", h.Name, strings.Join(names(after), ", "))
	}
	return nil
}

func names(links string) (all []string) {
	for l := range strings.Lines(links) {
		name, _, _ := strings.Cut(strings.Fields(l)[0], "@")
		all = append(all, name)
	}
	return all
}

// close ends what there is, the last first. The lab takes the rest.
func (s *site) close() error {
	var errs []error
	for _, h := range slices.Backward(s.hosts) {
		errs = append(errs, h.Close())
	}
	for _, c := range s.collectors {
		errs = append(errs, c.Reset())
	}
	return errors.Join(errs...)
}
