package kernel

import (
	"net/netip"
	"testing"
)

func TestNamesFitTheKernel(t *testing.T) {
	const id = "c0630b5e54ed73cfd946785559c6d8dc1ea7c7627e86d53f77bfc3f6e7044439"
	seen := map[string]bool{}
	for _, name := range []string{HostName(id), ContainerName(id), BridgeName(id), HostName(id + "x"), HostPortName(id), WireName(id), VLANName("enx001122334455", 4094), VLANName("eth0", 7), VLANDraftName(id)} {
		if len(name) > 15 || seen[name] {
			t.Errorf("%q is too long or twice", name)
		}
		seen[name] = true
	}
}

func TestOwner(t *testing.T) {
	for alias, want := range map[string]struct {
		owner Owner
		ours  bool
	}{
		self.NetworkAlias("n"):              {Owner{Network: "n"}, true},
		self.EndpointAlias("n", "e"):        {Owner{Network: "n", Endpoint: "e"}, true},
		self.WireAlias("n", "e"):            {},
		self.VLANAlias("eth0", 7):           {},
		"":                                  {},
		Instance("5e1f0").NetworkAlias("n"): {},
		Instance("5e1").NetworkAlias("n"):   {},
		"uplink to the rack":                {},
		"dockline:5e1f:network:":            {},
		"dockline:5e1f:endpoint:n":          {},
		"dockline:5e1f:endpoint:n:":         {},
	} {
		if o, ours := self.Owner(alias); ours != want.ours || ours && o != want.owner {
			t.Errorf("%q: got %v, %v", alias, o, ours)
		}
	}
}

func TestEndpointMAC(t *testing.T) {
	none := netip.Addr{}
	v4, v6 := netip.MustParseAddr("10.50.0.200"), netip.MustParseAddr("fd00::1")
	if got := EndpointMAC(v4, v6, "e").String(); got != "02:42:0a:32:00:c8" {
		t.Errorf("from IPv4: %s", got)
	}
	for name, mac := range map[string][]byte{"IPv6": EndpointMAC(none, v6, "e"), "id": EndpointMAC(none, none, "e"), "bridge": BridgeMAC("n")} {
		if mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Errorf("%s: %x is not unicast and locally administered", name, mac)
		}
	}
}
