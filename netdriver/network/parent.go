package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dockline/dockline/netdriver/kernel"
)

// ErrNoParent says that nothing, or more than one thing, fits how a user named
// the parent.
var ErrNoParent = errors.New("no parent")

// VLAN is an 802.1Q sub-interface that is made on demand.
type VLAN struct {
	Base string // the interface that it is made of
	ID   int
}

// ParentRule is how a user named the parent, by one of three means; NICs have
// other names on other hosts.
type ParentRule struct {
	Names []string     `json:",omitempty"` // the first that exists
	MAC   string       `json:",omitempty"` // the one with this hardware address
	Route netip.Prefix `json:",omitzero"`  // the one by which the host sends there
	VLAN  int          `json:",omitempty"` // the sub-interface with this id of what is found; 0: itself
}

const (
	macRule   = "mac:"
	routeRule = "route:"
	maxVLAN   = 4094 // IEEE 802.1Q, 9.6: 0 and 4095 are reserved
)

// subInterface is how sub-interfaces are called: INTERFACE.ID.
var subInterface = regexp.MustCompile(`^(.+)\.([1-9][0-9]{0,3})$`)

// parseParent reads the value of the option.
func parseParent(key, value string) (ParentRule, error) {
	if mac, found := strings.CutPrefix(value, macRule); found {
		hw, err := net.ParseMAC(mac)
		if err != nil || len(hw) != 6 {
			return ParentRule{}, bad(key, value, "not a hardware address; write it as %s02:42:ac:11:00:02", macRule)
		}
		return ParentRule{MAC: hw.String()}, nil
	}
	if dst, found := strings.CutPrefix(value, routeRule); found {
		p, err := netip.ParsePrefix(dst)
		if a, addrErr := netip.ParseAddr(dst); addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return ParentRule{}, bad(key, value, "not a destination; write it as %s10.0.0.0/8, or with 0.0.0.0/0 for the default route", routeRule)
		}
		return ParentRule{Route: p.Masked()}, nil
	}
	names := strings.Split(value, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		base, _ := splitVLAN(names[i])
		if !linkName.MatchString(names[i]) && (base == "" || !linkName.MatchString(base)) {
			return ParentRule{}, bad(key, value, "%q is not the name of an interface", names[i])
		}
	}
	return ParentRule{Names: names}, nil
}

// splitVLAN reads the name of a sub-interface; "" where it is none.
func splitVLAN(name string) (base string, id int) {
	parts := subInterface.FindStringSubmatch(name)
	if parts == nil {
		return "", 0
	}
	id, err := strconv.Atoi(parts[2])
	if err != nil || id > maxVLAN {
		return "", 0
	}
	return parts[1], id
}

func (r ParentRule) String() string {
	s := strings.Join(r.Names, ",")
	switch {
	case r.MAC != "":
		s = macRule + r.MAC
	case r.Route.IsValid():
		s = routeRule + r.Route.String()
	}
	if r.VLAN != 0 {
		s += fmt.Sprintf(" (VLAN %d)", r.VLAN)
	}
	return s
}

// found is what a rule leads to: an interface, or a VLAN of one that is, or will
// be, a sub-interface of ours.
type found struct {
	parent string
	vlan   *VLAN
}

// host is what rules are held against.
type hostView struct {
	links []kernel.Link
	ways  []kernel.WayOut
	owns  func(alias string) bool // is it a VLAN's of this installation?
}

func (h *hostView) byName(name string) (kernel.Link, bool) {
	at := slices.IndexFunc(h.links, func(l kernel.Link) bool { return l.Name == name })
	if at < 0 {
		return kernel.Link{}, false
	}
	return h.links[at], true
}

// usable are the links that a rule may choose without naming them: not ours.
func (h *hostView) usable(l kernel.Link) bool {
	return !kernel.IsAlias(l.Alias) && l.Name != "lo" && l.Type != "loopback"
}

// resolve finds the parent. Its errors are ErrNoParent.
func (h *hostView) resolve(r ParentRule) (found, error) {
	base, err := h.base(r)
	if err != nil || r.VLAN == 0 {
		return base, err
	}
	if base.vlan != nil {
		return found{}, h.none(r, "a VLAN of the VLAN %s is not offered", base.parent)
	}
	return h.vlan(base.parent, r.VLAN), nil
}

func (h *hostView) base(r ParentRule) (found, error) {
	switch {
	case r.MAC != "":
		return h.one(r, func(l kernel.Link) bool { return hasMAC(l, r.MAC) })
	case r.Route.IsValid():
		over := h.over(r.Route)
		return h.one(r, func(l kernel.Link) bool { return slices.Contains(over, l.Index) })
	}
	for _, name := range r.Names {
		if l, ok := h.byName(name); ok {
			return h.as(l), nil
		}
		if base, id := splitVLAN(name); base != "" {
			if _, ok := h.byName(base); ok {
				return h.vlan(base, id), nil
			}
		}
	}
	if len(r.Names) > 1 {
		return found{}, h.none(r, "none of these interfaces exists")
	}
	return found{}, h.none(r, "no such interface")
}

// hasMAC leaves out what has the address of something else: the ports of a bond
// or bridge, and what is made upon an interface.
func hasMAC(l kernel.Link, mac string) bool {
	if l.Master != 0 || l.Type == "vlan" || l.Type == "macvlan" || l.Type == "macvtap" || l.Type == "ipvlan" {
		return false
	}
	return l.MAC.String() == mac || l.PermMAC.String() == mac
}

// over returns the links by which the host sends to a prefix: those of the most
// specific route that covers it, else of the routes within it, else of the
// default route.
func (h *hostView) over(to netip.Prefix) []int {
	var best, within []int
	bits, metric := 0, 0
	for _, w := range h.ways {
		same := w.Dst.Addr().Is4() == to.Addr().Is4()
		covers := same && w.Dst.Bits() <= to.Bits() && w.Dst.Contains(to.Addr())
		switch l, ok := h.byIndex(w.Link); {
		case !ok || !h.usable(l) || !same:
		case covers && (best == nil || w.Dst.Bits() > bits || w.Dst.Bits() == bits && w.Metric < metric):
			best, bits, metric = []int{w.Link}, w.Dst.Bits(), w.Metric
		case covers && w.Dst.Bits() == bits && w.Metric == metric:
			best = append(best, w.Link)
		case !covers && to.Contains(w.Dst.Addr()):
			within = append(within, w.Link)
		}
	}
	if bits == 0 && len(within) > 0 && to.Bits() > 0 {
		return within
	}
	return best
}

func (h *hostView) byIndex(index int) (kernel.Link, bool) {
	at := slices.IndexFunc(h.links, func(l kernel.Link) bool { return l.Index == index })
	if at < 0 {
		return kernel.Link{}, false
	}
	return h.links[at], true
}

func (h *hostView) one(r ParentRule, fits func(kernel.Link) bool) (found, error) {
	var all []kernel.Link
	var names []string
	for _, l := range h.links {
		if h.usable(l) && fits(l) {
			all, names = append(all, l), append(names, l.Name)
		}
	}
	switch len(all) {
	case 0:
		return found{}, h.none(r, "no interface fits")
	case 1:
		return h.as(all[0]), nil
	}
	return found{}, h.none(r, "%s fit; name one of them", strings.Join(names, " and "))
}

func (h *hostView) none(r ParentRule, format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNoParent, bad(keyParent, r.String(), format+"; this host has %s", append(args, describe(h.links))...))
}

// describe lists what there is, with what rules go by.
func describe(links []kernel.Link) string {
	names := candidates(links)
	for _, l := range links {
		if len(l.PermMAC) > 0 && !kernel.IsAlias(l.Alias) {
			names = strings.Replace(names, l.Name, l.Name+" ("+l.PermMAC.String()+")", 1)
		}
	}
	return names
}

// as says what a link that exists is: a VLAN of ours is one that goes with the
// last network on it.
func (h *hostView) as(l kernel.Link) found {
	f := found{parent: l.Name}
	if base, ok := h.byIndex(l.Parent); ok && l.VLAN != 0 && h.owns(l.Alias) {
		f.vlan = &VLAN{Base: base.Name, ID: l.VLAN}
	}
	return f
}

// vlan finds the sub-interface of an interface, whatever it is called, or says
// which is to be made.
func (h *hostView) vlan(base string, id int) found {
	b, _ := h.byName(base)
	for _, l := range h.links {
		if l.Parent == b.Index && l.VLAN == id {
			return h.as(l)
		}
	}
	return found{parent: kernel.VLANName(base, id), vlan: &VLAN{Base: base, ID: id}}
}

// look takes a view of the host; routes only where the rule needs them.
func (m *Manager) look(r ParentRule) (*hostView, error) {
	links, err := m.host.Links()
	if err != nil {
		return nil, err
	}
	h := &hostView{links: links, owns: m.host.OwnsVLAN}
	if r.Route.IsValid() {
		h.ways, err = m.host.WaysOut()
	}
	return h, err
}

// findParent evaluates the rule for a definition.
func (m *Manager) findParent(d *Definition) error {
	if d.Rule == nil {
		return nil
	}
	h, err := m.look(*d.Rule)
	if err != nil {
		return err
	}
	f, err := h.resolve(*d.Rule)
	if err != nil {
		return err
	}
	d.Parent, d.VLAN = f.parent, f.vlan
	return nil
}

// restoreParent evaluates the rule again, unless the network is at work on the
// parent that it has: members of one network stay on one wire. Nor while that one
// may have to get the host's addresses back. It returns the
// definition as it is then.
func (m *Manager) restoreParent(d Definition) (Definition, error) {
	if d.Rule == nil || d.moving() || m.atWork(d) {
		return d, nil
	}
	now := d
	if err := m.findParent(&now); err != nil {
		return d, fmt.Errorf("find the parent of network %s: %w", Short(d.ID), err)
	}
	if now.Parent == d.Parent {
		if (now.VLAN == nil) == (d.VLAN == nil) {
			return d, nil
		}
		return now, m.put(now)
	}
	parent, err := m.checkParent(now)
	if err == nil {
		err = m.checkWire(now)
	}
	if err != nil {
		return d, fmt.Errorf("find the parent of network %s: %w: %w", Short(d.ID), ErrNoParent, err)
	}
	m.log.Info("the parent of a network is another one now", "network", Short(d.ID), "before", d.Parent, "now", now.Parent, "rule", d.Rule.String())
	now.ParentWasDown = !parent.Up
	if now.Mode == Bridge {
		now.UplinkMAC = parent.PermMAC.String()
	}
	return now, m.put(now)
}

// checkWire refuses a parent that another network needs for itself.
func (m *Manager) checkWire(d Definition) error {
	for _, other := range m.List() {
		if other.ID == d.ID {
			continue
		}
		if err := sharesWire(d, other); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) atWork(d Definition) bool {
	l, err := m.host.Link(d.Parent)
	if err != nil {
		return false
	}
	if d.Mode == Bridge {
		bridge, err := m.host.Link(d.BridgeName)
		return err == nil && l.Master == bridge.Index
	}
	return m.ends.Joined(d.ID)
}
