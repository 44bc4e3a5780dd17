package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// keyAux is what users set aside with; it comes with a pool, not among the
// options.
const keyAux = "aux-address"

// Shared is what has to be the same of a network on all hosts that share its
// definition, as users write it, with what one of its subnets sets aside. What
// can only be a host's own is not there: hardware addresses, the names of bridges,
// the host's access and its address. What is set aside is there only where it is
// said: it is so for all.
func (d *Definition) Shared(pool netip.Prefix) map[string]string {
	s := map[string]string{
		keyMode: string(d.Mode), "internal": strconv.FormatBool(d.Internal), keyMTU: "that of the parent",
		keyParent: "none", keyVLAN: "none",
	}
	if d.MTU != 0 {
		s[keyMTU] = strconv.Itoa(d.MTU)
	}
	switch d.Mode {
	case Macvlan:
		s[keyMacvlanMode] = string(d.MacvlanMode)
		if d.MacvlanMode == "" {
			s[keyMacvlanMode] = "bridge"
		}
	case Bridge:
		s[keyIsolatedPorts] = strconv.FormatBool(d.Port.Isolated)
	}
	d.shareParent(s)
	var aux []string
	for _, p := range d.Pools {
		for _, a := range p.Aux {
			if p.Prefix == pool && !slices.Contains(d.HostAddrs, a) {
				aux = append(aux, a.String())
			}
		}
	}
	if len(aux) > 0 {
		slices.Sort(aux)
		s[keyAux] = strings.Join(aux, ",")
	}
	return s
}

// shareParent has INTERFACE.ID in the same words as the interface and its VLAN.
func (d *Definition) shareParent(s map[string]string) {
	if d.Rule == nil {
		if d.Foreign { // its owner's bridge leads to the wire, by whatever port
			delete(s, keyParent)
			delete(s, keyVLAN)
		}
		return
	}
	rule := *d.Rule
	if len(rule.Names) == 1 && rule.VLAN == 0 {
		if base, id := splitVLAN(rule.Names[0]); id != 0 {
			rule.Names, rule.VLAN = []string{base}, id
		}
	}
	if rule.VLAN != 0 {
		s[keyVLAN] = strconv.Itoa(rule.VLAN)
	}
	rule.VLAN = 0
	s[keyParent] = rule.String()
	if rule.MAC != "" {
		delete(s, keyParent)
	}
}
