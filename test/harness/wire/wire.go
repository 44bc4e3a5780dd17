// Package wire makes one machine look like several that share a layer 2: a
// Wire is the switch between them, a Station is a machine with cables to it.
// All of it is in network namespaces of its own; no interface, address or route
// of the machine that the tests run on is ever touched.
//
// What happens on a wire can be watched (Capture), and whatever frame one likes
// can be put on it (Station.Send).
package wire

import (
	"context"
	"fmt"
	"net"

	"github.com/dockline/dockline/test/harness/lab"
	"github.com/dockline/dockline/test/harness/netns"
)

// bridge is the name of the switch inside of its namespace.
const bridge = "switch"

// Wire is a switch that knows nothing of addresses or VLANs: it passes every
// frame on as it is.
type Wire struct {
	Name  string
	ns    string
	index int // the bridge's, inside of its namespace
	lab   *lab.Lab
}

// New makes a wire. It goes with Close, and with the lab.
func New(ctx context.Context, l *lab.Lab, name string) (*Wire, error) {
	w := &Wire{Name: name, ns: l.Namespace(name), lab: l}
	if err := netns.Add(ctx, w.ns); err != nil {
		return nil, fmt.Errorf("make wire %s: %w", name, err)
	}
	// Snooping off: group traffic goes everywhere, as in a plain switch. No
	// link-local address: the switch itself says nothing.
	for _, args := range [][]string{
		{"add", bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"},
		{"set", bridge, "addrgenmode", "none", "up"},
	} {
		if err := netns.IP(ctx, append([]string{"-n", w.ns, "link"}, args...)...); err != nil {
			return nil, fmt.Errorf("make wire %s: %w", name, err)
		}
	}
	err := netns.Do(w.ns, func() error {
		link, err := net.InterfaceByName(bridge)
		if err == nil {
			w.index = link.Index
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make wire %s: %w", name, err)
	}
	return w, nil
}

// Foreign makes a machine that none of our hosts knows: a station whose eth0 is
// on the wire and has these addresses (with their prefix lengths).
func (w *Wire) Foreign(ctx context.Context, name string, addresses ...string) (*Station, error) {
	s, err := NewStation(ctx, w.lab, name)
	if err != nil {
		return nil, err
	}
	return s, s.Plug(ctx, w, "eth0", addresses...)
}

// Close takes the switch away. Stations stay, with cables that lead nowhere gone.
func (w *Wire) Close() error { return netns.Delete(w.ns) }
