package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// HostPort describes the port by which the host itself is among the macvlan
// links of a parent, which do not reach the parent.
type HostPort struct {
	Name, Alias string
	Parent      string
	MAC         net.HardwareAddr
	MTU         int          // 0: the parent's
	Addrs       []netip.Addr // the host's own, without a subnet: that is reached as before
}

// Settings of the port (linux/ip.h, IPV4_DEVCONF_*; ip-sysctl.rst). They come by
// netlink because a plugin's /proc/sys is read-only. Of the host's addresses the
// port answers ARP for its own only, and only whom it has a route to. It takes
// what comes from anybody: those whom the host reaches elsewhere may ask here.
var portSettings = map[uint16]uint32{
	8:  2, // rp_filter: loose
	13: 1, // arp_filter
	19: 1, // arp_ignore
}

// EnsureHostPort makes the port what the description says. What is right is not
// written again: whoever listens to the kernel's events would be called for it.
// That the port is up, which comes last, says that its settings are made; those
// that somebody changes then are his.
func (k *Kernel) EnsureHostPort(p HostPort) error {
	parent, err := k.Link(p.Parent)
	if err != nil {
		return fmt.Errorf("find the parent: %w", err)
	}
	if l, err := k.Link(p.Name); err != nil || l.Alias != p.Alias || l.Parent != parent.Index || l.MAC.String() != p.MAC.String() {
		err := k.CreateMacvlan(Macvlan{Name: p.Name, Alias: p.Alias, Parent: p.Parent, MAC: p.MAC, MTU: p.MTU})
		if err != nil {
			return err
		}
	}
	l, err := k.byName(p.Name)
	if err != nil {
		return err
	}
	if err := k.onlyAddrs(l, p.Addrs); err != nil || l.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	if err := k.setConf(l, portSettings); err != nil {
		return err
	}
	if err := k.h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %q up: %w", p.Name, err)
	}
	return nil
}

// setConf sets IPv4 settings of a link (rtnetlink, IFLA_AF_SPEC, IFLA_INET_CONF).
func (k *Kernel) setConf(l netlink.Link, settings map[uint16]uint32) error {
	const inetConf = 1 // IFLA_INET_CONF (linux/if_link.h)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index) //nolint:gosec // the kernel's own, an int32 there
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil)
	for key, value := range settings {
		conf.AddRtAttr(int(key), nl.Uint32Attr(value))
	}
	if _, err := k.rawRequest(unix.RTM_SETLINK, unix.NLM_F_ACK, msg, spec); err != nil {
		return fmt.Errorf("set how %q answers: %w", l.Attrs().Name, err)
	}
	return nil
}

// onlyAddrs makes the addresses of a link those given, each alone in its prefix.
// Those of link-local scope, which the kernel makes, are left.
func (k *Kernel) onlyAddrs(l netlink.Link, want []netip.Addr) error {
	has, err := k.Addrs(l.Attrs().Name)
	if err != nil {
		return err
	}
	missing := make([]netip.Prefix, len(want))
	for i, a := range want {
		missing[i] = netip.PrefixFrom(a, a.BitLen())
	}
	for _, p := range has {
		if at := slices.Index(missing, p); at >= 0 {
			missing = slices.Delete(missing, at, at+1)
			continue
		}
		if err := k.h.AddrDel(l, &netlink.Addr{IPNet: toIPNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take %s from %s: %w", p, l.Attrs().Name, err)
		}
	}
	return k.ensureAddrs(l, missing)
}

// routeProtocol marks the routes that we make, so that those that somebody adds
// to the port himself stay (rtnetlink(7), rtm_protocol: free for users).
const routeProtocol = 0xd1

// SetHostRoutes makes the routes by a port to single addresses those given, to
// each from the port's own address of its family.
func (k *Kernel) SetHostRoutes(port string, from, to []netip.Addr) error {
	l, err := k.byName(port)
	if err != nil {
		return err
	}
	has, err := dump("routes", func() ([]netlink.Route, error) {
		return k.h.RouteListFiltered(netlink.FAMILY_ALL,
			&netlink.Route{LinkIndex: l.Attrs().Index, Protocol: routeProtocol}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return err
	}
	missing := slices.Clone(to)
	var errs []error
	for _, r := range has {
		if p, ok := fromIPNet(r.Dst); ok {
			if at := slices.Index(missing, p.Addr()); at >= 0 && p.IsSingleIP() {
				missing = slices.Delete(missing, at, at+1)
				continue
			}
		}
		errs = append(errs, k.removeRoute(&r))
	}
	return errors.Join(append(errs, k.addHostRoutes(l, from, missing))...)
}

// AddHostRoutes adds routes to single addresses.
func (k *Kernel) AddHostRoutes(port string, from, to []netip.Addr) error {
	l, err := k.byName(port)
	if err != nil {
		return err
	}
	return k.addHostRoutes(l, from, to)
}

// RemoveHostRoutes removes routes to single addresses; missing ones, and a
// missing port, are success.
func (k *Kernel) RemoveHostRoutes(port string, to []netip.Addr) error {
	l, err := k.byName(port)
	if errors.Is(err, ErrNoLink) {
		return nil
	} else if err != nil {
		return err
	}
	var errs []error
	for _, a := range to {
		errs = append(errs, k.removeRoute(hostRoute(l, a)))
	}
	return errors.Join(errs...)
}

func (k *Kernel) removeRoute(r *netlink.Route) error {
	if err := k.h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the route to %s: %w", r.Dst, err)
	}
	return nil
}

func (k *Kernel) addHostRoutes(l netlink.Link, from, to []netip.Addr) error {
	var errs []error
	for _, a := range to {
		r := hostRoute(l, a)
		for _, src := range from {
			if src.Is4() == a.Is4() {
				r.Src = src.AsSlice()
			}
		}
		if r.Src == nil {
			continue // the host has no address of that family here
		}
		if err := k.h.RouteReplace(r); err != nil {
			errs = append(errs, fmt.Errorf("route %s by %s: %w", a, l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

func hostRoute(l netlink.Link, a netip.Addr) *netlink.Route {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: toIPNet(netip.PrefixFrom(a, a.BitLen())), Protocol: routeProtocol}
	if a.Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}
