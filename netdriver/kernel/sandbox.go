package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Elsewhere is a link of ours in another namespace: a sandbox's, as a rule.
type Elsewhere struct {
	Link
	NS int // the namespace's id in ours
}

// A link that is moved gives the namespace that it goes to an id in the one that
// it leaves (net/core/dev.c, __dev_change_net_namespace), which lasts as long as
// both. What has such an id can be looked into without entering it, with
// CAP_NET_ADMIN over its user namespace (rtnetlink(7), IFLA_TARGET_NETNSID): so
// a link of ours that is found neither here nor there is gone, or was carried
// on by somebody inside of the sandbox.

// Elsewhere returns the links of endpoints of this instance in all other
// namespaces that links have been moved to. One that goes away meanwhile is left out.
func (k *Kernel) Elsewhere() ([]Elsewhere, error) {
	ids, err := k.namespaces()
	if err != nil {
		return nil, err
	}
	self, err := k.ownID()
	if err != nil {
		return nil, err
	}
	var found []Elsewhere
	for _, id := range ids {
		if id == self {
			continue
		}
		links, err := k.linksIn(id)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if o, ours := k.Owner(l.Alias); ours && o.Endpoint != "" {
				found = append(found, Elsewhere{Link: l, NS: id})
			}
		}
	}
	return found, nil
}

const (
	nsidAttr     = 1      // NETNSA_NSID (linux/net_namespace.h)
	nsFDAttr     = 3      // NETNSA_FD
	targetNSLink = 46     // IFLA_TARGET_NETNSID (linux/if_link.h)
	targetNSAddr = 10     // IFA_TARGET_NETNSID (linux/if_addr.h)
	extMask      = 29     // IFLA_EXT_MASK
	skipStats    = 1 << 3 // RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h)
	sizeofRtgen  = 4      // struct rtgenmsg, aligned
	ndIndexAt    = 4      // in struct ndmsg
)

const (
	// listEnds is the least number of ids at which a list may be cut off: a
	// buffer of the kernel's, of which the page is 4,096 bytes, has room for more.
	listEnds = 128
	// idGap is how many ids in a row must be nobody's for the rest to be, too.
	idGap = 4096
)

// namespaces returns the ids that other namespaces have in this one. Kernels
// end that list where their first buffer is full (seen on 6.18: 134 of 200), so
// that those beyond are asked for one by one. An id is the lowest that was free
// (net/core/net_namespace.c, alloc_netid).
func (k *Kernel) namespaces() ([]int, error) {
	msgs, err := k.request("namespaces", unix.RTM_GETNSID, mdnetlink.Dump, make([]byte, sizeofRtgen))
	if err != nil {
		return nil, err
	}
	ids, err := readIDs(msgs)
	if err != nil || len(ids) < listEnds {
		return ids, err
	}
	last := slices.Max(ids)
	for id := last + 1; id <= last+idGap; id++ {
		there, err := k.idTaken(id)
		if err != nil {
			return nil, err
		}
		if there {
			ids, last = append(ids, id), id
		}
	}
	return ids, nil
}

// idTaken reports whether a namespace has this id in ours.
func (k *Kernel) idTaken(id int) (bool, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.Int32(nsidAttr, int32(id)) //nolint:gosec // few more than there are
	attrs, err := ae.Encode()
	if err != nil {
		return false, fmt.Errorf("encode a request: %w", err)
	}
	_, err = k.request("a namespace", unix.RTM_GETNSID, 0, append(make([]byte, sizeofRtgen), attrs...))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// ownID returns the id that the namespace has in itself, which a link that
// comes back from a sandbox gives it, or a negative number.
func (k *Kernel) ownID() (int, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.Uint32(nsFDAttr, uint32(k.ns)) //nolint:gosec // a file descriptor
	attrs, err := ae.Encode()
	if err != nil {
		return 0, fmt.Errorf("encode a request: %w", err)
	}
	msgs, err := k.request("the own namespace", unix.RTM_GETNSID, 0, append(make([]byte, sizeofRtgen), attrs...))
	if err != nil {
		return 0, err
	}
	ids, err := readIDs(msgs)
	if err == nil && len(ids) != 1 {
		err = fmt.Errorf("look for the own namespace: got %d answers", len(ids))
	}
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

func readIDs(msgs []mdnetlink.Message) ([]int, error) {
	var ids []int
	for _, m := range msgs {
		if len(m.Data) < sizeofRtgen {
			continue
		}
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[sizeofRtgen:])
		if err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
		for ad.Next() {
			if ad.Type() == nsidAttr {
				ids = append(ids, int(ad.Int32()))
			}
		}
		if err := ad.Err(); err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
	}
	return ids, nil
}

func (k *Kernel) linksIn(ns int) ([]Link, error) {
	links, err := k.listLinks("links of a sandbox", func(ae *mdnetlink.AttributeEncoder) {
		ae.Int32(targetNSLink, int32(ns)) //nolint:gosec // it came from there
	})
	if errors.Is(err, unix.EINVAL) {
		return nil, nil // the namespace has ended
	}
	return links, err
}

// listLinks lists links without their counters, which are most of what the
// kernel tells of each.
func (k *Kernel) listLinks(what string, where func(*mdnetlink.AttributeEncoder)) ([]Link, error) {
	ae := mdnetlink.NewAttributeEncoder()
	where(ae)
	ae.Uint32(extMask, skipStats)
	attrs, err := ae.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	msgs, err := k.request(what, unix.RTM_GETLINK, mdnetlink.Dump, append(make([]byte, unix.SizeofIfInfomsg), attrs...))
	if err != nil {
		return nil, err
	}
	links := make([]Link, 0, len(msgs))
	for _, m := range msgs {
		l, err := netlink.LinkDeserialize(nil, m.Data)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", what, err)
		}
		links = append(links, fromLibrary(l))
	}
	return links, nil
}

// IsElsewhere reports whether a link that Elsewhere returned is still there.
func (k *Kernel) IsElsewhere(e Elsewhere) (bool, error) {
	links, err := k.linksIn(e.NS)
	return slices.ContainsFunc(links, func(l Link) bool { return l.Alias == e.Alias }), err
}

// AddrsElsewhere returns the addresses of a link in another namespace, without
// the link-local ones of IPv6.
func (k *Kernel) AddrsElsewhere(e Elsewhere) ([]netip.Prefix, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.Int32(targetNSAddr, int32(e.NS)) //nolint:gosec // it came from there
	attrs, err := ae.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	msgs, err := k.request("addresses of a sandbox", unix.RTM_GETADDR, mdnetlink.Dump, append(make([]byte, unix.SizeofIfAddrmsg), attrs...))
	if errors.Is(err, unix.EINVAL) {
		return nil, nil // the namespace has ended
	} else if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, m := range msgs {
		p, index, err := parseAddr(m.Data)
		if err != nil {
			return nil, err
		}
		if index == e.Index && p.IsValid() && (p.Addr().Is4() || !p.Addr().IsLinkLocalUnicast()) {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

// parseAddr reads a struct ifaddrmsg and its address: the link's own, which is
// IFA_LOCAL where there is one.
func parseAddr(data []byte) (p netip.Prefix, index int, err error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, 0, errors.New("list addresses of a sandbox: the answer is too short")
	}
	ad, err := mdnetlink.NewAttributeDecoder(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return netip.Prefix{}, 0, fmt.Errorf("list addresses of a sandbox: %w", err)
	}
	bits := int(data[1])
	index = int(ad.ByteOrder.Uint32(data[4:8]))
	for ad.Next() {
		if t := ad.Type(); t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !p.IsValid() {
			if a, ok := netip.AddrFromSlice(ad.Bytes()); ok {
				p = netip.PrefixFrom(a, bits)
			}
		}
	}
	if err := ad.Err(); err != nil {
		return netip.Prefix{}, 0, fmt.Errorf("list addresses of a sandbox: %w", err)
	}
	return p, index, nil
}

// Heard returns the hardware addresses that a link takes frames for besides its
// own, as the bytes of each: a macvlan link with such an address is up on it, in
// whatever namespace.
func (k *Kernel) Heard(link string) (map[string]bool, error) {
	l, err := k.byName(link)
	if err != nil {
		return nil, err
	}
	heard := map[string]bool{}
	err = k.eachForwarding(l.Attrs().Index, func(n *netlink.Neigh) {
		if n.LinkIndex == l.Attrs().Index {
			heard[string(n.HardwareAddr)] = true
		}
	})
	return heard, err
}

// Told returns, by the index of each port of a bridge that there is any for, the
// hardware addresses of which SetPort has told the bridge.
func (k *Kernel) Told() (map[int]map[string]bool, error) {
	told := map[int]map[string]bool{}
	err := k.eachForwarding(0, func(n *netlink.Neigh) {
		if n.State != netlink.NUD_NOARP || n.MasterIndex == 0 {
			return
		}
		if told[n.LinkIndex] == nil {
			told[n.LinkIndex] = map[string]bool{}
		}
		told[n.LinkIndex][string(n.HardwareAddr)] = true
	})
	return told, err
}

// eachForwarding lists forwarding entries, of one link or, with 0, of all.
func (k *Kernel) eachForwarding(link int, do func(*netlink.Neigh)) error {
	body := make([]byte, unix.SizeofNdMsg)
	body[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(body[ndIndexAt:], uint32(link)) //nolint:gosec // the kernel's own
	msgs, err := k.request("hardware addresses", unix.RTM_GETNEIGH, mdnetlink.Dump, body)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		n, err := netlink.NeighDeserialize(m.Data)
		if err != nil {
			return fmt.Errorf("list hardware addresses: %w", err)
		}
		do(n)
	}
	return nil
}

// request asks what the library cannot.
func (k *Kernel) request(what string, kind uint16, flags mdnetlink.HeaderFlags, body []byte) ([]mdnetlink.Message, error) {
	k.queryMu.Lock()
	defer k.queryMu.Unlock()
	return dump(what, func() ([]mdnetlink.Message, error) {
		if k.query == nil {
			c, err := k.dial(unix.NETLINK_ROUTE, 0)
			if err != nil {
				return nil, err
			}
			// Without this the kernel takes no notice of what it does not know, and
			// would answer with the host's own table.
			if err := c.SetOption(mdnetlink.GetStrictCheck, true); err != nil {
				return nil, errors.Join(fmt.Errorf("ask for strict checks: %w", err), c.Close())
			}
			k.query = c
		}
		msgs, err := k.ask(kind, flags, body)
		if err != nil && !answered(err) { // an answer that comes late would be taken for the next one's
			_ = k.query.Close()
			k.query = nil
		}
		return msgs, err
	})
}

// answered reports whether an error is what the kernel answered.
func answered(err error) bool {
	return errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

func (k *Kernel) ask(kind uint16, flags mdnetlink.HeaderFlags, body []byte) ([]mdnetlink.Message, error) {
	if err := k.query.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		return nil, fmt.Errorf("set the netlink time-out: %w", err)
	}
	msgs, err := k.query.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: mdnetlink.HeaderType(kind), Flags: mdnetlink.Request | flags}, Data: body,
	})
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if m.Header.Flags&mdnetlink.DumpInterrupted != 0 {
			return nil, netlink.ErrDumpInterrupted
		}
	}
	return msgs, nil
}
