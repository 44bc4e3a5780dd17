// Package kernel is the only place that speaks netlink and nftables: links,
// addresses, routes and the firewall's pass rules of one network namespace.
//
// It stands at the end of the network plugin's path. Packages above it say
// what should be, in the types of this package, and never see the library.
// Every link that this package makes carries an alias that says whose it is
// (see Instance); DeleteOwned refuses to touch a link whose alias says otherwise.
package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Errors that callers branch on.
var (
	ErrNoLink  = errors.New("no such link")
	ErrNotOurs = errors.New("the link is not ours")
	ErrInUse   = errors.New("the link is in a sandbox")
)

const (
	// dumpTries bounds the retries of a dump that the kernel interrupted
	// because a table changed under it (NLM_F_DUMP_INTR).
	dumpTries     = 10
	socketTimeout = 10 * time.Second
)

// Kernel is a handle on one network namespace, in the name of one instance of
// the plugin. It is safe for concurrent use.
type Kernel struct {
	Instance
	h      *handle
	raw    *nl.SocketHandle // for what the library has no call for
	ns     netns.NsHandle   // the namespace
	passMu sync.Mutex       // one change of rules at a time; guards nft and passed
	passed passState
	nft    *nftables.Conn // nil after an error, see netfilter
	// nftSocket is nft's, whose every use gets a deadline: an answer that
	// never comes must not hold passMu for good.
	nftSocket *mdnetlink.Conn

	queryMu sync.Mutex      // guards query
	query   *mdnetlink.Conn // for what the library cannot ask; nil after an error
}

// Link is what the plugin needs to know about a link.
type Link struct {
	Index  int
	Name   string
	Alias  string
	Type   string // "device" for hardware, else the kind: bridge, macvlan, veth, vlan, …
	MAC    net.HardwareAddr
	MTU    int
	Up     bool
	Master int // index of the bridge that the link is a port of, or 0
	Parent int // index of the lower link of a macvlan, VLAN or veth, or 0
	VLAN   int // id of an 802.1Q sub-interface, or 0

	// PermMAC is the address that hardware came with; nil for a virtual link.
	PermMAC net.HardwareAddr
	// Away is set where the other end of a veth pair is in another namespace.
	Away bool
	// Port is how the link behaves as a port of a bridge; nil: it was not looked
	// at (see BridgePorts).
	Port *Port
	// Told are the hardware addresses of which its bridge was told that they are
	// at this port, as the bytes of each; nil: it was not looked at (see Told).
	Told map[string]bool
	// Passthru is set on a macvlan link that has its parent for itself.
	Passthru bool
}

// Route is a destination of the host's main table and the link it leaves by.
type Route struct {
	Dst  netip.Prefix
	Link int // index; 0 for a route over several links
}

// Open returns a handle on the calling thread's network namespace, which stays
// with the handle whatever the thread does later. Links are made and owned in
// the name of the instance.
func Open(instance Instance) (*Kernel, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("look at the namespace: %w", err)
	}
	h, err := newHandle()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	raw, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), ns.Close())
	}
	_ = raw.SetReceiveTimeout(&unix.Timeval{Sec: int64(socketTimeout / time.Second)})
	k := &Kernel{Instance: instance, h: h, raw: &nl.SocketHandle{Socket: raw}, ns: ns}
	if err := k.netfilter(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// netfilter opens a socket where there is none: after an error an answer may
// still be on its way, and would be taken for that to the next question.
func (k *Kernel) netfilter() error {
	if k.nft != nil {
		return nil
	}
	fd, err := k.enter()
	if err != nil {
		return err
	}
	k.nft, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(fd), nftables.WithSockOptions(func(c *mdnetlink.Conn) error {
		k.nftSocket = c
		return nil
	}))
	if err != nil {
		k.nft = nil
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	return nil
}

func (k *Kernel) closeNetfilter() {
	if k.nft != nil {
		_ = k.nft.CloseLasting()
		k.nft = nil
	}
}

// Close gives the handle's sockets back.
func (k *Kernel) Close() {
	k.h.Close()
	k.raw.Close()
	k.closeNetfilter()
	if k.query != nil {
		_ = k.query.Close()
	}
	_ = k.ns.Close()
}

// dump repeats a netlink dump that was interrupted, so that no caller ever
// sees a partial table.
func dump[T any](what string, fn func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		all, err := fn()
		switch {
		case err == nil:
			return all, nil
		case !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries:
			var none T
			return none, fmt.Errorf("list %s: %w", what, err)
		}
	}
}

// Links returns every link of the namespace.
func (k *Kernel) Links() ([]Link, error) {
	return k.listLinks("links", func(*mdnetlink.AttributeEncoder) {})
}

// Link returns the link of that name, or an error that is ErrNoLink.
func (k *Kernel) Link(name string) (Link, error) {
	l, err := k.byName(name)
	if err != nil {
		return Link{}, err
	}
	return fromLibrary(l), nil
}

func (k *Kernel) byName(name string) (netlink.Link, error) {
	l, err := k.h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing) || errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("link %q: %w", name, ErrNoLink)
	case err != nil:
		return nil, fmt.Errorf("look up link %q: %w", name, err)
	}
	return l, nil
}

func fromLibrary(l netlink.Link) Link {
	a := l.Attrs()
	vlan, passthru := 0, false
	if v, ok := l.(*netlink.Vlan); ok && v.VlanProtocol != netlink.VLAN_PROTOCOL_8021AD {
		vlan = v.VlanId
	}
	switch m := l.(type) {
	case *netlink.Macvlan:
		passthru = m.Mode == netlink.MACVLAN_MODE_PASSTHRU
	case *netlink.Macvtap:
		passthru = m.Mode == netlink.MACVLAN_MODE_PASSTHRU
	}
	return Link{
		Index: a.Index, Name: a.Name, Alias: a.Alias, Type: l.Type(), MAC: a.HardwareAddr,
		MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Master: a.MasterIndex, Parent: a.ParentIndex, VLAN: vlan,
		PermMAC: a.PermHWAddr, Passthru: passthru,
		// The attribute is a signed number that the library reads as an
		// unsigned one; negative stands for a namespace without an id.
		Away: l.Type() == "veth" && int32(a.NetNsID) >= 0, //nolint:gosec // see above
	}
}

// Addrs returns the addresses of a link that were given to it, without the
// link-local ones of IPv6, which the kernel makes itself.
func (k *Kernel) Addrs(name string) ([]netip.Prefix, error) {
	l, err := k.byName(name)
	if err != nil {
		return nil, err
	}
	all, err := dump("addresses", func() ([]netlink.Addr, error) { return k.h.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range all {
		if p, ok := fromIPNet(a.IPNet); ok && (p.Addr().Is4() || !p.Addr().IsLinkLocalUnicast()) {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

// HostAddrs returns every address that the namespace has, on any link.
func (k *Kernel) HostAddrs() ([]netip.Addr, error) {
	all, err := dump("addresses", func() ([]netlink.Addr, error) { return k.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		if p, ok := fromIPNet(a.IPNet); ok {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs, nil
}

// LinkAddrs returns the addresses of all links that have any, by their names.
func (k *Kernel) LinkAddrs() (map[string][]netip.Prefix, error) {
	links, err := k.Links()
	if err != nil {
		return nil, err
	}
	addrs, err := dump("addresses", func() ([]netlink.Addr, error) { return k.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	by := map[string][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := fromIPNet(a.IPNet); ok && names[a.LinkIndex] != "" {
			by[names[a.LinkIndex]] = append(by[names[a.LinkIndex]], p)
		}
	}
	return by, nil
}

// Routes returns the unicast routes of the main table except the default ones
// and those of link-local scope: the prefixes that the host already reaches.
func (k *Kernel) Routes() ([]Route, error) {
	all, err := dump("routes", func() ([]netlink.Route, error) { return k.h.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var routes []Route
	for _, r := range all {
		p, ok := fromIPNet(r.Dst)
		if !ok || p.Bits() == 0 || p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
			continue
		}
		routes = append(routes, Route{Dst: p.Masked(), Link: r.LinkIndex})
	}
	return routes, nil
}

func fromIPNet(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
