package kernel

import (
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Counters are what the kernel has counted of a link, seen from that link.
type Counters struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// LinkCounters returns the counters of all links of the namespace, by name.
func (k *Kernel) LinkCounters() (map[string]Counters, error) {
	all, err := dump("links", k.h.LinkList)
	if err != nil {
		return nil, err
	}
	by := make(map[string]Counters, len(all))
	for _, l := range all {
		by[l.Attrs().Name] = counters(l)
	}
	return by, nil
}

// EndpointCounters returns the counters of this instance's links in sandboxes,
// by endpoint.
func (k *Kernel) EndpointCounters() (map[string]Counters, error) {
	ids, err := k.namespaces()
	if err != nil {
		return nil, err
	}
	self, err := k.ownID()
	if err != nil {
		return nil, err
	}
	by := map[string]Counters{}
	for _, ns := range ids {
		if ns == self {
			continue
		}
		ae := mdnetlink.NewAttributeEncoder()
		ae.Int32(targetNSLink, int32(ns)) //nolint:gosec // it came from there
		attrs, err := ae.Encode()
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		msgs, err := k.request("links of a sandbox", unix.RTM_GETLINK, mdnetlink.Dump, append(make([]byte, unix.SizeofIfInfomsg), attrs...))
		if errors.Is(err, unix.EINVAL) {
			continue // the namespace has ended
		} else if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			l, err := netlink.LinkDeserialize(nil, m.Data)
			if err != nil {
				return nil, fmt.Errorf("list links of a sandbox: %w", err)
			}
			if o, ours := k.Owner(l.Attrs().Alias); ours && o.Endpoint != "" {
				by[o.Endpoint] = counters(l)
			}
		}
	}
	return by, nil
}

func counters(l netlink.Link) Counters {
	s := l.Attrs().Statistics
	if s == nil {
		return Counters{}
	}
	return Counters{
		RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
		TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
	}
}
