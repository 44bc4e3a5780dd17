package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/netdriver/kernel"
)

// What an unknown or unusable -o is called in an error.
const what = "network option"

// The -o keys. Those that begin with com.docker are the built-in drivers' own.
const (
	keyMode        = "mode"
	keyParent      = "parent"
	keyUplink      = "uplink"
	keyMacvlanMode = "macvlan_mode"
	keyMTU         = "mtu"
	keyDriverMTU   = "com.docker.network.driver.mtu"
	keyBridgeName  = "com.docker.network.bridge.name"
	keyIfPrefix    = "com.docker.network.container_iface_prefix"
	keyHostAccess  = "host_access"
	keyOverlap     = "allow_overlap"
	keyProbe       = "probe"
	keyProbePeers  = "probe_peers"
	keyVLAN        = "vlan"
	keyHostAddress = "host_address"

	keyBridge         = "bridge"
	keyMove           = "move_host_addresses"
	keyConfirmWithin  = "confirm_within"
	keyHairpin        = "hairpin"
	keyIsolatedPorts  = "isolated_ports"
	keyICC            = "com.docker.network.bridge.enable_icc"
	keyLearning       = "learning"
	keyUnicastFlood   = "unicast_flood"
	keyMulticastFlood = "multicast_flood"
	keyBroadcastFlood = "broadcast_flood"
	keyMasquerade     = "com.docker.network.bridge.enable_ip_masquerade"
)

// elsewhere are options of the built-in drivers that a network taken over from
// one of them may have, and why they are refused here.
var elsewhere = map[string]string{
	"com.docker.network.bridge.host_binding_ipv4":       noPorts,
	"com.docker.network.bridge.gateway_mode_ipv4":       noPorts,
	"com.docker.network.bridge.gateway_mode_ipv6":       noPorts,
	"com.docker.network.bridge.trusted_host_interfaces": noPorts,
	"com.docker.network.host_ipv4":                      noPorts,
	"com.docker.network.host_ipv6":                      noPorts,
	"com.docker.network.bridge.inhibit_ipv4":            "the host has no address on this driver's bridges unless " + keyHostAccess + "=true asks for one; leave it out",
	"ipvlan_mode":                                       noIPvlan,
	"ipvlan_flag":                                       noIPvlan,
}

const (
	noPorts  = "containers are on the wire with addresses of their own: no port is published, and nothing is translated; leave it out"
	noIPvlan = "ipvlan is not offered; leave it out for macvlan, or use the built-in ipvlan driver"
)

const (
	minMTU     = 68   // RFC 791, 3.2
	minMTUIPv6 = 1280 // RFC 8200, 5
	maxMTU     = 65535

	defaultIfPrefix = "eth"
)

// The kernel takes names of up to 15 bytes without slash, colon or white
// space (net/core/dev.c, dev_valid_name); the prefix leaves room for a number.
var (
	linkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$`)
	ifPrefix = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,10}$`)
)

// Request is what a user asked for, as the engine passes it on.
type Request struct {
	ID         string
	Options    map[string]string // -o
	Internal   bool
	IPv4, IPv6 bool
	Pools      []Pool
}

// Parse reads a request into a definition. It looks at nothing but the
// request; Manager.Create holds the definition against the host.
func Parse(r Request) (Definition, error) {
	if r.ID == "" {
		return Definition{}, errors.New("a network needs an id")
	}
	if err := checkKeys(r.Options); err != nil {
		return Definition{}, err
	}
	d := Definition{ID: r.ID, Internal: r.Internal, IPv4: r.IPv4, IPv6: r.IPv6, Pools: r.Pools}
	for _, read := range []func(map[string]string) error{
		d.readMode, d.readParent, d.readBridge, d.readMTU, d.readIfPrefix, d.readSwitches, d.readHostAccess, d.readPort, d.readMove, d.readPeers,
	} {
		if err := read(r.Options); err != nil {
			return Definition{}, err
		}
	}
	return d, nil
}

func checkKeys(o map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if why := elsewhere[key]; why != "" {
			return bad(key, o[key], "%s", why)
		}
	}
	masquerade := false // as it is here anyway
	if err := readSwitch(o, keyMasquerade, &masquerade); err != nil {
		return err
	} else if masquerade {
		return bad(keyMasquerade, o[keyMasquerade], "%s", noPorts)
	}
	return options.CheckKeys(what, o, options.Names(Options()))
}

func bad(key, value, format string, args ...any) error {
	return &options.ValueError{What: what, Key: key, Value: value, Err: fmt.Errorf(format, args...)}
}

func (d *Definition) readMode(o map[string]string) error {
	switch mode := o[keyMode]; mode {
	case "", string(Macvlan):
		d.Mode = Macvlan
	case string(Bridge):
		d.Mode = Bridge
	default:
		return bad(keyMode, mode, "not one of %s, %s", Macvlan, Bridge)
	}
	return d.readMacvlanMode(o)
}

func (d *Definition) readMacvlanMode(o map[string]string) error {
	mode, given := o[keyMacvlanMode]
	if given && d.Mode != Macvlan {
		return bad(keyMacvlanMode, mode, "has no meaning with mode=%s", d.Mode)
	}
	switch m := kernel.MacvlanMode(mode); m {
	case "", kernel.MacvlanBridge: // what a definition without it has
	case kernel.MacvlanPrivate, kernel.MacvlanVEPA, kernel.MacvlanPassthru:
		d.MacvlanMode = m
	default:
		return bad(keyMacvlanMode, mode, "not one of %s, %s, %s, %s", kernel.MacvlanBridge, kernel.MacvlanPrivate, kernel.MacvlanVEPA, kernel.MacvlanPassthru)
	}
	return nil
}

// readParent takes parent and uplink for the same thing: what the wire is.
func (d *Definition) readParent(o map[string]string) error {
	parent, uplink, key := o[keyParent], o[keyUplink], keyParent
	switch {
	case parent != "" && uplink != "" && parent != uplink:
		return bad(keyUplink, uplink, "parent names another interface, %q; give one of the two", parent)
	case uplink != "" && d.Mode == Macvlan:
		return bad(keyUplink, uplink, "belongs to mode=%s; with mode=%s give parent=%s", Bridge, Macvlan, uplink)
	case parent == "":
		parent, key = uplink, keyUplink
	}
	id, err := readVLAN(o[keyVLAN])
	switch {
	case err != nil:
		return err
	case parent == "" && id != 0:
		return bad(keyVLAN, o[keyVLAN], "of what? Give its interface as parent")
	case parent == "":
		return nil
	}
	rule, err := parseParent(key, parent)
	if err != nil {
		return err
	}
	rule.VLAN = id
	d.Rule = &rule
	return nil
}

func readVLAN(value string) (id int, err error) {
	if value == "" {
		return 0, nil
	}
	if id, err = strconv.Atoi(value); err != nil || id < 1 || id > maxVLAN {
		return 0, bad(keyVLAN, value, "not a VLAN id from 1 to %d", maxVLAN)
	}
	return id, nil
}

func (d *Definition) readBridge(o map[string]string) error {
	key, name := keyBridgeName, o[keyBridgeName]
	existing, given := o[keyBridge]
	switch {
	case given && name != "" && name != existing:
		return bad(keyBridge, existing, "%s names another one, %q; give one of the two", keyBridgeName, name)
	case given:
		key, name, d.Foreign = keyBridge, existing, true
	}
	_, named := o[keyBridgeName]
	switch {
	case d.Mode != Bridge && (given || named):
		return bad(key, name, "has no meaning with mode=%s; it belongs to mode=%s", d.Mode, Bridge)
	case d.Mode != Bridge:
		return nil
	case name == "" && !given:
		name = kernel.BridgeName(d.ID)
	case !linkName.MatchString(name):
		return bad(key, name, "not a name for an interface (1 to 15 letters, digits, _ . -)")
	}
	d.BridgeName = name
	return d.checkForeign(key)
}

func (d *Definition) readMTU(o map[string]string) error {
	key, value := keyMTU, o[keyMTU]
	if other := o[keyDriverMTU]; value == "" {
		key, value = keyDriverMTU, other
	} else if other != "" && other != value {
		return bad(keyMTU, value, "%s says %s; give one of the two", keyDriverMTU, other)
	}
	if value == "" {
		return nil
	}
	least := minMTU
	if d.IPv6 {
		least = minMTUIPv6
	}
	n, err := strconv.Atoi(value)
	if err != nil || n != 0 && (n < least || n > maxMTU) {
		return bad(key, value, "not a number of bytes from %d to %d (0: that of the parent)", least, maxMTU)
	}
	d.MTU = n
	return nil
}

func (d *Definition) readIfPrefix(o map[string]string) error {
	d.IfPrefix = defaultIfPrefix
	if p := o[keyIfPrefix]; p != "" {
		if !ifPrefix.MatchString(p) {
			return bad(keyIfPrefix, p, "not the beginning of an interface's name (1 to 11 letters, digits, _ -)")
		}
		d.IfPrefix = p
	}
	return nil
}

func (d *Definition) readSwitches(o map[string]string) error {
	probe := true
	defer func() { d.NoProbe = !probe }()
	for key, into := range map[string]*bool{keyHostAccess: &d.HostAccess, keyOverlap: &d.Overlap, keyMove: &d.MoveHost, keyProbe: &probe} {
		if err := readSwitch(o, key, into); err != nil {
			return err
		}
	}
	return nil
}

const maxPeers = 8 // whose round trips are measured

func (d *Definition) readPeers(o map[string]string) error {
	value := o[keyProbePeers]
	if value == "" {
		return nil
	}
	if d.NoProbe {
		return bad(keyProbePeers, value, "has no meaning with %s=false", keyProbe)
	}
	for text := range strings.SplitSeq(value, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		a = a.Unmap()
		switch {
		case err != nil:
			return bad(keyProbePeers, value, "%q is no address; give addresses with commas between", text)
		case !slices.ContainsFunc(d.Pools, func(p Pool) bool { return p.Prefix.Contains(a) }):
			return bad(keyProbePeers, value, "%s is not in a subnet of the network: peers are asked on its wire", a)
		case slices.Contains(d.ProbePeers, a):
			return bad(keyProbePeers, value, "%s is there twice", a)
		}
		d.ProbePeers = append(d.ProbePeers, a)
	}
	if len(d.ProbePeers) > maxPeers {
		return bad(keyProbePeers, value, "%d addresses; at most %d", len(d.ProbePeers), maxPeers)
	}
	return nil
}

// readSwitch leaves what is said nothing of.
func readSwitch(o map[string]string, key string, into *bool) error {
	value := o[key]
	if value == "" {
		return nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return bad(key, value, "not true or false")
	}
	*into = on
	return nil
}

// readPort reads how the containers' ports behave on the bridge.
func (d *Definition) readPort(o map[string]string) error {
	for _, s := range []struct {
		key    string
		into   *bool
		negate bool
	}{
		{keyHairpin, &d.Port.Hairpin, false},
		{keyICC, &d.Port.Isolated, true}, // the built-in driver's word
		{keyIsolatedPorts, &d.Port.Isolated, false},
		{keyLearning, &d.Port.NoLearning, true},
		{keyUnicastFlood, &d.Port.NoUnicastFlood, true},
		{keyMulticastFlood, &d.Port.NoMulticastFlood, true},
		{keyBroadcastFlood, &d.Port.NoBroadcastFlood, true},
	} {
		if o[s.key] == "" {
			continue
		}
		if d.Mode != Bridge {
			return bad(s.key, o[s.key], "has no meaning with mode=%s", d.Mode)
		}
		var on bool
		if err := readSwitch(o, s.key, &on); err != nil {
			return err
		}
		if s.key == keyIsolatedPorts && o[keyICC] != "" && on != d.Port.Isolated {
			return bad(s.key, o[s.key], "%s=%s says otherwise; give one of the two", keyICC, o[keyICC])
		}
		*s.into = on != s.negate
	}
	return nil
}

const (
	defaultConfirm = time.Minute
	minConfirm     = 5 * time.Second
	maxConfirm     = time.Hour
)

func (d *Definition) readMove(o map[string]string) error {
	within := o[keyConfirmWithin]
	switch {
	case d.MoveHost && (d.Mode != Bridge || d.Rule == nil):
		return bad(keyMove, o[keyMove], "needs mode=%s and the uplink whose addresses are to move to the bridge", Bridge)
	case !d.MoveHost && within != "":
		return bad(keyConfirmWithin, within, "has no meaning without %s=true", keyMove)
	case !d.MoveHost:
		return nil
	case within == "":
		d.ConfirmWithin = defaultConfirm
		return nil
	}
	t, err := time.ParseDuration(within)
	if err != nil || t < minConfirm || t > maxConfirm {
		return bad(keyConfirmWithin, within, "not a duration from %s to %s, such as 90s or 5m", minConfirm, maxConfirm)
	}
	d.ConfirmWithin = t
	return nil
}

// NeedsNoGateway reports whether a network with these options has no use for
// a gateway address, so that the engine need not take one from the pool.
func NeedsNoGateway(o map[string]string, internal bool) bool {
	on, _ := strconv.ParseBool(o[keyHostAccess])
	isolated := o[keyMode] == string(Bridge) && o[keyParent] == "" && o[keyUplink] == "" &&
		o[keyBridge] == "" && o[keyBridgeName] == "" // one that exists may lead somewhere
	return !on && (internal || isolated)
}
