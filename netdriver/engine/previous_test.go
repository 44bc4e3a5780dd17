package engine_test

import (
	"flag"
	"os"
	"testing"
)

// previous is what the plugin of the release before has left, see docs/release.md.
const previous = "testdata/previous"

var write = flag.Bool("write-previous", false, "leave "+previous+" for the next release")

// Networks of the release before are there as ever, the addresses that it gave
// are not given again, and all of it can be removed.
func TestStateOfThePreviousRelease(t *testing.T) {
	if *write {
		leave(t)
	}
	h := newHost(t)
	h.kill()
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(h.dir, os.DirFS(previous)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.registered()
	h.wantOurs(1, "with a network on a bridge")
	if got := h.container("n", "new"); got == "10.60.0.2/24" {
		t.Errorf("%s is given twice", got)
	}
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"m","EndpointID":"new2","Interface":{"Address":"10.1.0.8/24"},"Options":{}}`)
	h.ok("NetworkDriver.Join", `{"NetworkID":"m","EndpointID":"new2","SandboxKey":"/x","Options":{}}`)
	for endpoint, network := range map[string]string{"old": "n", "old2": "m", "new": "n", "new2": "m"} {
		h.ok("NetworkDriver.Leave", `{"NetworkID":"`+network+`","EndpointID":"`+endpoint+`"}`)
		h.ok("NetworkDriver.DeleteEndpoint", `{"NetworkID":"`+network+`","EndpointID":"`+endpoint+`"}`)
	}
	for _, address := range []string{"10.60.0.2", "10.60.0.3"} {
		h.ok("IpamDriver.ReleaseAddress", `{"PoolID":"dockline-local/10.60.0.0/24","Address":"`+address+`"}`)
	}
	h.release60()
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	h.ok("NetworkDriver.DeleteNetwork", `{"NetworkID":"m"}`)
	h.wantOurs(0, "after everything was removed")
}

// leave makes a network on a bridge with our addresses, and a macvlan one with
// another driver's, with a container each, and ends.
func leave(t *testing.T) {
	t.Helper()
	h := newHost(t)
	h.registered()
	h.network60("n", bridge)
	if got := h.container("n", "old"); got != "10.60.0.2/24" {
		t.Fatalf("the container has %s", got)
	}
	h.ok("NetworkDriver.CreateNetwork", create("m", "10.1.0.0/24", macvlan))
	h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"m","EndpointID":"old2","Interface":{"Address":"10.1.0.7/24"},"Options":{}}`)
	h.ok("NetworkDriver.Join", `{"NetworkID":"m","EndpointID":"old2","SandboxKey":"/x","Options":{}}`)
	h.kill()
	if err := os.RemoveAll(previous); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(previous, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
}
