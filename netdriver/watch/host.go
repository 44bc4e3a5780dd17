package watch

import (
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/neighbour"
	"github.com/dockline/dockline/netdriver/network"
)

// OnKernel makes ports on a real host: for macvlan a link of our own on the
// parent, else the bridge itself.
type OnKernel struct{ *kernel.Kernel }

// Open implements Host.
func (h OnKernel) Open(d network.Definition) (Port, error) {
	link, wires, err := h.links(d)
	if err != nil {
		return nil, err
	}
	var port *neighbour.Port
	err = h.Within(func() (err error) {
		port, err = neighbour.Open(link, wires...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return port, nil
}

// links returns the link to listen by and those behind which the wire is.
func (h OnKernel) links(d network.Definition) (link *net.Interface, wires []*net.Interface, err error) {
	if d.Mode == network.Macvlan {
		port, err := h.EnsurePort(d.ID, d.Parent)
		if err != nil {
			return nil, nil, err
		}
		parent, err := h.Link(d.Parent)
		return port.Interface(), []*net.Interface{parent.Interface()}, err
	}
	bridge, err := h.Link(d.BridgeName)
	if err != nil {
		return nil, nil, fmt.Errorf("find the bridge: %w", err)
	}
	if d.Foreign {
		wires, err = h.ForeignPorts(bridge)
		return bridge.Interface(), wires, err
	}
	uplink, err := h.Link(d.Parent)
	if err != nil {
		return nil, nil, fmt.Errorf("find the uplink: %w", err)
	}
	return bridge.Interface(), []*net.Interface{uplink.Interface()}, nil
}

// Drop implements Host.
func (h OnKernel) Drop(networkID string) error { return h.DeletePort(networkID) }

// Links implements Host.
func (h OnKernel) Links() ([]string, error) {
	ports, err := h.Ports()
	return slices.Collect(maps.Keys(ports)), err
}
