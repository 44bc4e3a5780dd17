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
	"time"

	"github.com/dockline/dockline/internal/failpoint"
	"github.com/dockline/dockline/internal/pluginserver"
	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/ipam"
	"github.com/dockline/dockline/netdriver/network"
)

// errGlobal answers the calls that only a driver of swarm scope gets.
var errGlobal = errors.New("dockline-net serves networks of one host; swarm-scoped networks are not offered (make one of the same options on every node)")

// Driver answers the engine's calls. All fields are needed.
type Driver struct {
	Networks  *network.Manager
	Endpoints *endpoint.Manager
	IPAM      *ipam.Manager
	Log       *slog.Logger
}

// Register adds the calls of both protocols to a server.
func (d *Driver) Register(s *pluginserver.Server) {
	d.registerNetworks(s)
	d.registerEndpoints(s)
	d.registerIPAM(s)
}

// handle adds a call with a request body and traces it.
func handle[Req, Res any](d *Driver, s *pluginserver.Server, path string, fn func(*Req) (*Res, error)) {
	pluginserver.Handle(s, path, func(ctx context.Context, req *Req) (*Res, error) {
		begin := time.Now()
		failpoint.Hit("call", path)
		res, err := fn(req)
		failpoint.Hit("reply", path)
		d.Log.DebugContext(ctx, "call", "path", path, "request", req, "reply", res, "err", err, "took", time.Since(begin))
		return res, err
	})
}

// handleEmpty adds a call without a request body.
func handleEmpty[Res any](d *Driver, s *pluginserver.Server, path string, fn func() (*Res, error)) {
	pluginserver.HandleEmpty(s, path, func(ctx context.Context) (*Res, error) {
		d.Log.DebugContext(ctx, "call", "path", path)
		return fn()
	})
}

// needIDs refuses a request whose ids are missing, as in the body {}.
func needIDs(networkID, endpointID string) error {
	if networkID == "" || endpointID == "" {
		return fmt.Errorf("the request names no network (%q) or no endpoint (%q)", networkID, endpointID)
	}
	return nil
}
