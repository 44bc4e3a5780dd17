package engine_test

import (
	"fmt"
	"testing"
)

// The name of a container comes with the request for its address since engine
// 29.0, its MAC where the driver requires it; on another host as on this one.
func TestTheAddressFollowsTheName(t *testing.T) {
	var before [2]string
	for range 2 {
		h := newHost(t)
		h.registered()
		h.network60("n", macvlan)
		h.container("n", "without") // which has the first address
		for i, options := range []string{
			`"com.docker.network.endpoint.name":"web"`,
			`"com.docker.network.endpoint.macaddress":"02:00:5e:00:53:07"`,
		} {
			request := fmt.Sprintf(`{"PoolID":"dockline-local/10.60.0.0/24","Options":{%s}}`, options)
			first := h.ok("IpamDriver.RequestAddress", request)["Address"].(string)
			h.ok("IpamDriver.ReleaseAddress", fmt.Sprintf(`{"PoolID":"dockline-local/10.60.0.0/24","Address":%q}`, first[:len(first)-3]))
			h.container("n", fmt.Sprint("meanwhile", i))
			if again := h.ok("IpamDriver.RequestAddress", request)["Address"].(string); again != first {
				t.Errorf("%s got %s, then %s", options, first, again)
			}
			if before[i] != "" && before[i] != first {
				t.Errorf("%s got %s on one host and %s on another", options, before[i], first)
			}
			before[i] = first
		}
	}
	// A name counts for more than a MAC, which may be one that the engine drew.
	h := newHost(t)
	h.registered()
	h.network60("n", macvlan)
	both := `{"PoolID":"dockline-local/10.60.0.0/24","Options":{"com.docker.network.endpoint.name":"web","com.docker.network.endpoint.macaddress":"02:42:aa:bb:cc:dd"}}`
	if got := h.ok("IpamDriver.RequestAddress", both)["Address"].(string); got != before[0] {
		t.Errorf("got %s, want that of the name, %s", got, before[0])
	}
}
