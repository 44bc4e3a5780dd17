package engine

import (
	"context"
	"log/slog"

	plugin "github.com/docker/go-plugins-helpers/ipam"

	"github.com/dockline/dockline/internal/pluginserver"
)

// Refusing returns a server that says what the plugin is and answers every other
// call with the error. An engine that is not told what a plugin is knows no driver
// of its name, and says that instead. requireMAC is Driver.RequireMAC.
func Refusing(why error, requireMAC bool, log *slog.Logger) *pluginserver.Server {
	s := pluginserver.Refusing(why, log)
	pluginserver.HandleEmpty(s, networksAre, func(context.Context) (*networkCapabilities, error) { return ofNetworks() })
	pluginserver.HandleEmpty(s, addressSpaces, func(context.Context) (*plugin.AddressSpacesResponse, error) { return spaces() })
	pluginserver.HandleEmpty(s, addressesAre, func(context.Context) (*ipamCapabilities, error) {
		return &ipamCapabilities{RequiresRequestReplay: true, RequiresMACAddress: requireMAC}, nil
	})
	return s
}
