package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel's IFNAMSIZ leaves 15 bytes for a name: a prefix of four that says
// what the link is, and eleven hexadecimal digits of a digest of whose it is.
const (
	hostPrefix      = "dlh-" // host end of a veth pair
	containerPrefix = "dlc-" // the link that the engine moves into the sandbox
	bridgePrefix    = "dlb-"
	portPrefix      = "dlm-" // the host's own macvlan link among the containers
	vlanPrefix      = "dlv-" // a VLAN sub-interface in the making, or with too long a name
	wirePrefix      = "dlw-" // the macvlan link behind a placeholder
	nameDigits      = 11

	aliasPrefix   = "dockline:"
	networkAlias  = ":network:"
	endpointAlias = ":endpoint:"
	vlanAlias     = ":vlan:"
	wireAlias     = ":wire:"
)

// ownName is what the functions below make: no user's own choice of a name.
var ownName = regexp.MustCompile(`^dl[bchmpvw]-[0-9a-f]{11}$`)

// HostName is the name of the host end of an endpoint's veth pair.
func HostName(endpointID string) string { return hostPrefix + digits(endpointID) }

// ContainerName is the name under which an endpoint's link is made before the
// engine moves it into the sandbox, and under which it comes back.
func ContainerName(endpointID string) string { return containerPrefix + digits(endpointID) }

// BridgeName is the name of a network's bridge where the user gives none.
func BridgeName(networkID string) string { return bridgePrefix + digits(networkID) }

// BridgeDraftName is the name of a bridge, with a name of the user's own choice,
// until it has its alias.
func BridgeDraftName(alias string) string { return bridgePrefix + digits("draft:"+alias) }

// HostPortName is the name of the host's own port on a macvlan network.
func HostPortName(networkID string) string { return portPrefix + digits(networkID) }

// WireName is the name of the macvlan link behind an endpoint's placeholder.
func WireName(endpointID string) string { return wirePrefix + digits(endpointID) }

// VLANName is the name of a VLAN sub-interface: PARENT.ID, as everybody does it,
// where the kernel takes that.
func VLANName(parent string, id int) string {
	name := parent + "." + strconv.Itoa(id)
	if len(name) >= unix.IFNAMSIZ {
		return vlanPrefix + digits(name)
	}
	return name
}

// VLANDraftName is the name of a VLAN sub-interface until it has its alias.
func VLANDraftName(alias string) string { return vlanPrefix + digits("draft:"+alias) }

func digits(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])[:nameDigits]
}

// Instance is one installation of the plugin. Its id is part of every alias:
// several installations may share a host's namespace (two aliases of the plugin,
// two engines), and each clears away its own links only. The kernel's IFALIASZ
// leaves 255 bytes, which is room for two ids of 64.
type Instance string

// NetworkAlias is the alias of a link that belongs to a network.
func (i Instance) NetworkAlias(networkID string) string {
	return aliasPrefix + string(i) + networkAlias + networkID
}

// EndpointAlias is the alias of a link that belongs to an endpoint.
func (i Instance) EndpointAlias(networkID, endpointID string) string {
	return aliasPrefix + string(i) + endpointAlias + networkID + ":" + endpointID
}

// WireAlias is the alias of the link behind an endpoint's placeholder. It is no
// link that an endpoint needs in its sandbox, so that Owner does not know it.
func (i Instance) WireAlias(networkID, endpointID string) string {
	return aliasPrefix + string(i) + wireAlias + networkID + ":" + endpointID
}

// WireOwner returns the endpoint whose placeholder a link is the wire of.
func (i Instance) WireOwner(alias string) (o Owner, ok bool) {
	ids, found := strings.CutPrefix(alias, aliasPrefix+string(i)+wireAlias)
	if !found {
		return Owner{}, false
	}
	o.Network, o.Endpoint, found = strings.Cut(ids, ":")
	return o, found
}

// VLANAlias is the alias of a VLAN sub-interface, which networks share.
func (i Instance) VLANAlias(parent string, id int) string {
	return aliasPrefix + string(i) + vlanAlias + parent + "." + strconv.Itoa(id)
}

// OwnsVLAN reports whether the alias is that of a VLAN sub-interface of this
// instance.
func (i Instance) OwnsVLAN(alias string) bool {
	return strings.HasPrefix(alias, aliasPrefix+string(i)+vlanAlias)
}

// Owner is what an alias of ours says.
type Owner struct {
	Network  string
	Endpoint string // "" for a network's own link
}

// IsAlias reports whether an alias is that of any instance.
func IsAlias(alias string) bool { return strings.HasPrefix(alias, aliasPrefix) }

// Owner returns the owner that an alias names; ok is false where the alias is
// not one of this instance.
func (i Instance) Owner(alias string) (o Owner, ok bool) {
	own, found := strings.CutPrefix(alias, aliasPrefix+string(i))
	if !found {
		return Owner{}, false
	}
	if id, found := strings.CutPrefix(own, networkAlias); found {
		return Owner{Network: id}, id != ""
	}
	ids, found := strings.CutPrefix(own, endpointAlias)
	if !found {
		return Owner{}, false
	}
	o.Network, o.Endpoint, found = strings.Cut(ids, ":")
	return o, found && o.Network != "" && o.Endpoint != ""
}

// EndpointOf returns the endpoint that an alias of any instance names, "" where it
// is none.
func EndpointOf(alias string) string {
	own, ours := strings.CutPrefix(alias, aliasPrefix)
	_, ids, found := strings.Cut(own, endpointAlias)
	if !ours || !found {
		return ""
	}
	_, id, _ := strings.Cut(ids, ":")
	return id
}

// BridgeMAC is the hardware address of a network's bridge: fixed, so that the
// bridge does not change it (and hosts do not lose their neighbour entry) when
// ports come and go, and locally administered.
func BridgeMAC(networkID string) net.HardwareAddr { return hashedMAC("bridge:" + networkID) }

// HostPortMAC is the hardware address of the host's own port on a macvlan
// network: fixed, so that it is the same after a restart.
func HostPortMAC(networkID string) net.HardwareAddr { return hashedMAC("port:" + networkID) }

// EndpointMAC is the hardware address of an endpoint that was given none: from
// the IPv4 address as the engine's bridge driver does it (02:42 and the four
// bytes; libnetwork/netutils GenerateMACFromIP), so that an address that moves
// to another host keeps its MAC and no neighbour cache goes stale. Without an
// IPv4 address it comes from a digest of the IPv6 address, else of the id.
func EndpointMAC(v4, v6 netip.Addr, endpointID string) net.HardwareAddr {
	switch {
	case v4.IsValid():
		b := v4.As4()
		return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
	case v6.IsValid():
		return hashedMAC("address:" + v6.String())
	}
	return hashedMAC("endpoint:" + endpointID)
}

// portMAC is the hardware address of a pair's host end: nobody sends to it, and
// beginning with fe it is never the least on a bridge.
func portMAC(alias string) net.HardwareAddr {
	mac := hashedMAC("host:" + alias)
	mac[0] = 0xfe
	return mac
}

func hashedMAC(of string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(of))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered (IEEE 802, 8.4)
	return mac
}
