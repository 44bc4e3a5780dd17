package engine

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	ipamplugin "github.com/docker/go-plugins-helpers/ipam"
	plugin "github.com/docker/go-plugins-helpers/network"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

// What the engine sends, as seen.
const (
	createNetworkBody = `{"NetworkID":"5a1b","Options":{"com.docker.network.enable_ipv6":true,"com.docker.network.generic":{"parent":"eth0","mtu":"1400"}},` +
		`"IPv4Data":[{"AddressSpace":"dockline-local","Pool":"192.0.2.0/24","Gateway":"192.0.2.254/24","AuxAddresses":{"printer":"192.0.2.7/24"}}],` +
		`"IPv6Data":[{"AddressSpace":"dockline-local","Pool":"2001:db8::/64","Gateway":"2001:db8::fe/64","AuxAddresses":{}}]}`
	createEndpointBody = `{"NetworkID":"5a1b","EndpointID":"77","Interface":{"Address":"192.0.2.1/24","AddressIPv6":"2001:db8::1/64","MacAddress":""},` +
		`"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[],"com.docker.network.endpoint.macaddress":"AkIKAQAH"}}`
	requestAddressBody = `{"PoolID":"dockline-local/192.0.2.0/24","Address":"192.0.2.9","Options":{"com.docker.network.endpoint.macaddress":"02:42:c0:00:02:09"}}`
)

func TestWhatARequestIsAbout(t *testing.T) {
	for _, tc := range []struct {
		request any
		want    []any
	}{
		{&plugin.JoinRequest{NetworkID: "0123456789abcdef", EndpointID: "fedcba9876543210"}, []any{"network", "0123456789ab", "endpoint", "fedcba987654"}},
		{&ipamplugin.RequestPoolRequest{Pool: "10.1.0.0/24"}, []any{"pool", "10.1.0.0/24"}},
		{&ipamplugin.ReleaseAddressRequest{PoolID: "p", Address: "10.1.0.7"}, []any{"pool", "p", "address", "10.1.0.7"}},
		{&gwAllocRequest{}, nil},
	} {
		if got := subject(tc.request); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %v", tc.request, got)
		}
	}
}

// Whatever a network is asked for with, its definition is one that the kernel
// and the packages below can take.
func FuzzCreateNetwork(f *testing.F) {
	f.Add([]byte(createNetworkBody))
	f.Add([]byte(`{"NetworkID":"x","Options":{"com.docker.network.internal":"true","com.docker.network.generic":{"mode":"bridge","com.docker.network.bridge.name":"br0"}},"IPv4Data":[null]}`))
	f.Add([]byte(`{"NetworkID":"x","Options":{"com.docker.network.generic":null},"IPv4Data":[{"Pool":"::ffff:10.0.0.0/100"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r plugin.CreateNetworkRequest
		if json.Unmarshal(body, &r) != nil {
			return
		}
		d, err := definition(&r)
		if err != nil {
			return
		}
		if d.ID == "" || len(d.BridgeName) > 15 || len(d.Parent) > 15 || d.MTU < 0 || d.MTU > 65535 {
			t.Errorf("made %+v", d)
		}
		for _, p := range d.Pools {
			if !p.Prefix.IsValid() || p.Prefix != p.Prefix.Masked() || p.Gateway.Is4In6() {
				t.Errorf("made pool %+v", p)
			}
		}
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("cannot be stored: %v", err)
		}
		var again network.Definition
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Errorf("cannot be loaded: %v: %s", err, raw)
		}
	})
}

func FuzzCreateEndpoint(f *testing.F) {
	f.Add([]byte(createEndpointBody))
	f.Add([]byte(`{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"::1/64","AddressIPv6":"10.0.0.1/8","MacAddress":"02"}}`))
	f.Add([]byte(`{"NetworkID":"n","EndpointID":"e","Options":{"com.docker.network.endpoint.macaddress":"AkIK"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r plugin.CreateEndpointRequest
		if json.Unmarshal(body, &r) != nil || checkEndpointOptions(r.Options) != nil {
			return
		}
		asked := r.Interface
		if asked == nil {
			asked = &plugin.EndpointInterface{}
		}
		e, err := wanted(&r, asked)
		if err != nil {
			return
		}
		if e.IPv4.IsValid() && !e.IPv4.Addr().Is4() || e.IPv6.IsValid() && !isIPv6(e.IPv6.Addr()) {
			t.Errorf("read %+v", e)
		}
		if mac := kernel.EndpointMAC(e.IPv4.Addr(), e.IPv6.Addr(), e.ID); len(mac) != 6 || mac[0]&1 != 0 {
			t.Errorf("chose %s for %+v", mac, e)
		}
		if n := len(e.MAC); n > 0 && (n != 6 || e.MAC[0]&1 != 0) {
			t.Errorf("took %s", e.MAC)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add([]byte(requestAddressBody), "192.0.2.0/24")
	f.Add([]byte(`{"PoolID":"p","Address":"192.0.2.9/24"}`), "")
	f.Add([]byte(`{"Address":"fe80::1%eth0"}`), "fe80::%x/64")
	f.Fuzz(func(t *testing.T, body []byte, text string) {
		if p, err := optionalPrefix(text); err == nil && text != "" && !p.IsValid() {
			t.Errorf("%q is %v", text, p)
		}
		var r ipamplugin.RequestAddressRequest
		if json.Unmarshal(body, &r) != nil {
			return
		}
		a, err := address(r.Address)
		if err == nil && (a.Is4In6() || a.Zone() != "" || r.Address != "" && a == netip.Addr{}) {
			t.Errorf("%q is %v", r.Address, a)
		}
	})
}
