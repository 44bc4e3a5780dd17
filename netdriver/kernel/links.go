package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MacvlanMode says whom a macvlan link reaches besides the wire (ip-link(8)).
type MacvlanMode string

// The modes of macvlan.
const (
	MacvlanBridge   MacvlanMode = "bridge"
	MacvlanPrivate  MacvlanMode = "private"
	MacvlanVEPA     MacvlanMode = "vepa"
	MacvlanPassthru MacvlanMode = "passthru"
)

var macvlanModes = map[MacvlanMode]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, MacvlanBridge: netlink.MACVLAN_MODE_BRIDGE, MacvlanPrivate: netlink.MACVLAN_MODE_PRIVATE,
	MacvlanVEPA: netlink.MACVLAN_MODE_VEPA, MacvlanPassthru: netlink.MACVLAN_MODE_PASSTHRU,
}

// Macvlan describes a macvlan link. In passthru mode it has the parent's MAC
// until it is given another, which the parent takes over as long as it lasts.
type Macvlan struct {
	Name, Alias string
	Parent      string
	On          Link        // the parent, if it was just looked up
	Mode        MacvlanMode // "": bridge
	MAC         net.HardwareAddr
	MTU         int // 0: the parent's
}

// Bridge describes a bridge. STP stays off, the kernel's default, and with it
// a port forwards at once whatever the bridge's forward delay says
// (net/bridge/br_stp.c, br_make_forwarding).
type Bridge struct {
	Name, Alias string
	MAC         net.HardwareAddr
	MTU         int // 0: the kernel's default, or what the uplink has
	Uplink      string
	Addrs       []netip.Prefix // the host's own, on the bridge
}

const (
	defaultMTU = 1500 // of Ethernet (RFC 894)
	noAddrs    = 1    // IN6_ADDR_GEN_MODE_NONE (linux/if_link.h)
)

// CreateMacvlan makes a macvlan link. A link of that name and alias that is
// already there is replaced: it is the remains of a try that was cut off.
func (k *Kernel) CreateMacvlan(m Macvlan) error {
	on := m.On
	if on.Index == 0 {
		var err error
		if on, err = k.Link(m.Parent); err != nil {
			return fmt.Errorf("find the parent: %w", err)
		}
	}
	attrs := newAttrs(m.Name, m.MAC, m.MTU)
	attrs.ParentIndex = on.Index
	if attrs.MTU == 0 || attrs.MTU > on.MTU { // lowered since the network was made
		attrs.MTU = on.MTU
	}
	l := &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[m.Mode]}
	err := k.h.LinkAdd(l)
	if errors.Is(err, unix.EEXIST) {
		if err := k.DeleteOwned(m.Name, m.Alias); err != nil {
			return fmt.Errorf("clear away an earlier link: %w", err)
		}
		err = k.h.LinkAdd(l)
	}
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("make macvlan %q: link %q: %w", m.Name, m.Parent, ErrNoLink)
	} else if err != nil {
		return fmt.Errorf("make macvlan %q on %q: %w", m.Name, m.Parent, explainBusy(err, m.Parent))
	}
	return k.claim(l, m.Alias)
}

// claim writes the alias on a link just made, which the kernel does not take
// at creation, and removes the link again where that does not work.
func (k *Kernel) claim(l netlink.Link, alias string) error {
	if err := k.h.LinkSetAlias(l, alias); err != nil {
		return errors.Join(fmt.Errorf("set the alias of %q: %w", l.Attrs().Name, err), k.h.LinkDel(l))
	}
	return nil
}

// noAutoAddr keeps the kernel from giving a link an IPv6 address when it comes
// up, by which the containers on a bridge would reach the host.
func (k *Kernel) noAutoAddr(l netlink.Link) error {
	if err := k.h.LinkSetIP6AddrGenMode(l, noAddrs); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // no IPv6, no address
		return fmt.Errorf("keep %q without IPv6 addresses: %w", l.Attrs().Name, err)
	}
	return nil
}

// DeleteOwned deletes the link of that name if its alias is the one given; an
// empty one will do where the name is a digest of ours, because a crash can
// come between making a link and naming its owner. A missing link is success, another's is ErrNotOurs.
func (k *Kernel) DeleteOwned(name, alias string) error {
	l, err := k.byName(name)
	if errors.Is(err, ErrNoLink) {
		return nil
	} else if err != nil {
		return err
	}
	if has := l.Attrs().Alias; has != alias && (has != "" || !ownName.MatchString(name)) {
		return fmt.Errorf("delete link %q with alias %q: %w", name, has, ErrNotOurs)
	}
	if err := k.h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %q: %w", name, err)
	}
	return nil
}

// EnsureBridge makes the bridge what the description says, making it if it is
// missing. What is right is not written again (see EnsureHostPort). A link of
// that name that is not ours is ErrNotOurs.
func (k *Kernel) EnsureBridge(b Bridge) error {
	l, err := k.byName(b.Name)
	if errors.Is(err, ErrNoLink) {
		l, err = k.makeBridge(b)
	}
	if err != nil {
		return err
	}
	if l.Type() == "bridge" && l.Attrs().Alias == "" && ownName.MatchString(b.Name) {
		if l, err = k.adopt(l, b); err != nil {
			return err
		}
	}
	if l.Type() != "bridge" || l.Attrs().Alias != b.Alias {
		return fmt.Errorf("bridge %q (a %s with alias %q): %w", b.Name, l.Type(), l.Attrs().Alias, ErrNotOurs)
	}
	if b.Uplink != "" {
		if err := k.SetMaster(b.Uplink, b.Name); err != nil {
			return err
		}
	}
	if err := k.ensureMAC(l, b); err != nil {
		return err
	}
	if err := k.ensureMTU(b); err != nil {
		return err
	}
	if err := k.missingAddrs(l, b.Addrs); err != nil {
		return err
	}
	if len(b.Addrs) == 0 && l.Attrs().Flags&net.FlagUp == 0 {
		if err := k.noAutoAddr(l); err != nil {
			return err
		}
	}
	if err := k.h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring bridge %q up: %w", b.Name, err)
	}
	return nil
}

// ensureMAC gives the bridge its MAC back where somebody took it.
func (k *Kernel) ensureMAC(l netlink.Link, b Bridge) error {
	if len(b.MAC) == 0 || bytes.Equal(l.Attrs().HardwareAddr, b.MAC) {
		return nil
	}
	if err := k.h.LinkSetHardwareAddr(l, b.MAC); err != nil {
		return fmt.Errorf("set the MAC of bridge %q: %w", b.Name, err)
	}
	return nil
}

// ensureMTU sets the MTU where it is not what was asked for: a bridge takes the
// smallest of its ports until somebody has set one (br_mtu_auto_adjust).
func (k *Kernel) ensureMTU(b Bridge) error {
	l, err := k.byName(b.Name)
	if err != nil {
		return err
	}
	if b.MTU == 0 || l.Attrs().MTU == b.MTU {
		return nil
	}
	if err := k.h.LinkSetMTU(l, b.MTU); err != nil {
		return fmt.Errorf("set the MTU of bridge %q: %w", b.Name, err)
	}
	return nil
}

// adopt finishes a bridge whose making was cut off before it had its alias. One
// with ports is somebody's at work, whatever its name.
func (k *Kernel) adopt(l netlink.Link, b Bridge) (netlink.Link, error) {
	links, err := k.Links()
	if err != nil {
		return nil, err
	}
	for _, port := range links {
		if port.Master == l.Attrs().Index {
			return l, nil
		}
	}
	if err := k.ensureMAC(l, b); err != nil {
		return nil, err
	}
	if err := k.h.LinkSetAlias(l, b.Alias); err != nil {
		return nil, fmt.Errorf("set the alias of %q: %w", b.Name, err)
	}
	return k.byName(b.Name)
}

// makeBridge gives a bridge its alias under a name of ours and then its own:
// wherever a crash cuts that off, what is left is known to be ours.
func (k *Kernel) makeBridge(b Bridge) (netlink.Link, error) {
	draft := b.Name
	if !ownName.MatchString(b.Name) {
		draft = BridgeDraftName(b.Alias)
		if err := k.DeleteOwned(draft, b.Alias); err != nil {
			return nil, fmt.Errorf("clear away an earlier bridge: %w", err)
		}
	}
	l := &netlink.Bridge{LinkAttrs: newAttrs(draft, b.MAC, b.MTU)}
	if err := k.h.LinkAdd(l); err != nil {
		return nil, fmt.Errorf("make bridge %q: %w", b.Name, err)
	}
	if err := k.claim(l, b.Alias); err != nil {
		return nil, err
	}
	if draft != b.Name {
		if err := k.h.LinkSetName(l, b.Name); err != nil {
			return nil, errors.Join(fmt.Errorf("name bridge %q: %w", b.Name, err), k.h.LinkDel(l))
		}
	}
	return k.byName(b.Name)
}

// DeleteBridge deletes a bridge of that name and alias, and what a crash has left
// of it in the making. A missing one is success, another's is ErrNotOurs.
func (k *Kernel) DeleteBridge(name, alias string) error {
	return errors.Join(k.DeleteOwned(BridgeDraftName(alias), alias), k.DeleteOwned(name, alias))
}

// missingAddrs gives a link those of the addresses that it lacks.
func (k *Kernel) missingAddrs(l netlink.Link, want []netip.Prefix) error {
	if len(want) == 0 {
		return nil
	}
	has, err := k.Addrs(l.Attrs().Name)
	if err != nil {
		return err
	}
	return k.ensureAddrs(l, slices.DeleteFunc(slices.Clone(want), func(p netip.Prefix) bool { return slices.Contains(has, p) }))
}

func (k *Kernel) ensureAddrs(l netlink.Link, addrs []netip.Prefix) error {
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: toIPNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // ours by reservation; without it the address is tentative at first
		}
		if err := k.h.AddrReplace(l, a); err != nil {
			return fmt.Errorf("give %s the address %s: %w", l.Attrs().Name, p, err)
		}
	}
	return nil
}

// SetMaster makes a link a port of the bridge and brings it up. A link that is
// a port of another bridge, or carries macvlan links, is refused by the kernel.
func (k *Kernel) SetMaster(port, bridge string) error {
	p, err := k.byName(port)
	if err != nil {
		return fmt.Errorf("find the port: %w", err)
	}
	b, err := k.byName(bridge)
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	if p.Attrs().MasterIndex != b.Attrs().Index {
		if err := k.h.LinkSetMaster(p, b); err != nil {
			return fmt.Errorf("make %q a port of bridge %q: %w", port, bridge, explainBusy(err, port))
		}
	}
	if err := k.h.LinkSetUp(p); err != nil {
		return fmt.Errorf("bring port %q up: %w", port, err)
	}
	return nil
}

// ReleasePort takes a link out of the bridge if it is a port of that bridge and
// the bridge's alias is the one given, and reports whether it did. A missing
// link is success.
func (k *Kernel) ReleasePort(port, bridge, alias string) (released bool, err error) {
	p, err := k.byName(port)
	if errors.Is(err, ErrNoLink) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	b, err := k.byName(bridge)
	if errors.Is(err, ErrNoLink) || err == nil && (p.Attrs().MasterIndex != b.Attrs().Index || b.Attrs().Alias != alias) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := k.h.LinkSetNoMaster(p); err != nil {
		return false, fmt.Errorf("take %q out of bridge %q: %w", port, bridge, err)
	}
	return true, nil
}

// SetUp brings a link up.
func (k *Kernel) SetUp(name string) error {
	l, err := k.byName(name)
	if err != nil || l.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	if err := k.h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %q up: %w", name, err)
	}
	return nil
}

// newAttrs starts from the library's defaults (a zero TxQLen would mean no
// queue) and sets the hardware address with the creation: udev rewrites one
// that comes later.
func newAttrs(name string, mac net.HardwareAddr, mtu int) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = name, slices.Clone(mac), mtu
	return attrs
}

func explainBusy(err error, link string) error {
	switch {
	case errors.Is(err, unix.EINVAL): // macvlan_common_newlink
		return fmt.Errorf("%w: %q is passed through to another macvlan link, or to be while it carries some", os.NewSyscallError("netlink", err), link)
	case !errors.Is(err, unix.EBUSY):
		return err
	}
	return fmt.Errorf("%w: %q is a port of a bridge or carries macvlan links, and the kernel allows one of the two only",
		os.NewSyscallError("netlink", err), link)
}

// SetDown takes a link down.
func (k *Kernel) SetDown(name string) error {
	l, err := k.byName(name)
	if err != nil {
		return err
	}
	if err := k.h.LinkSetDown(l); err != nil {
		return fmt.Errorf("take %q down: %w", name, err)
	}
	return nil
}

// SetMTU sets a link's MTU.
func (k *Kernel) SetMTU(name string, mtu int) error {
	l, err := k.byName(name)
	if err != nil {
		return err
	}
	if err := k.h.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set the MTU of %q to %d: %w", name, mtu, err)
	}
	return nil
}
