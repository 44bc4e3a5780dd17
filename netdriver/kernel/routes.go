package kernel

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// WayOut is a unicast route of the host's main table, default ones too.
type WayOut struct {
	Dst    netip.Prefix
	Link   int // index
	Metric int
}

// WaysOut returns the routes by which the host sends, one for each link of a
// route over several.
func (k *Kernel) WaysOut() ([]WayOut, error) {
	all, err := dump("routes", func() ([]netlink.Route, error) { return k.h.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var ways []WayOut
	for _, r := range all {
		p, ok := fromIPNet(r.Dst)
		if !ok && r.Dst == nil { // an older library's default route
			p, ok = netip.PrefixFrom(unspecified(r.Family), 0), true
		}
		if !ok || r.Type != unix.RTN_UNICAST {
			continue
		}
		links := []int{r.LinkIndex}
		if len(r.MultiPath) > 0 {
			links = nil
			for _, hop := range r.MultiPath {
				links = append(links, hop.LinkIndex)
			}
		}
		for _, l := range links {
			ways = append(ways, WayOut{Dst: p.Masked(), Link: l, Metric: r.Priority})
		}
	}
	return ways, nil
}

func unspecified(family int) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
