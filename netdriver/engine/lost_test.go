package engine_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dockline/dockline/netdriver/network"
	"github.com/dockline/dockline/netdriver/state"
)

// The tests of this file are about calls that an earlier process did not answer:
// the engine sends what is left of them, and that is nothing.

// unanswered has the process die before it has answered to a CreateNetwork.
func (h *host) unanswered(ids ...string) {
	h.t.Helper()
	table := must[*state.Table[network.Definition]](h.t)(state.Durable[network.Definition](h.kept, "networks"))
	for _, id := range ids {
		d := must[map[string]network.Definition](h.t)(table.All())[id]
		if d.Unanswered || !d.Complete {
			h.t.Fatalf("answered to, and yet stored as %+v", d)
		}
		d.Unanswered = true
		if err := table.Put(id, d); err != nil {
			h.t.Fatal(err)
		}
	}
	h.kill()
	h.start()
}

func (h *host) cutOff(call string) {
	h.t.Helper()
	h.refused("NetworkDriver."+call, "", "empty request body")
	h.reconcile()
}

func TestANetworkWhoseMakingWasNotAnsweredIsRemoved(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(h *host)
		then func(h *host)
		left int
	}{
		"of our own IPAM":     {make: func(h *host) { h.network60("n", bridge) }},
		"of another's":        {make: func(h *host) { h.ok("NetworkDriver.CreateNetwork", create("n", "10.1.0.0/24", bridge)) }},
		"released after that": {make: func(h *host) { h.network60("n", bridge) }, then: (*host).release60},
		"known to the engine": {
			make: func(h *host) { h.network60("n", bridge) }, left: 1,
			then: func(h *host) {
				h.ok("NetworkDriver.CreateEndpoint", `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.60.0.7/24"}}`)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.registered()
			tc.make(h)
			h.wantOurs(1, "before")
			h.unanswered("n")
			if tc.left > 0 {
				tc.then(h)
			}
			h.cutOff("CreateNetwork")
			if tc.then != nil && tc.left == 0 {
				tc.then(h)
			}
			h.wantOurs(tc.left, "after")
			if tc.left == 0 {
				h.network60("n", bridge) // it can be made again
			}
		})
	}
}

func TestANetworkIsNotTakenForTheOneThatWasCutOff(t *testing.T) {
	t.Run("one that was answered to", func(t *testing.T) {
		h := newHost(t)
		h.network60("n", bridge)
		h.unanswered()
		h.cutOff("CreateNetwork")
		h.cutOff("DeleteNetwork")
		h.wantOurs(1, "after")
	})
	t.Run("one of two", func(t *testing.T) {
		h := newHost(t)
		h.network60("n", bridge)
		h.ok("NetworkDriver.CreateNetwork", strings.ReplaceAll(create("m", "10.1.0.0/24", `"mode":"bridge"`), "LocalDefault", "other"))
		h.unanswered("n", "m")
		h.cutOff("CreateNetwork")
		h.wantOurs(2, "after")
	})
}

// gone answers a call of an engine that has ended meanwhile.
type gone struct{ *httptest.ResponseRecorder }

func (gone) FlushError() error { return errors.New("broken pipe") }

func TestANetworkOfWhichTheEngineCannotBeToldIsRemoved(t *testing.T) {
	h := newHost(t)
	body := create("n", "10.1.0.0/24", bridge)
	h.server.ServeHTTP(gone{httptest.NewRecorder()}, httptest.NewRequest("POST", "/NetworkDriver.CreateNetwork", strings.NewReader(body)))
	h.reconcile()
	h.wantOurs(0, "after")
	h.ok("NetworkDriver.CreateNetwork", body)
}

func TestANetworkWhoseRemovalWasCutOffIsRemoved(t *testing.T) {
	for name, tc := range map[string]struct {
		then func(h *host) // between the release and the call that is cut off
		left int
	}{
		"right after the release": {},
		"of an engine that has started": {then: func(h *host) {
			h.restart()
			h.ok("IpamDriver.RequestPool", pool60)
			h.ok("IpamDriver.RequestAddress", gateway60)
			h.release60()
		}},
		"long after the release":         {then: func(h *host) { h.later = time.Hour }, left: 1},
		"an address was asked for since": {then: func(h *host) { h.ok("IpamDriver.RequestAddress", any60) }, left: 1},
		"a container is on it":           {then: func(h *host) { h.container("n", "e2"); h.release60() }, left: 3},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.registered()
			h.network60("n", bridge)
			h.container("n", "e")
			h.ok("NetworkDriver.Leave", ids)
			h.ok("NetworkDriver.DeleteEndpoint", ids)
			h.release60()
			if tc.then != nil {
				tc.then(h)
			}
			h.kill()
			h.start()
			h.cutOff("DeleteNetwork")
			h.wantOurs(tc.left, "after")
		})
	}
}
