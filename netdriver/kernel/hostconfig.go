package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrUnmovable says that something which the host has on a link cannot be on
// another.
var ErrUnmovable = errors.New("cannot be moved")

// HostConfig is what the host has on a link: what makes it reachable there, and
// others by it. It can be given to another link.
type HostConfig struct {
	Addrs  []HostAddr  // in the kernel's order, in which the first of a subnet is the primary one
	Routes []HostRoute // those that others need come first
	Neighs []HostNeigh `json:",omitempty"` // entries that somebody made to stay
}

// HostAddr is an address as the kernel told it (struct ifaddrmsg and
// attributes), so that whatever it has of lifetimes, metrics and flags goes
// along.
type HostAddr struct {
	Prefix netip.Prefix
	Raw    []byte
}

// HostRoute is a route as the kernel told it (struct rtmsg and attributes).
type HostRoute struct {
	Dst     string // for people
	Gateway bool   `json:",omitempty"`
	Raw     []byte
}

// HostNeigh is a neighbour whose hardware address somebody wrote down.
type HostNeigh struct {
	IP  netip.Addr
	MAC string
}

// Attributes (linux/if_addr.h, linux/rtnetlink.h) and where in the structures
// before them things are.
const (
	addrFlagsAt, addrIndexAt = 2, 4
	addrProtoAttr            = 11 // IFA_PROTO
	routeNexthopAttr         = 30 // RTA_NH_ID

	routeTableAt, routeProtoAt, routeTypeAt, routeFlagsAt = 4, 5, 7, 8

	validAt, cacheinfoSize = 4, 16      // struct ifa_cacheinfo
	addrForever            = 0xffffffff // INFINITY_LIFE_TIME
	userHz                 = 100        // of the times that the kernel tells
	onlink                 = 4          // RTNH_F_ONLINK
)

// HostConfig returns what the host has on a link. Along with an error that is
// ErrUnmovable it is complete but for what is named there.
func (k *Kernel) HostConfig(link string) (HostConfig, error) {
	l, err := k.byName(link)
	if err != nil {
		return HostConfig{}, err
	}
	var c HostConfig
	var obstacles []error
	if c.Addrs, err = k.addrsOn(l, &obstacles); err != nil {
		return HostConfig{}, err
	}
	if c.Routes, err = k.routesBy(l, &obstacles); err != nil {
		return HostConfig{}, err
	}
	if c.Neighs, err = k.neighsOn(l); err != nil {
		return HostConfig{}, err
	}
	if err := k.rulesOf(link, &obstacles); err != nil {
		return HostConfig{}, err
	}
	return c, errors.Join(obstacles...)
}

func (k *Kernel) rawDump(what string, kind int, header nl.NetlinkRequestData) ([][]byte, error) {
	return dump(what, func() ([][]byte, error) { return k.rawRequest(kind, unix.NLM_F_DUMP, header) })
}

func (k *Kernel) addrsOn(l netlink.Link, obstacles *[]error) ([]HostAddr, error) {
	all, err := k.rawDump("addresses", unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, err
	}
	var addrs []HostAddr
	for _, raw := range all {
		if len(raw) < unix.SizeofIfAddrmsg || native.Uint32(raw[addrIndexAt:]) != uint32(l.Attrs().Index) { //nolint:gosec // the kernel's own
			continue
		}
		a, valid, err := readAddr(raw)
		if err != nil {
			return nil, err
		}
		// IPv6 addresses from router advertisements come again on another link,
		// which is why they have an end.
		if a.Prefix.Addr().Is4() && valid != addrForever {
			*obstacles = append(*obstacles, fmt.Errorf("address %s on %q is leased for %d s more, and the DHCP client would renew it there: %w", a.Prefix, l.Attrs().Name, valid, ErrUnmovable))
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

var native = nl.NativeEndian()

func readAddr(raw []byte) (a HostAddr, valid uint32, err error) {
	ad, err := mdnetlink.NewAttributeDecoder(raw[unix.SizeofIfAddrmsg:])
	if err != nil {
		return HostAddr{}, 0, fmt.Errorf("read an address: %w", err)
	}
	valid = addrForever
	for ad.Next() {
		switch t := ad.Type(); {
		case t == unix.IFA_LOCAL, t == unix.IFA_ADDRESS && !a.Prefix.IsValid():
			if ip, ok := netip.AddrFromSlice(ad.Bytes()); ok {
				a.Prefix = netip.PrefixFrom(ip, int(raw[1]))
			}
		case t == unix.IFA_CACHEINFO:
			if b := ad.Bytes(); len(b) >= cacheinfoSize {
				valid = native.Uint32(b[validAt:])
			}
		}
	}
	if err := ad.Err(); err != nil || !a.Prefix.IsValid() {
		return HostAddr{}, 0, fmt.Errorf("read an address: %w", errors.Join(err, errors.New("it has none")))
	}
	a.Raw = slices.Clone(raw)
	return a, valid, nil
}

func (k *Kernel) routesBy(l netlink.Link, obstacles *[]error) ([]HostRoute, error) {
	all, err := k.rawDump("routes", unix.RTM_GETROUTE, &nl.RtMsg{})
	if err != nil {
		return nil, err
	}
	var routes []HostRoute
	for _, raw := range all {
		if len(raw) < unix.SizeofRtMsg || !movable(raw) {
			continue
		}
		r, by, err := readRoute(raw, uint32(l.Attrs().Index)) //nolint:gosec // the kernel's own
		switch {
		case err != nil:
			*obstacles = append(*obstacles, fmt.Errorf("a route by %q, %w: %w", l.Attrs().Name, err, ErrUnmovable))
		case by:
			routes = append(routes, r)
		}
	}
	slices.SortStableFunc(routes, func(a, b HostRoute) int {
		switch {
		case a.Gateway == b.Gateway:
			return 0
		case b.Gateway:
			return -1
		}
		return 1
	})
	return routes, nil
}

// movable leaves out what the kernel makes itself with an address.
func movable(raw []byte) bool {
	const cloned = 0x200 // RTM_F_CLONED
	return raw[routeTableAt] != unix.RT_TABLE_LOCAL && raw[routeProtoAt] != unix.RTPROT_KERNEL &&
		raw[routeTypeAt] == unix.RTN_UNICAST && native.Uint32(raw[routeFlagsAt:])&cloned == 0
}

// readRoute reports also whether the route is by that link; an error says what
// about it belongs to several.
func readRoute(raw []byte, link uint32) (r HostRoute, by bool, err error) {
	ad, err := mdnetlink.NewAttributeDecoder(raw[unix.SizeofRtMsg:])
	if err != nil {
		return HostRoute{}, false, err
	}
	r = HostRoute{Dst: "default", Raw: slices.Clone(raw)}
	several, object := false, false
	for ad.Next() {
		switch ad.Type() {
		case unix.RTA_DST:
			if ip, ok := netip.AddrFromSlice(ad.Bytes()); ok {
				r.Dst = netip.PrefixFrom(ip, int(raw[1])).String()
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			r.Gateway = true
		case unix.RTA_OIF:
			by = by || ad.Uint32() == link
		case unix.RTA_MULTIPATH:
			several = leavesBy(ad.Bytes(), link)
		case routeNexthopAttr:
			object = true
		}
	}
	switch {
	case ad.Err() != nil:
		return HostRoute{}, false, ad.Err()
	case several:
		return HostRoute{}, false, fmt.Errorf("%s, is by several interfaces", r.Dst)
	case by && object:
		return HostRoute{}, false, fmt.Errorf("%s, is by a nexthop object", r.Dst)
	}
	return r, by, nil
}

// leavesBy looks for a link among the hops of a route (struct rtnexthop).
func leavesBy(hops []byte, link uint32) bool {
	const indexAt = 4
	for len(hops) >= unix.SizeofRtNexthop {
		size := int(native.Uint16(hops))
		if native.Uint32(hops[indexAt:]) == link {
			return true
		}
		if size = (size + 3) &^ 3; size < unix.SizeofRtNexthop || size > len(hops) {
			return false
		}
		hops = hops[size:]
	}
	return false
}

func (k *Kernel) neighsOn(l netlink.Link) ([]HostNeigh, error) {
	all, err := dump("neighbours", func() ([]netlink.Neigh, error) { return k.h.NeighList(l.Attrs().Index, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var neighs []HostNeigh
	for _, n := range all {
		ip, ok := netip.AddrFromSlice(n.IP)
		if ok && n.State&netlink.NUD_PERMANENT != 0 && n.LinkIndex == l.Attrs().Index && (n.Family == unix.AF_INET || n.Family == unix.AF_INET6) {
			neighs = append(neighs, HostNeigh{IP: ip.Unmap(), MAC: n.HardwareAddr.String()})
		}
	}
	return neighs, nil
}

// rulesOf looks for rules that name the link.
func (k *Kernel) rulesOf(link string, obstacles *[]error) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := dump("routing rules", func() ([]netlink.Rule, error) { return k.h.RuleList(family) })
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.IifName == link || r.OifName == link {
				*obstacles = append(*obstacles, fmt.Errorf("the routing rule %d (ip rule) names %q: %w", r.Priority, link, ErrUnmovable))
			}
		}
	}
	return nil
}

// AddHostAddr gives a link an address, and the kernel's routes with it. One that
// it has already is success.
func (k *Kernel) AddHostAddr(link string, a HostAddr) error {
	return k.send("give", link, a.Prefix.String(), a.message, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// RemoveHostAddr takes an address from a link. One that it has not is success,
// as is a link that is not there.
func (k *Kernel) RemoveHostAddr(link string, a HostAddr) error {
	return k.send("take", link, a.Prefix.String(), a.message, unix.RTM_DELADDR, 0)
}

// AddHostRoute makes a route by a link. One that is there already is success.
func (k *Kernel) AddHostRoute(link string, r HostRoute) error {
	return k.send("give", link, "the route to "+r.Dst, r.message, unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
}

// RemoveHostRoute removes a route by a link; what is not there is success.
func (k *Kernel) RemoveHostRoute(link string, r HostRoute) error {
	return k.send("take", link, "the route to "+r.Dst, r.message, unix.RTM_DELROUTE, 0)
}

// AddHostNeigh writes a neighbour down for a link.
func (k *Kernel) AddHostNeigh(link string, n HostNeigh) error {
	l, err := k.byName(link)
	if err != nil {
		return err
	}
	family := unix.AF_INET
	if n.IP.Is6() {
		family = unix.AF_INET6
	}
	mac, err := net.ParseMAC(n.MAC)
	if err == nil {
		err = k.h.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: n.IP.AsSlice(), HardwareAddr: mac})
	}
	if err != nil {
		return fmt.Errorf("give %s the neighbour %s: %w", link, n.IP, err)
	}
	return nil
}

func (k *Kernel) send(verb, link, what string, message func(netlink.Link) ([]byte, error), kind, flags int) error {
	l, err := k.byName(link)
	if errors.Is(err, ErrNoLink) && verb == "take" {
		return nil
	} else if err != nil {
		return err
	}
	body, err := message(l)
	if err == nil {
		_, err = k.rawRequest(kind, unix.NLM_F_ACK|flags, rawData(body))
	}
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case verb == "take" && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV)):
		return nil
	case verb == "take":
		return fmt.Errorf("take %s from %s: %w", what, link, err)
	}
	return fmt.Errorf("give %s %s: %w", link, what, err)
}

type rawData []byte

func (d rawData) Len() int          { return len(d) }
func (d rawData) Serialize() []byte { return d }

// message is the address for another link. Flags that say how far the kernel was
// with it are not for us to say, and nobody else on the wire can have taken it.
func (a HostAddr) message(l netlink.Link) ([]byte, error) {
	const ours = unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN
	head := slices.Clone(a.Raw[:unix.SizeofIfAddrmsg])
	head[addrFlagsAt] = 0
	native.PutUint32(head[addrIndexAt:], uint32(l.Attrs().Index)) //nolint:gosec // the kernel's own
	flags := uint32(0)
	if a.Prefix.Addr().Is6() {
		flags = unix.IFA_F_NODAD
	}
	return rewrite(head, a.Raw[unix.SizeofIfAddrmsg:], func(ad *mdnetlink.AttributeDecoder, ae *mdnetlink.AttributeEncoder) {
		switch ad.Type() {
		case unix.IFA_FLAGS:
			flags |= ad.Uint32() & ours
		case unix.IFA_LABEL:
			if label := ad.String(); label == l.Attrs().Name || strings.HasPrefix(label, l.Attrs().Name+":") {
				ae.String(unix.IFA_LABEL, label)
			}
		case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_ANYCAST, unix.IFA_CACHEINFO, unix.IFA_RT_PRIORITY, addrProtoAttr:
			ae.Bytes(ad.Type(), ad.Bytes())
		}
	}, func(ae *mdnetlink.AttributeEncoder) { ae.Uint32(unix.IFA_FLAGS, flags) })
}

// message is the route for another link.
func (r HostRoute) message(l netlink.Link) ([]byte, error) {
	head := slices.Clone(r.Raw[:unix.SizeofRtMsg])
	native.PutUint32(head[routeFlagsAt:], native.Uint32(head[routeFlagsAt:])&onlink)
	return rewrite(head, r.Raw[unix.SizeofRtMsg:], func(ad *mdnetlink.AttributeDecoder, ae *mdnetlink.AttributeEncoder) {
		switch ad.Type() {
		case unix.RTA_OIF:
			ae.Uint32(unix.RTA_OIF, uint32(l.Attrs().Index)) //nolint:gosec // the kernel's own
		case unix.RTA_CACHEINFO:
			const expiresAt = 8 // struct rta_cacheinfo
			if b := ad.Bytes(); head[0] == unix.AF_INET6 && len(b) >= expiresAt+4 {
				if ticks := int32(native.Uint32(b[expiresAt:])); ticks > 0 { //nolint:gosec // a signed number there
					ae.Uint32(unix.RTA_EXPIRES, uint32(ticks)/userHz+1)
				}
			}
		default:
			ae.Bytes(ad.Type()|ad.TypeFlags(), ad.Bytes())
		}
	}, func(*mdnetlink.AttributeEncoder) {})
}

// rewrite copies attributes behind a head, as each says, and adds to them.
func rewrite(head, attrs []byte, each func(*mdnetlink.AttributeDecoder, *mdnetlink.AttributeEncoder), more func(*mdnetlink.AttributeEncoder)) ([]byte, error) {
	ad, err := mdnetlink.NewAttributeDecoder(attrs)
	if err != nil {
		return nil, fmt.Errorf("read attributes: %w", err)
	}
	ae := mdnetlink.NewAttributeEncoder()
	ad.ByteOrder, ae.ByteOrder = binary.NativeEndian, binary.NativeEndian
	for ad.Next() {
		each(ad, ae)
	}
	if err := ad.Err(); err != nil {
		return nil, fmt.Errorf("read attributes: %w", err)
	}
	more(ae)
	encoded, err := ae.Encode()
	if err != nil {
		return nil, fmt.Errorf("write attributes: %w", err)
	}
	return append(head, encoded...), nil
}
