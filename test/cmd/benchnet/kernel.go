package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	harnessns "github.com/dockline/dockline/test/harness/netns"
)

// What the kernel alone takes, with nothing of ours and nobody to ask, for
// that is the least that anybody can take on this machine at this time.

// plainBridge is a bridge made by hand, with a third interface of the host on
// the same wire as its port and a veth pair into a namespace. Like any bridge
// beside an engine it needs a rule in the engine's chain.
func (b *bench) plainBridge(ctx context.Context) error {
	host, box := b.host.NS, b.plain()
	if err := harnessns.Add(ctx, box); err != nil {
		return err
	}
	for _, args := range []string{
		"-n " + host + " link add plain0 type bridge",
		"-n " + host + " link set eth2 master plain0 up",
		"-n " + host + " link add plain1 type veth peer name eth0 netns " + box,
		"-n " + host + " link set plain1 master plain0 up",
		"-n " + host + " link set plain0 up",
		"-n " + box + " addr add 198.51.100.250/24 dev eth0",
		"-n " + box + " link set eth0 up",
	} {
		if err := harnessns.IP(ctx, strings.Fields(args)...); err != nil {
			return err
		}
	}
	out, err := harnessns.Command(ctx, host, "iptables", "-I", "DOCKER-USER", "-i", "plain0", "-o", "plain0", "-j", "ACCEPT").CombinedOutput()
	if err != nil {
		return fmt.Errorf("let frames pass: %w: %s", err, out)
	}
	return nil
}

// plain is the namespace on the plain bridge. The lab removes it.
func (b *bench) plain() string { return b.lab.Namespace("plain") }

// bare makes a link as an endpoint has it, in as few calls as the library has,
// notes how long that took, and removes it.
func (c *caller) bare(network string, into *histogram) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bare0"
	begin := time.Now()
	var l netlink.Link
	if network == "bridge" {
		attrs.MasterIndex = c.bridgeIndex
		l = netlink.NewVeth(attrs)
		l.(*netlink.Veth).PeerName = "bare1"
	} else {
		attrs.ParentIndex = c.parentIndex
		l = &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	}
	err := c.lib.LinkAdd(l)
	if err == nil && network == "bridge" { // the engine brings the other one up
		err = c.lib.LinkSetUp(l)
	}
	into.add(time.Since(begin))
	if err == nil {
		err = c.lib.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("make a bare link: %w", err)
	}
	return nil
}

// barePorts times what a repair takes at least: a bridge with this many ports is
// deleted, made again, and given them back, in a namespace that has nothing else.
func barePorts(ports int) (ms float64, err error) {
	made := make(chan error)
	var lib *netlink.Handle
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			lib, err = netlink.NewHandleAt(ns)
			_ = ns.Close() // the socket keeps it until the links are to go
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return 0, fmt.Errorf("make a namespace: %w", err)
	}
	defer lib.Close()
	all := make([]netlink.Link, ports)
	for i := range all {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("a%d", i)
		veth := netlink.NewVeth(attrs)
		veth.PeerName = fmt.Sprintf("b%d", i)
		if err := lib.LinkAdd(veth); err != nil {
			return 0, fmt.Errorf("make a pair: %w", err)
		}
		all[i] = veth
	}
	if err := giveBack(lib, all); err != nil {
		return 0, err
	}
	old, err := lib.LinkByName("bare0")
	if err != nil {
		return 0, fmt.Errorf("find the bridge: %w", err)
	}
	begin := time.Now()
	if err := lib.LinkDel(old); err != nil {
		return 0, fmt.Errorf("delete the bridge: %w", err)
	}
	if err := giveBack(lib, all); err != nil {
		return 0, err
	}
	return since(begin) * 1000, nil
}

func giveBack(lib *netlink.Handle, ports []netlink.Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bare0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	err := lib.LinkAdd(bridge)
	if err == nil {
		err = lib.LinkSetUp(bridge)
	}
	for _, l := range ports {
		if err == nil {
			err = lib.LinkSetMaster(l, bridge)
		}
		if err == nil {
			err = lib.LinkSetUp(l)
		}
	}
	if err != nil {
		return fmt.Errorf("make a bridge and its ports: %w", err)
	}
	return nil
}
