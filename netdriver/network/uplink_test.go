package network

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

func TestUplinkUsable(t *testing.T) {
	made, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for _, tc := range []struct {
		name   string
		mac    string // of the definition
		uplink kernel.Link
		addrs  []netip.Prefix
		usable bool
	}{
		{"as it was", made.String(), kernel.Link{PermMAC: made}, nil, true},
		{"a virtual one", "", kernel.Link{}, nil, true},
		{"another device of that name", made.String(), kernel.Link{PermMAC: other}, nil, false},
		{"a virtual one in the place of hardware", made.String(), kernel.Link{}, nil, false},
		{"a port of another bridge", "", kernel.Link{Master: 7}, nil, false},
		{"with an address", "", kernel.Link{}, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, false},
	} {
		err := uplinkUsable(Definition{ID: "n", Parent: "eth1", UplinkMAC: tc.mac}, tc.uplink, tc.addrs, nil)
		if tc.usable != (err == nil) || err != nil && !errors.Is(err, ErrUplink) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
