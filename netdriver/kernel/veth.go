package kernel

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/failpoint"
)

// Veth describes a pair whose host end is a port of a bridge, or of nothing and
// then down.
type Veth struct {
	Host, Container string           // names of the two ends
	Alias           string           // of both
	Bridge          string           // "": none
	Port            Port             // how the host end behaves on the bridge
	MAC             net.HardwareAddr // of the container's end
	MTU             int              // of the container's end; 0: the bridge's
	// Elsewhere says that the bridge may believe the container to be at another
	// port, by which it was on another host. What is sent to it would go there
	// until it speaks itself.
	Elsewhere bool
}

// CreateVeth makes a veth pair, makes the host end a port of the bridge and
// brings that end up. Remains of an earlier try are replaced; a pair whose
// other end is in a sandbox is a container's at work, and ErrInUse.
//
// A container waits for this, and every message to the kernel may have to wait
// for others' there: so each says as much as it can.
func (k *Kernel) CreateVeth(v Veth) error {
	bridge, err := k.bridgeOf(v)
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	if v.MTU == 0 {
		v.MTU = bridge.MTU
	}
	err = k.addVeth(v, bridge)
	if errors.Is(err, unix.EEXIST) {
		if err := k.clearVeth(v); err != nil {
			return err
		}
		err = k.addVeth(v, bridge)
	}
	if err != nil {
		return fmt.Errorf("make veth pair %q and %q: %w", v.Host, v.Container, err)
	}
	if err := k.finishVeth(v); err != nil {
		return errors.Join(fmt.Errorf("set up veth pair %q: %w", v.Host, err), k.DeleteOwned(v.Host, v.Alias))
	}
	return nil
}

func (k *Kernel) bridgeOf(v Veth) (Link, error) {
	if v.Bridge == "" {
		return Link{MTU: defaultMTU}, nil
	}
	return k.Link(v.Bridge)
}

// clearVeth removes what an earlier try has left.
func (k *Kernel) clearVeth(v Veth) error {
	if has, err := k.Link(v.Host); err == nil && has.Alias == v.Alias && has.Away {
		return fmt.Errorf("make veth pair %q: %w", v.Host, ErrInUse)
	}
	for _, name := range []string{v.Host, v.Container} {
		if err := k.DeleteOwned(name, v.Alias); err != nil {
			return fmt.Errorf("clear away an earlier link: %w", err)
		}
	}
	return nil
}

// addVeth makes the pair with its host end in the bridge (net/core/rtnetlink.c,
// rtnl_newlink_create), which the library does afterwards.
func (k *Kernel) addVeth(v Veth, bridge Link) error {
	// A bridge takes the least MTU of its ports, and one without a MAC of its own
	// their least MAC: a port of ours must not be what changes either.
	mtu := bridge.MTU
	if v.Bridge == "" {
		mtu = v.MTU
	}
	data := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, linkAttrs(v.Host, portMAC(v.Alias), mtu)...)
	if bridge.Index != 0 {
		data = append(data, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Index)))) //nolint:gosec // the kernel's own
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	for _, a := range linkAttrs(v.Container, v.MAC, v.MTU) {
		peer.AddChild(a.(*nl.RtAttr)) //nolint:forcetypeassert // see linkAttrs
	}
	return k.change("add", v.Host, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(data, info)...)
}

func linkAttrs(name string, mac net.HardwareAddr, mtu int) []nl.NetlinkRequestData {
	attrs := []nl.NetlinkRequestData{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))), //nolint:gosec // bounded where options are parsed
	}
	if len(mac) > 0 {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_ADDRESS, mac))
	}
	return attrs
}

// finishVeth says whose both ends are, which the kernel does not take when it
// makes them, and brings the host's up, without IPv6 addresses (see noAutoAddr).
func (k *Kernel) finishVeth(v Veth) error {
	alias := nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(v.Alias))
	mode := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	mode.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(noAddrs))
	err := k.setLink("alias", v.Host, 0, alias, mode)
	if errors.Is(err, unix.EAFNOSUPPORT) { // no IPv6, no address
		err = k.setLink("alias", v.Host, 0, alias)
	}
	if err == nil {
		err = k.setLink("alias", v.Container, 0, alias)
	}
	if err != nil {
		return fmt.Errorf("set the alias: %w", err)
	}
	if v.Bridge == "" {
		return nil
	}
	if v.Port != (Port{}) { // which is how a new port behaves
		if err := k.SetPort(v.Host, v.Port, v.MAC); err != nil {
			return err
		}
	}
	if v.Elsewhere && !v.Port.Told() && len(v.MAC) > 0 {
		l, err := k.byName(v.Host)
		if err == nil {
			err = k.tellBridge(l, v.MAC)
		}
		if err != nil {
			return err
		}
	}
	if err := k.setLink("up", v.Host, unix.IFF_UP); err != nil {
		return fmt.Errorf("bring it up: %w", err)
	}
	return nil
}

// setLink changes a link that its name says.
func (k *Kernel) setLink(what, name string, flags uint32, attrs ...nl.NetlinkRequestData) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = flags, flags
	return k.change(what, name, unix.RTM_SETLINK, 0, append([]nl.NetlinkRequestData{msg, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))}, attrs...)...)
}

// AttachPort makes a link that was just listed a port of the bridge with this
// index, and brings it up: of many ports, one message each.
func (k *Kernel) AttachPort(port Link, bridge int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(port.Index) //nolint:gosec // the kernel's own, an int32 there
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	master := nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))) //nolint:gosec // the kernel's own
	if err := k.change("master", port.Name, unix.RTM_SETLINK, 0, msg, master); err != nil {
		return fmt.Errorf("make %q a port of its bridge: %w", port.Name, explainBusy(err, port.Name))
	}
	return nil
}

// change sends a request about one link, with a failpoint behind it.
func (k *Kernel) change(what, name string, kind, flags int, data ...nl.NetlinkRequestData) error {
	_, err := k.execute(kind, flags|unix.NLM_F_ACK, data...)
	failpoint.Hit("kernel", what, kindOf(name, "link"))
	return err
}
