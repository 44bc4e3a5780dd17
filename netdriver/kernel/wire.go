package kernel

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Wire describes what connects a placeholder to a parent. A macvlan link cannot
// be made without its parent, and one that is made later cannot be put into a
// sandbox without entering it. So a container that starts without one gets a
// veth pair, and when the parent is there a macvlan link is made beside the host
// end, with the container's MAC, and frames are handed from one to the other.
type Wire struct {
	Macvlan
	Host string // the host end of the pair
}

// EnsureWire makes the connection if it is not there. That the macvlan link is
// up, which comes last, says that all of it is. Without a parent, which is
// ErrNoLink, the host end is down, so that the container sees no carrier and
// forgets whom it knew on the wire.
func (k *Kernel) EnsureWire(w Wire) (made bool, err error) {
	host, err := k.byName(w.Host)
	if err != nil {
		return false, fmt.Errorf("find the placeholder: %w", err)
	}
	hostUp := host.Attrs().Flags&net.FlagUp != 0
	parent, err := k.Link(w.Parent)
	if errors.Is(err, ErrNoLink) && hostUp {
		err = errors.Join(err, k.h.LinkSetDown(host))
	}
	if err != nil {
		return false, fmt.Errorf("find the parent: %w", err)
	}
	if l, err := k.Link(w.Name); err == nil && l.Alias == w.Alias && l.Parent == parent.Index && l.Up && hostUp {
		return false, nil
	}
	if err := k.CreateMacvlan(w.Macvlan); err != nil {
		return false, err
	}
	if err := k.connect(w, host); err != nil {
		return false, errors.Join(fmt.Errorf("connect %q to %q: %w", w.Host, w.Parent, err), k.DeleteOwned(w.Name, w.Alias))
	}
	return true, nil
}

func (k *Kernel) connect(w Wire, host netlink.Link) error {
	port, err := k.byName(w.Name)
	if err != nil {
		return err
	}
	// The host is not to be found on either; what the container has subscribed
	// to is not known here, so that it gets all multicast.
	for _, l := range []netlink.Link{port, host} {
		if err := k.noAutoAddr(l); err != nil {
			return err
		}
	}
	if err := k.h.LinkSetAllmulticastOn(port); err != nil {
		return err
	}
	if w.Mode == MacvlanPassthru && len(w.MAC) > 0 {
		if err := k.h.LinkSetHardwareAddr(port, w.MAC); err != nil {
			return err
		}
	}
	if err := errors.Join(k.redirect(host, port), k.redirect(port, host)); err != nil {
		return err
	}
	return errors.Join(k.h.LinkSetUp(host), k.h.LinkSetUp(port))
}

// redirect sends out by one link whatever comes in by the other (tc-mirred(8)).
// What is left of an earlier try, or leads to a link that is gone, is replaced.
func (k *Kernel) redirect(from, to netlink.Link) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: from.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
	err := k.h.QdiscDel(ingress)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear the ingress of %q: %w", from.Attrs().Name, err)
	}
	if err := k.h.QdiscAdd(ingress); err != nil {
		return fmt.Errorf("make the ingress of %q: %w", from.Attrs().Name, err)
	}
	err = k.h.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	})
	if err != nil {
		return fmt.Errorf("redirect %q to %q: %w", from.Attrs().Name, to.Attrs().Name, err)
	}
	return nil
}
