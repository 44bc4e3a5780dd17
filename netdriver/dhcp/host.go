package dhcp

import (
	"fmt"
	"net"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// OnKernel finds wires on a real host.
type OnKernel struct {
	*kernel.Kernel
	Networks interface{ List() []network.Definition }
}

// Links implements Host: the wire of the network on a pool, or before there is
// one what the user named as it.
func (h OnKernel) Links(p Pool) (Links, error) {
	for _, d := range h.Networks.List() {
		if !d.Going && slices.ContainsFunc(d.Pools, func(of network.Pool) bool { return of.Prefix == p.Prefix }) {
			return h.wire(d)
		}
	}
	if p.Parent == "" {
		return Links{}, fmt.Errorf("no network is on %s yet, and nothing says where its DHCP server is", p.Prefix)
	}
	l, err := h.Link(p.Parent)
	return Links{Out: l.Interface()}, h.ready(l, err)
}

// wire speaks to the LAN and to what is beside it on this host: of a macvlan
// network by the port for looking at the wire, where there is one (frames sent on
// the parent do not reach its other macvlan links), of a bridge by the bridge.
// Answers to an endpoint's own MAC come by what leads to the LAN.
func (h OnKernel) wire(d network.Definition) (Links, error) {
	if d.Mode == network.Macvlan {
		parent, err := h.Link(d.Parent)
		if err := h.ready(parent, err); err != nil {
			return Links{}, err
		}
		port, err := h.Link(kernel.PortName(d.ID))
		if err == nil && port.Up && port.Parent == parent.Index && port.Alias == h.PortAlias(d.ID) {
			return Links{Out: port.Interface(), In: []*net.Interface{parent.Interface()}}, nil
		}
		return Links{Out: parent.Interface()}, nil // such a port is not always there
	}
	bridge, err := h.Link(d.BridgeName)
	if err := h.ready(bridge, err); err != nil {
		return Links{}, err
	}
	links := Links{Out: bridge.Interface()}
	switch {
	case d.Foreign:
		links.In, err = h.ForeignPorts(bridge)
	case d.Parent != "":
		var uplink kernel.Link
		uplink, err = h.Link(d.Parent)
		links.In = []*net.Interface{uplink.Interface()}
	}
	return links, err
}

func (h OnKernel) ready(l kernel.Link, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("find the wire to the DHCP server: %w", err)
	case !l.Up:
		return fmt.Errorf("find the wire to the DHCP server: %q is down; bring it up (ip link set %s up)", l.Name, l.Name)
	}
	return nil
}

// Open implements Host.
func (h OnKernel) Open(l Links) (port Port, err error) {
	err = h.Within(func() error {
		port, err = OpenSockets(l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return port, nil
}
