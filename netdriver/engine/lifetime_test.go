package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The tests of this file go through ends of the plugin and of the engine at
// unlucky moments. No network or address may be lost by it, or given twice.

const (
	pool60    = `{"AddressSpace":"dockline-local","Pool":"10.60.0.0/24"}`
	gateway60 = `{"PoolID":"dockline-local/10.60.0.0/24","Address":"10.60.0.1","Options":{"RequestAddressType":"com.docker.network.gateway"}}`
	any60     = `{"PoolID":"dockline-local/10.60.0.0/24"}`
)

// create60 is a CreateNetwork on the subnet 10.60.0.0/24 of our own IPAM.
func create60(id, options string) string {
	return strings.Replace(create(id, "10.60.0.0/24", options), "LocalDefault", "dockline-local", 1)
}

func (h *host) registered() {
	h.t.Helper()
	h.ok("IpamDriver.GetCapabilities", "")
	h.ok("IpamDriver.GetDefaultAddressSpaces", "")
}

func (h *host) restart() {
	h.t.Helper()
	h.kill()
	h.start()
	h.registered()
}

func (h *host) network60(id, options string) {
	h.t.Helper()
	h.ok("IpamDriver.RequestPool", pool60)
	h.ok("IpamDriver.RequestAddress", gateway60)
	h.ok("NetworkDriver.CreateNetwork", create60(id, options))
}

// release60 is what the engine says after a CreateNetwork failed, and before a
// DeleteNetwork.
func (h *host) release60() {
	h.t.Helper()
	h.ok("IpamDriver.ReleaseAddress", `{"PoolID":"dockline-local/10.60.0.0/24","Address":"10.60.0.1"}`)
	h.ok("IpamDriver.ReleasePool", any60)
}

func (h *host) container(network, endpoint string) (address string) {
	h.t.Helper()
	address, _ = h.ok("IpamDriver.RequestAddress", any60)["Address"].(string)
	h.ok("NetworkDriver.CreateEndpoint", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Options":{},"Interface":{"Address":%q}}`, network, endpoint, address))
	h.ok("NetworkDriver.Join", fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q}`, network, endpoint))
	return address
}

func (h *host) reconcile() {
	h.t.Helper()
	if _, err := h.rec.Once(); err != nil {
		h.t.Fatal(err)
	}
}

func TestASecondNetworkOnThePoolTakesNothingAlong(t *testing.T) {
	for name, tc := range map[string]struct{ options, with string }{
		"refused for the overlap":     {macvlan, "overlaps"},
		"refused for an unknown key":  {`"parnet":"nic0"`, "parent"},
		"refused for a bad value":     {`"parent":"nic0","mtu":"much"`, "mtu"},
		"on the wire in another mode": {`"mode":"bridge","uplink":"nic0"`, "overlaps"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.registered()
			h.network60("n", macvlan)
			first := h.container("n", "e1")
			h.refused("IpamDriver.RequestPool", pool60, "already in use")
			h.restart()   // of the plugin alone: the engine replays nothing
			for range 2 { // typed wrong, and again
				h.ok("IpamDriver.RequestPool", pool60)
				h.ok("IpamDriver.RequestAddress", gateway60)
				h.refused("NetworkDriver.CreateNetwork", create60("m", tc.options), tc.with)
				h.release60()
			}
			h.reconcile()
			if second := h.container("n", "e2"); second == first || second == "10.60.0.1/24" {
				t.Errorf("a second container got %s, the first has %s", second, first)
			}
			h.refused("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.60.0.0/24","Address":"10.60.0.1"}`, "already in use")
			h.refused("IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":"dockline-local/10.60.0.0/24","Address":%q}`, first), "already in use")
		})
	}
}

func TestAReplayIsOverWithTheFirstEndpoint(t *testing.T) {
	h := newHost(t)
	h.registered()
	h.network60("n", macvlan)
	named := func(a string) string {
		return fmt.Sprintf(`{"PoolID":"dockline-local/10.60.0.0/24","Address":%q}`, a)
	}
	h.ok("IpamDriver.RequestAddress", named("10.60.0.7"))
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.60.0.7/24"}}`)
	h.ok("NetworkDriver.Join", ids)
	h.restart() // of the engine, which has lost the endpoint
	h.ok("IpamDriver.RequestPool", pool60)
	h.ok("IpamDriver.RequestAddress", named("10.60.0.8"))
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e2","Interface":{"Address":"10.60.0.8/24"}}`)
	h.refused("IpamDriver.RequestAddress", named("10.60.0.7"), "already in use")
}

func TestTheGatewayIsNotGivenAfterAReboot(t *testing.T) {
	h := newHost(t)
	h.registered()
	h.network60("n", macvlan)
	h.boot = "another" // the plugin is enabled later than the engine starts: no replay
	h.restart()
	if a := h.container("n", "e"); a == "10.60.0.1/24" {
		t.Error("a container has the gateway's address")
	}
	h.refused("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.60.0.0/24","Address":"10.60.0.1"}`, "already in use")
}

func TestANetworkWhoseDeletionWasLostIsRemoved(t *testing.T) {
	for name, joined := range map[string]bool{"idle": false, "with a running container": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.registered()
			h.network60("n", bridge)
			if joined {
				h.container("n", "e")
			}
			other := `{"AddressSpace":"dockline-local","Pool":"10.61.0.0/24"}`
			h.ok("IpamDriver.RequestPool", other)
			for range 2 { // starts of an engine that knows the other network only
				h.reconcile()
				h.refused("IpamDriver.RequestPool", pool60, "already in use")
				h.restart()
				h.ok("IpamDriver.RequestPool", other)
				h.ok("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.61.0.0/24"}`) // a container starts: the replay is over
			}
			h.reconcile()
			if joined {
				h.refused("IpamDriver.RequestPool", pool60, "already in use")
				h.ok("NetworkDriver.EndpointOperInfo", ids)
				return
			}
			h.wantOurs(0, "with the network gone")
			h.network60("again", bridge) // on the same wire
		})
	}
}

// An engine that could not repeat all of a network knows it all the same.
func TestANetworkThatIsRepeatedInPartStays(t *testing.T) {
	h := newHost(t)
	h.registered()
	six := `{"AddressSpace":"dockline-local","Pool":"fd00:60::/64","V6":true}`
	other := `{"AddressSpace":"dockline-local","Pool":"10.61.0.0/24"}`
	for _, pool := range []string{pool60, six, other} {
		h.ok("IpamDriver.RequestPool", pool)
	}
	h.ok("NetworkDriver.CreateNetwork", strings.Replace(create60("n", bridge), `"IPv6Data":[]`, `"IPv6Data":[{"AddressSpace":"dockline-local","Pool":"fd00:60::/64"}]`, 1))
	for range 3 {
		h.restart()
		h.ok("IpamDriver.RequestPool", pool60)
		h.ok("IpamDriver.RequestPool", other)
		h.ok("IpamDriver.RequestAddress", `{"PoolID":"dockline-local/10.61.0.0/24"}`) // a container starts: the replay is over
		h.reconcile()
	}
	h.container("n", "e")
}

func TestANetworkTakesItsEndpointsAndPoolsAlong(t *testing.T) {
	for name, options := range map[string]string{"macvlan": macvlan, "bridge": bridge} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network60("n", options)
			first := h.container("n", "e") // its end is lost
			h.release60()
			for range 2 {
				h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
			}
			h.refused("NetworkDriver.EndpointOperInfo", ids, "no such endpoint")
			h.wantOurs(0, "with the network gone")
			h.restart()
			h.network60("m", options)
			if second := h.container("m", "e2"); second != first {
				t.Errorf("got %s, the first free one is %s", second, first)
			}
		})
	}
}

func TestAnEndpointsAddressIsOfItsFamily(t *testing.T) {
	h := newHost(t)
	h.network60("n", macvlan)
	for _, addresses := range []string{`"Address":"fd00::7/64"`, `"Address":"::ffff:10.60.0.7/120"`, `"AddressIPv6":"10.60.0.7/24"`, `"AddressIPv6":"::ffff:10.60.0.7/120"`} {
		h.refused("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{`+addresses+`}}`, "family")
	}
}

// TestAContainerThatStopsKeepsItsAddressToItsEnd has a range of two addresses,
// of which one is the gateway's.
func TestAContainerThatStopsKeepsItsAddressToItsEnd(t *testing.T) {
	h := newHost(t)
	h.ok("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local","Pool":"10.60.0.0/24","SubPool":"10.60.0.0/30"}`)
	in := `"PoolID":"dockline-local/10.60.0.0/24/10.60.0.0/30"`
	h.ok("IpamDriver.RequestAddress", strings.Replace(gateway60, `"PoolID":"dockline-local/10.60.0.0/24"`, in, 1))
	h.ok("NetworkDriver.CreateNetwork", create60("n", macvlan))
	for _, endpoint := range []string{"e", "e3"} {
		reply := h.ok("IpamDriver.RequestAddress", `{`+in+`}`)
		h.ok("NetworkDriver.CreateEndpoint", fmt.Sprintf(`{"NetworkID":"n","EndpointID":%q,"Interface":{"Address":%q}}`, endpoint, reply["Address"]))
		h.ok("NetworkDriver.Join", fmt.Sprintf(`{"NetworkID":"n","EndpointID":%q}`, endpoint))
	}
	h.later = time.Hour
	full := func() { t.Helper(); h.refused("IpamDriver.RequestAddress", `{`+in+`}`, "no address left") }
	full()
	h.ok("IpamDriver.ReleaseAddress", `{`+in+`,"Address":"10.60.0.2"}`) // of somebody before
	full()
	h.ok("NetworkDriver.Leave", ids)
	h.later += time.Hour
	full()
	h.ok("NetworkDriver.DeleteEndpoint", ids)
	full()
	h.ok("IpamDriver.ReleaseAddress", `{`+in+`,"Address":"10.60.0.2"}`)
	if reply := h.ok("IpamDriver.RequestAddress", `{`+in+`}`); reply["Address"] != "10.60.0.2/24" {
		t.Errorf("got %v", reply["Address"])
	}
}

func TestAChosenSubnetAvoidsNetworksOfAnotherIPAM(t *testing.T) {
	h := newHost(t)
	h.ok("NetworkDriver.CreateNetwork", create("n", "10.192.0.0/24", macvlan))
	if reply := h.ok("IpamDriver.RequestPool", `{"AddressSpace":"dockline-local"}`); reply["Pool"] != "10.192.1.0/24" {
		t.Errorf("chose %v", reply["Pool"])
	}
}
