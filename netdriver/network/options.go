package network

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

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
)

func knownKeys() []string {
	return []string{
		keyMode, keyParent, keyUplink, keyMacvlanMode, keyMTU, keyDriverMTU,
		keyBridgeName, keyIfPrefix, keyHostAccess, keyOverlap,
	}
}

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
	if err := options.CheckKeys(what, r.Options, knownKeys()); err != nil {
		return Definition{}, err
	}
	d := Definition{ID: r.ID, Internal: r.Internal, IPv4: r.IPv4, IPv6: r.IPv6, Pools: r.Pools}
	for _, read := range []func(map[string]string) error{d.readMode, d.readParent, d.readBridge, d.readMTU, d.readIfPrefix, d.readSwitches} {
		if err := read(r.Options); err != nil {
			return Definition{}, err
		}
	}
	return d, nil
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
	mode, given := o[keyMacvlanMode]
	switch {
	case !given:
	case d.Mode != Macvlan:
		return bad(keyMacvlanMode, mode, "has no meaning with mode=%s", d.Mode)
	case mode == "private" || mode == "vepa" || mode == "passthru":
		return bad(keyMacvlanMode, mode, "not offered yet; only bridge is")
	case mode != "" && mode != "bridge":
		return bad(keyMacvlanMode, mode, "not a mode of macvlan; use bridge")
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
	if parent != "" && !linkName.MatchString(parent) {
		return bad(key, parent, "not the name of an interface")
	}
	d.Parent = parent
	return nil
}

func (d *Definition) readBridge(o map[string]string) error {
	name, given := o[keyBridgeName]
	switch {
	case d.Mode != Bridge && given:
		return bad(keyBridgeName, name, "has no meaning with mode=%s", d.Mode)
	case d.Mode != Bridge:
		return nil
	case name == "":
		name = kernel.BridgeName(d.ID)
	case !linkName.MatchString(name):
		return bad(keyBridgeName, name, "not a name for an interface (1 to 15 letters, digits, _ . -)")
	}
	d.BridgeName = name
	return nil
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
	for key, into := range map[string]*bool{keyHostAccess: &d.HostAccess, keyOverlap: &d.Overlap} {
		value := o[key]
		if value == "" {
			continue
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return bad(key, value, "not true or false")
		}
		*into = on
	}
	if d.HostAccess && (d.Mode != Bridge || d.Parent != "") {
		return bad(keyHostAccess, "true", "offered for mode=%s without an uplink only, so far", Bridge)
	}
	return nil
}

// NeedsNoGateway reports whether a network with these options has no use for
// a gateway address, so that the engine need not take one from the pool.
func NeedsNoGateway(o map[string]string, internal bool) bool {
	on, _ := strconv.ParseBool(o[keyHostAccess])
	isolated := o[keyMode] == string(Bridge) && o[keyParent] == "" && o[keyUplink] == ""
	return !on && (internal || isolated)
}
