// Package engine is where the network plugin meets the Docker engine: it
// serves the calls of the NetworkDriver and IpamDriver protocols on one socket
// and puts them into the words of network, endpoint and ipam.
//
// It is the first on the network plugin's path and holds no state. Every call
// may come twice, late or out of order; the packages below make a repetition
// succeed, and the deletion of what is missing.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/dockline/dockline/internal/failpoint"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/dhcp"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/network"
)

// errGlobal answers the calls that only a driver of swarm scope gets.
var errGlobal = errors.New("dockline-net serves networks of one host; swarm-scoped networks are not offered (make one of the same options on every node)")

// Watch follows the networks and endpoints, on their wires.
type Watch interface {
	Kick() // look soon at what has changed
	Sync() // look now
}

// Calls takes note of how long calls took and whether they succeeded.
type Calls interface {
	Observe(call string, took time.Duration, err error)
}

// Leases knows what a DHCP server says of an address.
type Leases interface {
	Terms(pool netip.Prefix, a netip.Addr) (dhcp.Terms, bool)
	SetHostName(pool netip.Prefix, a netip.Addr, name string)
}

// Driver answers the engine's calls. Networks, Endpoints, IPAM and Log
// are needed.
type Driver struct {
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	IPAM      *ipam.Manager
	Leases    Leases
	Watch     Watch
	Calls     Calls
	Log       *slog.Logger
	// RequireMAC has the engine say the MAC of an endpoint when it asks for its
	// address, which it does not by itself. It then draws one, random, for those
	// that were not started with one (libnetwork/network.go, createEndpoint).
	RequireMAC bool
}

func (d *Driver) kick() {
	if d.Watch != nil {
		d.Watch.Kick()
	}
}

func (d *Driver) sync() {
	if d.Watch != nil {
		d.Watch.Sync()
	}
}

func (d *Driver) observe(path string, begin time.Time, err error) time.Duration {
	took := time.Since(begin)
	if d.Calls != nil {
		d.Calls.Observe(strings.TrimPrefix(path, "/"), took, err)
	}
	return took
}

// Register adds the calls of both protocols to a server.
func (d *Driver) Register(s *pluginserver.Server) {
	d.registerNetworks(s)
	d.registerEndpoints(s)
	d.registerIPAM(s)
	s.CutOff = d.cutOff
}

// cutOff tells what may be concerned by a call of which nothing but its kind is
// known: its first try ended with an earlier process.
func (d *Driver) cutOff(path string) {
	switch path {
	case createNetwork:
		d.Networks.CreateCutOff()
	case deleteNetwork:
		d.Networks.DeleteCutOff()
	}
}

// handle adds a call with a request body and traces it.
func handle[Req, Res any](d *Driver, s *pluginserver.Server, path string, fn func(*Req) (*Res, error)) {
	handleThen(d, s, path, fn, nil)
}

// handleThen adds a call with a request body, and what comes after its answer.
func handleThen[Req, Res any](d *Driver, s *pluginserver.Server, path string, fn func(*Req) (*Res, error), then func(*Req, bool)) {
	pluginserver.Handle(s, path, func(ctx context.Context, req *Req) (*Res, error) {
		begin := time.Now()
		about := subject(req)
		pluginserver.Note(ctx, about...)
		failpoint.Hit("call", path)
		res, err := fn(req)
		failpoint.Hit("reply", path)
		if then != nil {
			pluginserver.After(ctx, func(answered bool) { then(req, answered) })
		}
		d.Log.DebugContext(ctx, "call", append(about, "path", path, "request", req, "reply", res, "err", err, "took", d.observe(path, begin, err))...)
		return res, err
	})
}

// subject is what a request is about, as in other lines of the log.
func subject(req any) (pairs []any) {
	v := reflect.Indirect(reflect.ValueOf(req))
	for _, of := range []struct{ key, field string }{
		{"network", "NetworkID"}, {"endpoint", "EndpointID"}, {"pool", "PoolID"}, {"pool", "Pool"}, {"address", "Address"},
	} {
		f := v.FieldByName(of.field)
		if !f.IsValid() || f.Kind() != reflect.String || f.String() == "" {
			continue
		}
		text := f.String()
		if of.key == "network" || of.key == "endpoint" {
			text = network.Short(text)
		}
		pairs = append(pairs, of.key, text)
	}
	return pairs
}

// handleEmpty adds a call without a request body.
func handleEmpty[Res any](d *Driver, s *pluginserver.Server, path string, fn func() (*Res, error)) {
	pluginserver.HandleEmpty(s, path, func(ctx context.Context) (*Res, error) {
		begin := time.Now()
		res, err := fn()
		d.Log.DebugContext(ctx, "call", "path", path, "reply", res, "err", err, "took", d.observe(path, begin, err))
		return res, err
	})
}

// needIDs refuses a request whose ids are missing, as in the body {}.
func needIDs(networkID, endpointID string) error {
	if networkID == "" || endpointID == "" {
		return fmt.Errorf("the request names no network (%q) or no endpoint (%q)", networkID, endpointID)
	}
	return nil
}
