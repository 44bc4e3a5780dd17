package network

import (
	"fmt"

	"github.com/dockline/dockline/internal/options"
)

// Options are the -o keys, in the order in which they are to be read about; links
// are those of docs/network-options.md, which is made from them.
func Options() []options.Option {
	const yes = "`true` or `false`"
	return []options.Option{
		{Name: keyMode, Type: "`macvlan` or `bridge`", Default: string(Macvlan), Doc: "How containers reach the wire, see [Modes](network.md#modes)."},
		{Name: keyParent, Type: "interface, `NAME,NAME…`, `mac:ADDRESS` or `route:PREFIX`", Doc: "The wire, see [The parent](network.md#the-parent); macvlan needs one."},
		{Name: keyUplink, Type: "as `parent`", Doc: "Another word for `parent` with `mode=bridge`."},
		{Name: keyVLAN, Type: fmt.Sprintf("1 to %d", maxVLAN), Doc: "That [VLAN](network.md#vlans) of the parent."},
		{Name: keyBridge, Type: "bridge", Doc: "Join that one, which has to exist and stays its owner's."},
		{Name: keyMacvlanMode, Type: "`bridge`, `private`, `vepa` or `passthru`", Default: "bridge", Doc: "As in the built-in driver, see [macvlan](network.md#macvlan)."},
		{Name: keyMTU, Type: fmt.Sprintf("bytes, %d (with IPv6 %d) to %d", minMTU, minMTUIPv6, maxMTU), Default: "that of the parent or bridge", Doc: "Of the containers' links and of our bridge, not more than the parent's."},
		{Name: keyDriverMTU, Type: "the same", Doc: "The built-in drivers' word for `mtu`."},
		{Name: keyBridgeName, Type: "1 to 15 letters, digits, `_.-`", Default: "`dlb-` and eleven digits from the network's id", Doc: "The bridge's name. A bridge of that name that exists is joined, as by `bridge`."},
		{Name: keyHairpin, Type: yes, Default: "false", Doc: "Frames may go back to the container's port that they came from."},
		{Name: keyIsolatedPorts, Type: yes, Default: "false", Doc: "Containers do not reach each other, only the uplink and the host."},
		{Name: keyICC, Type: yes, Default: "true", Doc: "The built-in driver's word for the opposite of `isolated_ports`."},
		{Name: keyMasquerade, Type: "`false`", Default: "false", Doc: "Nothing is translated here: `true` is refused."},
		{Name: keyLearning, Type: yes, Default: "true", Doc: "The bridge learns MACs at containers' ports. With `false` it knows each container's own MAC only."},
		{Name: keyUnicastFlood, Type: yes, Default: "true", Doc: "Frames for MACs that the bridge does not know go to containers too. With `false` the bridge is told each container's MAC."},
		{Name: keyMulticastFlood, Type: yes, Default: "true", Doc: "Multicasts go to containers. Without them nobody finds a container by neighbour discovery: write neighbours down."},
		{Name: keyBroadcastFlood, Type: yes, Default: "true", Doc: "Broadcasts go to containers. Without them nobody finds a container by ARP: write neighbours down."},
		{Name: keyMove, Type: yes, Default: "false", Doc: "The uplink's addresses [move to the bridge](network.md#the-hosts-addresses-on-a-bridge)."},
		{Name: keyConfirmWithin, Type: "`5s` to `1h`", Default: "1m", Doc: "How long such a move waits to be confirmed."},
		{Name: keyHostAccess, Type: yes, Default: "false", Doc: "The host takes the gateway's address on an isolated bridge, or gets a [port](network.md#host-access) on a macvlan network."},
		{Name: keyHostAddress, Type: "address, or one of each family with a comma between", Default: "one that is free", Doc: "The port's, on a macvlan network."},
		{Name: keyOverlap, Type: yes, Default: "false", Doc: "A subnet that a route of the host overlaps is accepted."},
		{Name: keyProbe, Type: yes, Default: "true", Doc: "Who has an address is asked [on the wire](network.md#on-the-wire)."},
		{Name: keyProbePeers, Type: fmt.Sprintf("up to %d addresses with commas between", maxPeers), Doc: "Machines on the wire whose round trips are [measured](trace.md#all-the-time), beside the gateways', where `PROBE_INTERVAL` is set."},
		{Name: keyIfPrefix, Type: "1 to 11 letters, digits, `_-`", Default: defaultIfPrefix, Doc: "What the interface's name in the container begins with."},
	}
}
