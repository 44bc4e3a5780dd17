package admin

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/watch"
)

// Status is all that the plugin has.
type Status struct {
	Networks []Network `json:"networks"`
	// Strays are links of ours that belong to nothing that we know.
	Strays    []Seen    `json:"strays"`
	Reconcile Reconcile `json:"reconcile"`
	// Differences counts those of all networks and endpoints, and the strays.
	Differences int `json:"differences"`
}

// Reconcile is the last one.
type Reconcile struct {
	At   time.Time     `json:"at,omitzero"`
	Took time.Duration `json:"took_ns"`
}

// Network is one network: what is meant, what there is, and the difference.
type Network struct {
	ID         string             `json:"id"`
	Intended   network.Definition `json:"intended"`
	Link       *Seen              `json:"link"`   // its bridge; null: it has none
	Parent     *Seen              `json:"parent"` // or uplink; null: there is none
	Pools      []Pool             `json:"pools"`
	Wire       *watch.Status      `json:"wire"` // null: it is not looked at
	Endpoints  []Endpoint         `json:"endpoints"`
	Leases     []Lease            `json:"leases,omitempty"`
	Difference []string           `json:"difference"`
}

// Pool says how much of a pool of ours is given.
type Pool struct {
	Prefix netip.Prefix `json:"prefix"`
	// Backend is who decides about its addresses; empty is this host alone.
	Backend string       `json:"backend,omitempty"`
	Range   netip.Prefix `json:"range"`
	// Size is how many addresses containers of this host can have, and Free how many
	// of these one could get now. Both are left out where a server chooses.
	Size  *float64     `json:"size,omitempty"`
	Free  *float64     `json:"free,omitempty"`
	Given []netip.Addr `json:"given"` // the gateway, and those outside of the range that were asked for, too
}

// Endpoint is one endpoint: what is meant, where its link is, and the difference.
type Endpoint struct {
	ID         string   `json:"id"`
	Joined     bool     `json:"joined"` // it is meant to be in a sandbox
	IPv4       string   `json:"ipv4,omitempty"`
	IPv6       string   `json:"ipv6,omitempty"`
	MAC        string   `json:"mac"`
	Actual     []Seen   `json:"actual"` // its links, wherever they are
	Difference []string `json:"difference"`
}

// Seen is a link as it is in the kernel.
type Seen struct {
	Name    string         `json:"name"`
	Type    string         `json:"type"`
	MAC     string         `json:"mac"`
	MTU     int            `json:"mtu"`
	Up      bool           `json:"up"`
	Sandbox bool           `json:"sandbox"` // it is in another namespace than the host's
	Master  string         `json:"master,omitempty"`
	Addrs   []netip.Prefix `json:"addresses,omitempty"`
	Alias   string         `json:"alias,omitempty"`
}

// view is the kernel's state, looked at once.
type view struct {
	links  []kernel.Link
	byName map[string]kernel.Link
	names  map[int]string
	of     map[string][]Seen // by endpoint
}

// Status looks at everything.
func (p *Plugin) Status() (Status, error) {
	v, err := p.look()
	if err != nil {
		return Status{}, err
	}
	p.mu.Lock()
	s := Status{Networks: []Network{}, Reconcile: Reconcile{At: p.at, Took: p.last.Took}}
	failing := p.last.Failing
	p.mu.Unlock()
	wires := map[string]*watch.Status{}
	for _, w := range p.Watch.Status() {
		wires[w.Network] = &w
	}
	ends := map[string][]endpoint.Endpoint{}
	for _, e := range p.Endpoints.List() {
		ends[e.Network] = append(ends[e.Network], e)
	}
	for _, d := range p.Networks.List() {
		n := p.network(d, v, wires[d.ID], ends[d.ID])
		if said := failing[d.ID]; said != "" {
			n.Difference = append(n.Difference, said)
		}
		s.Differences += len(n.Difference)
		for _, e := range n.Endpoints {
			s.Differences += len(e.Difference)
		}
		s.Networks = append(s.Networks, n)
	}
	s.Strays = p.strays(v)
	s.Differences += len(s.Strays)
	return s, nil
}

func (p *Plugin) look() (*view, error) {
	links, err := p.Host.Links()
	if err != nil {
		return nil, err
	}
	others, err := p.Host.Elsewhere()
	if err != nil {
		return nil, err
	}
	v := &view{links: links, byName: map[string]kernel.Link{}, names: map[int]string{}, of: map[string][]Seen{}}
	for _, l := range links {
		v.byName[l.Name], v.names[l.Index] = l, l.Name
	}
	for _, l := range links {
		if o, ours := p.Host.Owner(l.Alias); ours && o.Endpoint != "" {
			v.of[o.Endpoint] = append(v.of[o.Endpoint], v.seen(l))
		}
	}
	for _, l := range others {
		o, ours := p.Host.Owner(l.Alias)
		if !ours || o.Endpoint == "" {
			continue
		}
		s := v.seen(l.Link)
		s.Sandbox, s.Master = true, ""
		if s.Addrs, err = p.Host.AddrsElsewhere(l); err != nil {
			return nil, err
		}
		v.of[o.Endpoint] = append(v.of[o.Endpoint], s)
	}
	return v, nil
}

func (v *view) seen(l kernel.Link) Seen {
	return Seen{Name: l.Name, Type: l.Type, MAC: l.MAC.String(), MTU: l.MTU, Up: l.Up, Master: v.names[l.Master], Alias: l.Alias}
}

func (p *Plugin) network(d network.Definition, v *view, wire *watch.Status, ends []endpoint.Endpoint) Network {
	n := Network{ID: d.ID, Intended: d, Wire: wire, Pools: p.pools(d), Endpoints: []Endpoint{}}
	n.Leases, n.Difference = p.leases(d)
	if n.Difference == nil {
		n.Difference = []string{}
	}
	differ := func(format string, args ...any) { n.Difference = append(n.Difference, fmt.Sprintf(format, args...)) }
	if d.Parent != "" {
		if l, ok := v.byName[d.Parent]; !ok {
			differ("parent %s is missing", d.Parent)
		} else {
			seen := v.seen(l)
			n.Parent = &seen
			if !l.Up {
				differ("parent %s is down", d.Parent)
			}
			if d.Mode == network.Bridge && seen.Master != d.BridgeName {
				differ("uplink %s is no port of bridge %s", d.Parent, d.BridgeName)
			}
		}
	}
	if d.Mode == network.Bridge {
		if l, ok := v.byName[d.BridgeName]; !ok {
			differ("bridge %s is missing", d.BridgeName)
		} else {
			seen := v.seen(l)
			n.Link = &seen
			if !l.Up {
				differ("bridge %s is down", d.BridgeName)
			}
		}
	}
	if name := kernel.HostPortName(d.ID); d.Mode != network.Bridge && d.Owns(name) {
		if l, ok := v.byName[name]; !ok {
			differ("the host's port %s is missing", name)
		} else if !l.Up {
			differ("the host's port %s is down", name)
		}
	}
	if wire != nil && wire.Fault != "" {
		differ("the wire cannot be looked at: %s", wire.Fault)
	}
	slices.SortFunc(ends, func(a, b endpoint.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range ends {
		n.Endpoints = append(n.Endpoints, compare(d, e, v, wire))
	}
	return n
}

// compare holds an endpoint against its links.
func compare(d network.Definition, e endpoint.Endpoint, v *view, wire *watch.Status) Endpoint {
	out := Endpoint{ID: e.ID, Joined: e.Joined, MAC: e.MAC.String(), IPv4: text(e.IPv4), IPv6: text(e.IPv6), Actual: []Seen{}, Difference: []string{}}
	out.Actual = append(out.Actual, v.of[e.ID]...)
	differ := func(format string, args ...any) {
		out.Difference = append(out.Difference, fmt.Sprintf(format, args...))
	}
	inside := false
	for _, l := range out.Actual {
		switch {
		case l.Sandbox:
			inside = true
			compareInside(e, l, differ)
		case l.Name == kernel.HostName(e.ID) && l.Master != d.BridgeName:
			differ("%s is no port of bridge %s", l.Name, d.BridgeName)
		case l.Name == kernel.HostName(e.ID) && !l.Up:
			differ("%s is down", l.Name)
		}
	}
	if e.Joined && !inside {
		differ("no link of it is in a sandbox")
	}
	if wire != nil {
		for _, c := range wire.Conflicts {
			if c.Endpoint == e.ID {
				differ("the machine with MAC %s has its address %s as well, since %s", c.MAC, c.Addr, c.Since.Format(time.RFC3339))
			}
		}
	}
	return out
}

func compareInside(e endpoint.Endpoint, l Seen, differ func(string, ...any)) {
	if mac, err := net.ParseMAC(l.MAC); err == nil && mac.String() != e.MAC.String() {
		differ("%s in the sandbox has the MAC %s", l.Name, l.MAC)
	}
	if !l.Up {
		differ("%s in the sandbox is down", l.Name)
	}
	for _, a := range []netip.Prefix{e.IPv4, e.IPv6} {
		if a.IsValid() && !slices.Contains(l.Addrs, a) {
			differ("%s in the sandbox is without %s", l.Name, a)
		}
	}
}

func text(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// strays are the links in the host's namespace, and those in sandboxes, whose
// network or endpoint is not known.
func (p *Plugin) strays(v *view) []Seen {
	all := []Seen{}
	for _, l := range v.links {
		o, ours := p.Host.Owner(l.Alias)
		if !ours || o.Endpoint != "" {
			continue
		}
		if _, err := p.Networks.Get(o.Network); err != nil {
			all = append(all, v.seen(l))
		}
	}
	for id, links := range v.of {
		if _, err := p.Endpoints.Get(id); err != nil {
			all = append(all, links...)
		}
	}
	slices.SortFunc(all, func(a, b Seen) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (p *Plugin) pools(d network.Definition) []Pool {
	pools := []Pool{}
	for _, of := range p.IPAM.Pools() {
		if !slices.ContainsFunc(d.Pools, func(q network.Pool) bool { return q.Space == of.Space && q.Prefix == of.Prefix }) {
			continue
		}
		one := Pool{Prefix: of.Prefix, Range: of.Range, Backend: of.Backend, Given: []netip.Addr{}}
		if use, known := p.IPAM.Use(of.ID); known {
			one.Size, one.Free = &use.Size, &use.Free
		}
		for _, g := range p.IPAM.Addresses(of.ID) {
			one.Given = append(one.Given, g.Addr)
		}
		slices.SortFunc(one.Given, netip.Addr.Compare)
		pools = append(pools, one)
	}
	slices.SortFunc(pools, func(a, b Pool) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	return pools
}
