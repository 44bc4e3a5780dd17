package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/host"
)

// address is what the engine says of a container in its network.
type address struct {
	IPAddress, GlobalIPv6Address, MacAddress string
}

// pinger is a container that pings another host's and says what it sees.
type pinger struct {
	host *host.Host
	name string
	to   address
}

// showNetworks has containers of two hosts reach each other, over macvlan and
// over a bridge, and sends what they say of it to collectors on the same wire.
func (d *demo) showNetworks(ctx context.Context) error {
	s := &site{demo: d, before: map[*host.Host]string{}, lines: make(chan line, 1024)}
	d.site = s
	if err := s.setUp(ctx); err != nil {
		return err
	}
	if err := s.createNetworks(ctx); err != nil {
		return err
	}
	pingers, err := s.startEndpoints(ctx)
	if err != nil {
		return err
	}
	if err := s.finish(ctx, pingers); err != nil {
		return err
	}
	if err := s.showPings(pingers); err != nil {
		return err
	}
	if err := s.lookAtNetworks(ctx, s.hosts[0], networks[0].name+"-"+s.hosts[0].Name, pingers[0].to); err != nil {
		return err
	}
	return s.remove(ctx)
}

// startEndpoints starts a container to be pinged in each network of each host,
// and then one that pings that of the other host.
func (s *site) startEndpoints(ctx context.Context) ([]pinger, error) {
	step("containers on both hosts, in both networks")
	var pingers []pinger
	for _, n := range networks {
		at := make([]address, len(s.hosts))
		for i, h := range s.hosts {
			var err error
			if at[i], err = s.startTarget(ctx, h, n); err != nil {
				return nil, err
			}
			note("%s: %-10s %-15s %-22s %s", h.Name, n.name+"-"+h.Name, at[i].IPAddress, at[i].GlobalIPv6Address, at[i].MacAddress)
		}
		for i, h := range s.hosts {
			pingers = append(pingers, pinger{h, "ping-" + n.name + "-" + h.Name, at[1-i]})
		}
	}
	for _, p := range pingers {
		if err := s.startPinger(ctx, p); err != nil {
			return nil, err
		}
	}
	return pingers, nil
}

func (s *site) startTarget(ctx context.Context, h *host.Host, n network) (at address, err error) {
	name := n.name + "-" + h.Name
	if _, err := h.Engine.Run(ctx, "run", "-d", "--stop-signal", "KILL", "--network", n.name, "--name", name, harness.Image, "sleep", "1000"); err != nil {
		return at, err
	}
	s.endpoints++
	out, err := h.Engine.Run(ctx, "inspect", "--format", fmt.Sprintf("{{json (index .NetworkSettings.Networks %q)}}", n.name), name)
	if err == nil {
		err = json.Unmarshal([]byte(out), &at)
	}
	return at, err
}

// startPinger begins with packets that nobody looks at: IPv6 needs a second
// until its address may be used.
func (s *site) startPinger(ctx context.Context, p pinger) error {
	_, net, _ := strings.Cut(p.name, "-")
	net, _, _ = strings.Cut(net, "-")
	script := fmt.Sprintf("ping -c 4 -W 1 %[2]s >/dev/null; ping -c 3 %[1]s && ping -c 3 %[2]s && ip neigh", p.to.IPAddress, p.to.GlobalIPv6Address)
	_, err := p.host.Engine.Run(ctx, "run", "-d", "--network", net, "--name", p.name, "--label", "network="+net,
		"--log-driver", plugin, "--log-opt", "collectors="+s.urls(), "--log-opt", "hash=label:network",
		harness.Image, "workload", "tally", "sh", "-c", script)
	s.endpoints++
	return err
}

// finish waits until the pings are over and all that was said of them has come.
func (s *site) finish(ctx context.Context, pingers []pinger) error {
	for _, p := range pingers {
		code, err := p.host.Engine.Wait(ctx, p.name)
		if err == nil && code != "0" {
			out, _, _ := p.host.Engine.Output(ctx, nil, "logs", p.name)
			err = fmt.Errorf("%s on %s cannot reach %s and %s: %s", p.name, p.host.Name, p.to.IPAddress, p.to.GlobalIPv6Address, out)
		}
		if err != nil {
			return err
		}
		wrote, err := p.host.Engine.Tally(ctx, p.name)
		if err != nil {
			return err
		}
		s.demo.check.Expect(p.name, wrote)
	}
	late, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not everything has come within a minute"))
	defer cancel()
	return s.demo.check.Wait(late, s.demo.check.Complete)
}

var interesting = regexp.MustCompile(`seq=2|lladdr`)

// showPings prints, of what the collectors received, an answer in each family
// and whose MAC was behind it.
func (s *site) showPings(pingers []pinger) error {
	step("what the containers logged, as the collectors on the wire received it")
	said := map[string][]line{}
	for range len(s.lines) {
		l := <-s.lines
		said[l.container] = append(said[l.container], l)
	}
	for _, p := range pingers {
		macs := 0
		for _, l := range said[p.name] {
			ours := strings.Contains(l.text, p.to.IPAddress+" ") || strings.Contains(l.text, p.to.IPAddress+":") || strings.Contains(l.text, p.to.GlobalIPv6Address)
			if !interesting.MatchString(l.text) || !ours {
				continue
			}
			if strings.Contains(l.text, "lladdr "+p.to.MacAddress) {
				macs++
			}
			note("%s from %-14s on %s: %s", l.collector, p.name, p.host.Name, l.text)
		}
		if macs == 0 {
			return fmt.Errorf("%s did not see %s behind %s", p.name, p.to.MacAddress, p.to.IPAddress)
		}
	}
	return s.sameCollectors(pingers)
}

// sameCollectors shows that containers of one network, which is what they are
// hashed by, logged to one collector from both hosts.
func (s *site) sameCollectors(pingers []pinger) error {
	where := map[string]string{}
	for _, p := range pingers {
		key := strings.TrimSuffix(p.name, p.host.Name)
		for name := range s.demo.check.Where(p.name) {
			if other, known := where[key]; known && other != name {
				return fmt.Errorf("%s* logged to %s and to %s", key, other, name)
			}
			where[key] = name
		}
	}
	for key, name := range where {
		note("%s* of both hosts logged to %s (--log-opt hash=label:network)", key, name)
	}
	return nil
}
