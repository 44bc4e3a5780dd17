package network

import (
	"fmt"
	"strings"

	"github.com/dockline/dockline/netdriver/kernel"
)

// checkForeign refuses what would change a bridge that is its owner's.
func (d *Definition) checkForeign(key string) error {
	if d.Foreign && d.Rule != nil {
		return bad(key, d.BridgeName, "an existing bridge has the ports that its owner gave it; leave %s=%s out, or let this network have a bridge of its own", keyUplink, d.Rule)
	}
	return nil
}

// foreignUsable refuses a link that this network cannot join as a bridge.
func (d *Definition) foreignUsable(l kernel.Link) error {
	key := keyBridgeName
	if d.Foreign {
		key = keyBridge
	}
	switch {
	case kernel.IsAlias(l.Alias):
		return bad(key, l.Name, "belongs to another network of this driver")
	case l.Type != "bridge":
		return bad(key, l.Name, "an interface of that name exists already, a %s and no bridge", l.Type)
	case d.HostAccess:
		return bad(keyHostAccess, "true", "bridge %q exists already and is its owner's: give it an address of the host's yourself", l.Name)
	}
	d.Foreign = true
	return d.checkForeign(key)
}

func bridges(links []kernel.Link) string {
	var names []string
	for _, l := range links {
		if l.Type == "bridge" && !kernel.IsAlias(l.Alias) {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// ensureForeign looks whether a bridge that is its owner's is there: making it,
// or bringing it up, is not for us.
func (m *Manager) ensureForeign(d Definition) error {
	l, err := m.host.Link(d.BridgeName)
	switch {
	case err != nil:
		return fmt.Errorf("find the bridge of network %s, which its owner has to make: %w", Short(d.ID), err)
	case l.Type != "bridge":
		return fmt.Errorf("%q, which network %s is on, is a %s now and no bridge: %w", l.Name, Short(d.ID), l.Type, ErrUplink)
	}
	m.Pass()
	if !l.Up {
		return fmt.Errorf("bridge %q, which network %s is on, is down, and its owner has to bring it up: %w", l.Name, Short(d.ID), ErrUplink)
	}
	return nil
}
