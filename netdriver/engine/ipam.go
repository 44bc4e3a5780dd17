package engine

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	plugin "github.com/docker/go-plugins-helpers/ipam"

	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/ipam"
)

const (
	addressesAre  = "/IpamDriver.GetCapabilities"
	addressSpaces = "/IpamDriver.GetDefaultAddressSpaces"
)

func spaces() (*plugin.AddressSpacesResponse, error) {
	return &plugin.AddressSpacesResponse{
		LocalDefaultAddressSpace:  ipam.LocalSpace,
		GlobalDefaultAddressSpace: ipam.GlobalSpace,
	}, nil
}

func (d *Driver) registerIPAM(s *pluginserver.Server) {
	handleEmpty(d, s, addressesAre, func() (*ipamCapabilities, error) {
		d.IPAM.Registered()
		return &ipamCapabilities{RequiresRequestReplay: true, RequiresMACAddress: d.RequireMAC}, nil
	})
	handleEmpty(d, s, addressSpaces, spaces)
	handle(d, s, "/IpamDriver.RequestPool", d.requestPool)
	handle(d, s, "/IpamDriver.ReleasePool", d.releasePool)
	handle(d, s, "/IpamDriver.RequestAddress", d.requestAddress)
	handle(d, s, "/IpamDriver.ReleaseAddress", d.releaseAddress)
}

func (d *Driver) requestPool(r *plugin.RequestPoolRequest) (*plugin.RequestPoolResponse, error) {
	own, err := poolOptions(r.Options)
	if err != nil {
		return nil, err
	}
	prefix, err := optionalPrefix(r.Pool)
	if err != nil {
		return nil, fmt.Errorf("read the subnet: %w", err)
	}
	from, err := optionalPrefix(r.SubPool)
	if err != nil {
		return nil, fmt.Errorf("read the address range: %w", err)
	}
	p, err := d.IPAM.RequestPool(ipam.PoolRequest{Space: r.AddressSpace, Prefix: prefix, Range: from, V6: r.V6, Options: own})
	if err != nil {
		return nil, err
	}
	return &plugin.RequestPoolResponse{PoolID: p.ID, Pool: p.Prefix.String(), Data: map[string]string{}}, nil
}

// poolOptions returns what is not the engine's own; whose it is checks it.
func poolOptions(given map[string]string) (own map[string]string, err error) {
	labels := map[string]string{}
	for key, value := range given {
		if strings.HasPrefix(key, labelPrefix) {
			labels[key] = value
			continue
		}
		if own == nil {
			own = map[string]string{}
		}
		own[key] = value
	}
	return own, checkOptions("IPAM option", labels, poolLabels())
}

func optionalPrefix(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("not a prefix: %w", err)
	}
	return p, nil
}

func (d *Driver) releasePool(r *plugin.ReleasePoolRequest) (*empty, error) {
	if r.PoolID == "" {
		return nil, fmt.Errorf("the request names no pool: %w", ipam.ErrNoPool)
	}
	if err := d.IPAM.ReleasePool(r.PoolID); err != nil {
		return nil, err
	}
	return &empty{}, nil
}

func (d *Driver) requestAddress(r *plugin.RequestAddressRequest) (*plugin.RequestAddressResponse, error) {
	addr, err := address(r.Address)
	if err != nil {
		return nil, err
	}
	var mac net.HardwareAddr
	if text := r.Options[labelMAC]; text != "" {
		if mac, err = net.ParseMAC(text); err != nil {
			return nil, fmt.Errorf("read the MAC address: %w", err)
		}
	}
	name := r.Options[labelName] // since engine 29.0
	given, err := d.IPAM.RequestAddress(r.PoolID, ipam.AddressRequest{
		Addr: addr, Gateway: r.Options[optionAddressType] == typeGateway, Key: ipam.Key(name, mac), MAC: mac, Name: name,
	})
	if err != nil {
		return nil, err
	}
	return &plugin.RequestAddressResponse{Address: given.String(), Data: map[string]string{}}, nil
}

func (d *Driver) releaseAddress(r *plugin.ReleaseAddressRequest) (*empty, error) {
	addr, err := address(r.Address)
	if err != nil {
		return nil, err
	}
	if err := d.IPAM.ReleaseAddress(r.PoolID, addr); err != nil {
		return nil, err
	}
	return &empty{}, nil
}
