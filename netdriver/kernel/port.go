package kernel

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	lookPrefix = "dlp-" // a network's port for looking at its wire
	lookAlias  = ":port:"

	// lookMTU is less than what IPv6 needs (RFC 8200, 5): the kernel then has no
	// IPv6 on the link at all, no address, and no route from a router's
	// advertisement. What the plugin sends by it itself is much shorter.
	lookMTU = 1000
)

// PortName is the name of a network's port for looking at its wire.
func PortName(networkID string) string { return lookPrefix + digits(networkID) }

// PortAlias is the alias of a network's port. It is no alias of a link that
// belongs to a container's way, and Owner does not know it.
func (i Instance) PortAlias(networkID string) string {
	return aliasPrefix + string(i) + lookAlias + networkID
}

// EnsurePort makes a port of our own on a parent that carries macvlan links: a
// macvlan link in bridge mode, by which frames reach the wire and this host's
// other macvlan links, which those sent on the parent itself never do. The host
// does not use it: it answers no ARP and has no address.
func (k *Kernel) EnsurePort(networkID, parent string) (Link, error) {
	name, alias := PortName(networkID), k.PortAlias(networkID)
	lower, err := k.byName(parent)
	if err != nil {
		return Link{}, fmt.Errorf("find the parent: %w", err)
	}
	l, err := k.byName(name)
	if err == nil && (l.Attrs().Alias != alias || l.Attrs().ParentIndex != lower.Attrs().Index) {
		err = errors.Join(k.DeleteOwned(name, alias), ErrNoLink)
	}
	if errors.Is(err, ErrNoLink) {
		l, err = k.makePort(name, alias, lower)
	}
	if err != nil {
		return Link{}, err
	}
	if err := k.deafen(networkID); err != nil {
		return Link{}, err
	}
	if err := k.h.LinkSetUp(l); err != nil {
		return Link{}, fmt.Errorf("bring port %q up: %w", name, err)
	}
	return k.Link(name)
}

func (k *Kernel) makePort(name, alias string, lower netlink.Link) (netlink.Link, error) {
	attrs := newAttrs(name, hashedMAC(alias), lookMTU)
	attrs.ParentIndex = lower.Attrs().Index
	l := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := k.h.LinkAdd(l); err != nil {
		return nil, fmt.Errorf("make port %q on %q: %w", name, lower.Attrs().Name, explainBusy(err, lower.Attrs().Name))
	}
	if err := k.claim(l, alias); err != nil {
		return nil, err
	}
	if err := errors.Join(k.noAutoAddr(l), k.h.LinkSetARPOff(l)); err != nil {
		return nil, errors.Join(fmt.Errorf("keep port %q quiet: %w", name, err), k.h.LinkDel(l))
	}
	return k.byName(name)
}

// deafen drops what comes in by a port, after packet sockets have seen it
// (net/core/dev.c, __netif_receive_skb_core). Where the kernel cannot do that
// the port works all the same.
func (k *Kernel) deafen(networkID string) error {
	drop := nftables.ChainPolicyDrop
	err := k.onPortTable(networkID, func(c *nftables.Conn, t *nftables.Table) {
		c.AddTable(t) // so that there is one to delete, with the chain of an earlier port
		c.DelTable(t)
		c.AddTable(t)
		c.AddChain(&nftables.Chain{
			Name: "ingress", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFilter, Device: PortName(networkID), Policy: &drop,
		})
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	return err
}

func (k *Kernel) onPortTable(networkID string, change func(*nftables.Conn, *nftables.Table)) error {
	fd, err := k.enter()
	if err != nil {
		return err
	}
	c, err := nftables.New(nftables.WithNetNSFd(fd))
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	change(c, &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "dockline-" + string(k.Instance) + "-" + digits(networkID)})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change what comes in by port %q: %w", PortName(networkID), err)
	}
	return nil
}

// Ports returns the ports of this instance that there are: names by network.
func (k *Kernel) Ports() (map[string]string, error) {
	links, err := k.Links()
	if err != nil {
		return nil, err
	}
	ports := map[string]string{}
	for _, l := range links {
		if id, ours := strings.CutPrefix(l.Alias, k.PortAlias("")); ours {
			ports[id] = l.Name
		}
	}
	return ports, nil
}

// DeletePort removes a network's port. A missing one is success.
func (k *Kernel) DeletePort(networkID string) error {
	err := k.onPortTable(networkID, func(c *nftables.Conn, t *nftables.Table) { c.DelTable(t) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		err = nil
	}
	return errors.Join(err, k.DeleteOwned(PortName(networkID), k.PortAlias(networkID)))
}

// Interface is a link in the form that opens sockets.
func (l Link) Interface() *net.Interface {
	return &net.Interface{Index: l.Index, Name: l.Name, MTU: l.MTU, HardwareAddr: l.MAC}
}

// Within runs fn where sockets that it opens belong to the handle's namespace.
// The plugin lives there, every thread of it; who comes from elsewhere needs
// CAP_SYS_ADMIN.
func (k *Kernel) Within(fn func() error) error {
	fd, err := k.enter()
	if err != nil {
		return err
	}
	if fd == 0 {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(k.ns); err != nil {
			done <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
