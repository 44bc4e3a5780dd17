package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	shared "github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/trace"
)

const longestEnd = 255 // of what an end may be called: the name of a host (RFC 1035)

// trace says what the plugin knows of the two ends of a trace.
func (p *Plugin) trace(r *http.Request) (any, error) {
	var known trace.Known
	s, err := p.Status()
	if err != nil {
		return nil, err
	}
	for _, end := range []struct {
		name string
		to   *trace.Intended
	}{{"from", &known.From}, {"to", &known.To}} {
		asked := r.URL.Query().Get(end.name)
		if asked == "" || len(asked) > longestEnd {
			return nil, &shared.Error{Code: http.StatusBadRequest, Err: fmt.Errorf("say from and to, each an address or the id of an endpoint, of 1 to %d characters; %s has %d", longestEnd, end.name, len(asked))}
		}
		if *end.to, err = p.end(asked, s); err != nil {
			return nil, &shared.Error{Code: http.StatusBadRequest, Err: err}
		}
	}
	return known, nil
}

// end finds an endpoint by its address, its id or the beginning of that.
func (p *Plugin) end(asked string, s Status) (trace.Intended, error) {
	in := trace.Intended{Asked: asked}
	addr, err := netip.ParseAddr(asked)
	if err == nil {
		in.Addr = addr.Unmap()
	}
	var found []endpoint.Endpoint
	for _, e := range p.Endpoints.List() {
		named := !in.Addr.IsValid() && len(asked) >= 4 && strings.HasPrefix(e.ID, asked)
		if named || in.Addr.IsValid() && (e.IPv4.Addr() == in.Addr || e.IPv6.Addr() == in.Addr) {
			found = append(found, e)
		}
	}
	if len(found) > 1 && in.Addr.IsValid() { // others had the address, and have left
		found = joined(found)
	}
	switch {
	case len(found) == 0:
		in.Record = p.recorded(in.Addr)
		return in, nil
	case len(found) > 1:
		return in, fmt.Errorf("%q is %d endpoints; say more of the id", asked, len(found))
	}
	e := found[0]
	if !in.Addr.IsValid() && len(e.Addrs()) > 0 {
		in.Addr = e.Addrs()[0]
	}
	d, err := p.Networks.Get(e.Network)
	if errors.Is(err, network.ErrNotFound) {
		return in, fmt.Errorf("endpoint %s is on a network that is being removed", network.Short(e.ID))
	} else if err != nil {
		return in, err
	}
	in.Endpoint, in.Network = p.traced(e, d, s)
	return in, nil
}

// recorded is what the cluster has noted of an address of another host.
func (p *Plugin) recorded(a netip.Addr) *trace.Record {
	if p.Cluster == nil || !a.IsValid() {
		return nil
	}
	for _, c := range p.Cluster.List("") {
		if c.Addr == a {
			return &trace.Record{Host: c.HostName, For: c.Key}
		}
	}
	return nil
}

func joined(all []endpoint.Endpoint) []endpoint.Endpoint {
	var in []endpoint.Endpoint
	for _, e := range all {
		if e.Joined {
			in = append(in, e)
		}
	}
	if len(in) == 0 {
		return all
	}
	return in
}

func (p *Plugin) traced(e endpoint.Endpoint, d network.Definition, s Status) (*trace.Endpoint, *trace.Network) {
	end := &trace.Endpoint{
		ID: e.ID, Joined: e.Joined, IPv4: e.IPv4, IPv6: e.IPv6, MAC: e.MAC.String(),
		Alias: p.Host.EndpointAlias(e.Network, e.ID), Differences: []string{},
	}
	net := &trace.Network{
		ID: d.ID, Mode: string(d.Mode), Bridge: d.BridgeName, Parent: d.Parent, HostAccess: d.HostAccess, Internal: d.Internal,
		Foreign:  d.Foreign,
		Isolated: d.Port.Isolated || d.MacvlanMode == kernel.MacvlanPrivate, Differences: []string{},
	}
	if d.Mode == network.Bridge {
		end.HostLink = kernel.HostName(e.ID)
	}
	for _, n := range s.Networks {
		if n.ID != d.ID {
			continue
		}
		net.Differences = n.Difference
		for _, of := range n.Endpoints {
			if of.ID == e.ID {
				end.Differences = of.Difference
			}
		}
	}
	return end, net
}
