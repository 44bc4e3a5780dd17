package engine

import (
	"errors"
	"fmt"
	"net/netip"

	plugin "github.com/docker/go-plugins-helpers/network"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/network"
)

// The calls of which it matters that one was cut off; see Driver.cutOff.
const (
	createNetwork = "/NetworkDriver.CreateNetwork"
	deleteNetwork = "/NetworkDriver.DeleteNetwork"
)

const networksAre = "/NetworkDriver.GetCapabilities"

// ofNetworks: they are known to one host, what they reach is not (driverapi.Capability).
func ofNetworks() (*networkCapabilities, error) {
	return &networkCapabilities{Scope: plugin.LocalScope, ConnectivityScope: plugin.GlobalScope, GwAllocChecker: true}, nil
}

func (d *Driver) registerNetworks(s *pluginserver.Server) {
	handleEmpty(d, s, networksAre, ofNetworks)
	handle(d, s, "/NetworkDriver.GwAllocCheck", d.gwAllocCheck)
	handleThen(d, s, createNetwork, d.createNetwork, func(r *plugin.CreateNetworkRequest, answered bool) {
		d.Networks.Answered(r.NetworkID, answered)
	})
	handle(d, s, deleteNetwork, d.deleteNetwork)
	handle(d, s, "/NetworkDriver.AllocateNetwork", func(*plugin.AllocateNetworkRequest) (*plugin.AllocateNetworkResponse, error) {
		return nil, errGlobal
	})
	handle(d, s, "/NetworkDriver.FreeNetwork", func(*plugin.FreeNetworkRequest) (*empty, error) {
		return &empty{}, nil // none was allocated
	})
	for _, path := range []string{"/NetworkDriver.DiscoverNew", "/NetworkDriver.DiscoverDelete"} {
		handle(d, s, path, func(*plugin.DiscoveryNotification) (*empty, error) { return &empty{}, nil })
	}
}

func (d *Driver) gwAllocCheck(r *gwAllocRequest) (*gwAllocResponse, error) {
	skip := network.NeedsNoGateway(generic(r.Options), flag(r.Options, labelInternal, false))
	return &gwAllocResponse{SkipIPv4: skip, SkipIPv6: skip}, nil
}

func (d *Driver) createNetwork(r *plugin.CreateNetworkRequest) (*empty, error) {
	def, err := definition(r)
	if err != nil {
		return nil, err
	}
	if err := d.Networks.Create(def); err != nil {
		return nil, err
	}
	d.Log.Info("network made", "network", network.Short(def.ID), "mode", def.Mode, "parent", def.Parent, "bridge", def.BridgeName)
	d.sync() // what starts next finds the wire looked at
	return &empty{}, nil
}

func (d *Driver) deleteNetwork(r *plugin.DeleteNetworkRequest) (*empty, error) {
	if r.NetworkID == "" {
		return nil, errors.New("the request names no network")
	}
	err := d.Networks.Delete(r.NetworkID)
	d.sync() // the parent may be wanted for something else next
	if err != nil {
		return nil, err
	}
	d.Log.Info("network removed", "network", network.Short(r.NetworkID))
	return &empty{}, nil
}

// definition reads a CreateNetwork.
func definition(r *plugin.CreateNetworkRequest) (network.Definition, error) {
	pools := make([]network.Pool, 0, len(r.IPv4Data)+len(r.IPv6Data))
	for _, data := range append(append([]*plugin.IPAMData{}, r.IPv4Data...), r.IPv6Data...) {
		p, err := pool(data)
		if err != nil {
			return network.Definition{}, err
		}
		pools = append(pools, p)
	}
	return network.Parse(network.Request{
		ID:       r.NetworkID,
		Options:  generic(r.Options),
		Internal: flag(r.Options, labelInternal, false),
		IPv4:     flag(r.Options, labelIPv4, len(r.IPv4Data) > 0),
		IPv6:     flag(r.Options, labelIPv6, len(r.IPv6Data) > 0),
		Pools:    pools,
	})
}

// pool reads one subnet. Gateway and auxiliary addresses come with or without
// a prefix length.
func pool(data *plugin.IPAMData) (network.Pool, error) {
	if data == nil {
		return network.Pool{}, errors.New("the request has an empty subnet")
	}
	prefix, err := netip.ParsePrefix(data.Pool)
	if err != nil {
		return network.Pool{}, fmt.Errorf("read the subnet: %w", err)
	}
	p := network.Pool{Space: data.AddressSpace, Prefix: prefix.Masked()}
	if p.Gateway, err = address(data.Gateway); err != nil {
		return network.Pool{}, fmt.Errorf("read the gateway of %s: %w", prefix, err)
	}
	for name, value := range data.AuxAddresses {
		text, _ := value.(string)
		a, err := address(text)
		if err != nil {
			return network.Pool{}, fmt.Errorf("read the auxiliary address %q: %w", name, err)
		}
		if a.IsValid() {
			p.Aux = append(p.Aux, a)
		}
	}
	return p, nil
}

// address reads an address with or without a prefix length; "" is none.
func address(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("not an address: %w", err)
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("not an address of a network: %s has a zone", a)
	}
	return a.Unmap(), nil
}
