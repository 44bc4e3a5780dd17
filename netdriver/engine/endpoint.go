package engine

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	plugin "github.com/docker/go-plugins-helpers/network"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
)

func (d *Driver) registerEndpoints(s *pluginserver.Server) {
	handle(d, s, "/NetworkDriver.CreateEndpoint", d.createEndpoint)
	handle(d, s, "/NetworkDriver.DeleteEndpoint", d.deleteEndpoint)
	handle(d, s, "/NetworkDriver.EndpointOperInfo", d.endpointInfo)
	handle(d, s, "/NetworkDriver.Join", d.join)
	handle(d, s, "/NetworkDriver.Leave", d.leave)
	// Endpoints are on the wire: there is nothing to publish a port on, as with
	// the built-in macvlan driver.
	handle(d, s, "/NetworkDriver.ProgramExternalConnectivity", func(*plugin.ProgramExternalConnectivityRequest) (*empty, error) {
		return &empty{}, nil
	})
	handle(d, s, "/NetworkDriver.RevokeExternalConnectivity", func(*plugin.RevokeExternalConnectivityRequest) (*empty, error) {
		return &empty{}, nil
	})
}

func (d *Driver) createEndpoint(r *plugin.CreateEndpointRequest) (*plugin.CreateEndpointResponse, error) {
	if err := needIDs(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	if err := checkEndpointOptions(r.Options); err != nil {
		return nil, err
	}
	asked := r.Interface
	if asked == nil {
		asked = &plugin.EndpointInterface{}
	}
	e, err := wanted(r, asked)
	if err != nil {
		return nil, err
	}
	name, err := hostName(r.Options)
	if err != nil {
		return nil, err
	}
	if terms, leased := d.terms(e.IPv4); leased {
		e.MTU = terms.MTU
	} else if name != "" {
		return nil, fmt.Errorf("endpoint option %q: no DHCP server is told of this endpoint's name; leave it out, or make the network with --ipam-opt backend=dhcp", optionHostName)
	}
	d.IPAM.ReplayOver()
	d.Networks.Answered(r.NetworkID, true) // or nobody would ask for an endpoint on it
	made, err := d.Endpoints.Create(e)
	if err != nil {
		return nil, err
	}
	if name != "" {
		d.Leases.SetHostName(e.IPv4.Masked(), e.IPv4.Addr(), name)
	}
	// Saying again what the engine has said is an error there
	// (libnetwork/endpoint.go, SetMacAddress).
	reply := &plugin.EndpointInterface{}
	if asked.MacAddress == "" {
		reply.MacAddress = made.MAC.String()
	}
	return &plugin.CreateEndpointResponse{Interface: reply}, nil
}

// terms are those on which a DHCP server leases an endpoint's address.
func (d *Driver) terms(a netip.Prefix) (dhcp.Terms, bool) {
	if d.Leases == nil || !a.IsValid() {
		return dhcp.Terms{}, false
	}
	return d.Leases.Terms(a.Masked(), a.Addr())
}

// hostName reads how a DHCP server is to know the container.
func hostName(given map[string]any) (string, error) {
	text, _ := given[optionHostName].(string)
	if text != "" && dhcp.HostLabel(text) != text {
		return "", fmt.Errorf("endpoint option %q=%q: not a host name (up to 63 letters, digits and dashes)", optionHostName, text)
	}
	return text, nil
}

// staticRoutes are those that the server announces.
func staticRoutes(t dhcp.Terms) (routes []*plugin.StaticRoute) {
	const byGateway, onLink = 0, 1 // libnetwork/types/types.go, NEXTHOP, CONNECTED
	for _, r := range t.Routes {
		route := &plugin.StaticRoute{Destination: r.Dst.String(), RouteType: byGateway, NextHop: text(r.Via)}
		if !r.Via.IsValid() {
			route.RouteType = onLink
		}
		routes = append(routes, route)
	}
	return routes
}

// wanted reads the addresses and the MAC that the engine has for an endpoint.
func wanted(r *plugin.CreateEndpointRequest, asked *plugin.EndpointInterface) (endpoint.Endpoint, error) {
	e := endpoint.Endpoint{ID: r.EndpointID, Network: r.NetworkID, MAC: macOption(r.Options)}
	for _, family := range []struct {
		text string
		into *netip.Prefix
		is   func(netip.Addr) bool
	}{{asked.Address, &e.IPv4, netip.Addr.Is4}, {asked.AddressIPv6, &e.IPv6, isIPv6}} {
		if family.text == "" {
			continue
		}
		p, err := netip.ParsePrefix(family.text)
		if err != nil {
			return endpoint.Endpoint{}, fmt.Errorf("read the endpoint's address: %w", err)
		}
		if !family.is(p.Addr()) {
			return endpoint.Endpoint{}, fmt.Errorf("read the endpoint's address: %s is not of the family that it is given for", p)
		}
		*family.into = p
	}
	if asked.MacAddress != "" {
		mac, err := net.ParseMAC(asked.MacAddress)
		if err != nil {
			return endpoint.Endpoint{}, fmt.Errorf("read the endpoint's MAC: %w", err)
		}
		e.MAC = mac
	}
	if n := len(e.MAC); n > 0 && (n != 6 || e.MAC[0]&1 != 0) {
		return endpoint.Endpoint{}, fmt.Errorf("read the endpoint's MAC: %s is not that of one Ethernet interface", e.MAC)
	}
	return e, nil
}

func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

// checkEndpointOptions refuses what a user gave as --driver-opt and this driver
// does not have: the engine mixes them with its own labels. A value that is no text
// cannot be a user's: a newer engine may have labels that are not known here.
func checkEndpointOptions(given map[string]any) error {
	return checkOptions("endpoint option", given, endpointLabels(), optionHostName)
}

// checkOptions checks the engine's own labels, and that of others there are only
// those of this driver's own.
func checkOptions[V any](what string, given map[string]V, labels []string, own ...string) error {
	typed := map[string]V{}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case slices.Contains(own, key):
			continue
		case !strings.HasPrefix(key, labelPrefix) && len(own) == 0:
			return fmt.Errorf("unknown %s %q: this driver has none", what, key)
		case !strings.HasPrefix(key, labelPrefix):
			return fmt.Errorf("unknown %s %q: this driver has only %s", what, key, strings.Join(own, ", "))
		}
		if _, text := any(given[key]).(string); text {
			typed[key] = given[key]
		}
	}
	return options.CheckKeys(what, typed, labels)
}

func (d *Driver) deleteEndpoint(r *plugin.DeleteEndpointRequest) (*empty, error) {
	if err := needIDs(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	if e, err := d.Endpoints.Get(r.EndpointID); err == nil {
		d.IPAM.EndpointDeleted(e.Addrs()...) // before it is: no moment without either
	}
	if err := d.Endpoints.Delete(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	d.kick()
	return &empty{}, nil
}

func (d *Driver) endpointInfo(r *plugin.InfoRequest) (*infoResponse, error) {
	if err := needIDs(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	e, err := d.Endpoints.Get(r.EndpointID)
	if err != nil {
		return nil, err
	}
	return &infoResponse{Value: map[string]any{"mac": e.MAC.String()}}, nil
}

func (d *Driver) join(r *plugin.JoinRequest) (*plugin.JoinResponse, error) {
	if err := needIDs(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	e, def, err := d.Endpoints.Join(r.EndpointID)
	if err != nil {
		return nil, err
	}
	d.kick()
	res := &plugin.JoinResponse{
		InterfaceName: plugin.InterfaceName{SrcName: kernel.ContainerName(e.ID), DstPrefix: def.IfPrefix},
		Gateway:       text(def.Gateway(e.IPv4)),
		GatewayIPv6:   text(def.Gateway(e.IPv6)),
	}
	if terms, leased := d.terms(e.IPv4); leased && !def.Internal {
		res.StaticRoutes = staticRoutes(terms)
	}
	// Without a gateway the engine would add its own bridge to give one.
	res.DisableGatewayService = res.Gateway == "" && res.GatewayIPv6 == ""
	return res, nil
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func (d *Driver) leave(r *plugin.LeaveRequest) (*empty, error) {
	if err := needIDs(r.NetworkID, r.EndpointID); err != nil {
		return nil, err
	}
	if err := d.Endpoints.Leave(r.EndpointID); err != nil {
		return nil, err
	}
	d.kick()
	return &empty{}, nil
}
