package endpoint_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/netdriver/endpoint"
	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/netdriver/network"
)

const mtu = 1450

var errNoNetwork = errors.New("no such network")

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// host is a namespace with a real kernel, a journal, and two networks: bridge,
// whose bridge is br, and macvlan, whose parent is nic1.
type host struct {
	t        *testing.T
	k        *kernel.Kernel
	lib      *netlink.Handle
	m        *endpoint.Manager
	networks map[string]network.Definition
	ensured  int

	mu    sync.Mutex // guards below
	store map[string]endpoint.Endpoint
	fails error // what the next write of the journal ends in
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	h := &host{t: t, store: map[string]endpoint.Endpoint{}, networks: map[string]network.Definition{
		"bridge":  {ID: "bridge", Mode: network.Bridge, BridgeName: "br", MTU: mtu},
		"macvlan": {ID: "macvlan", Mode: network.Macvlan, Parent: "nic1"},
	}}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			h.k, err = kernel.Open("5e1f")
		}
		if err == nil {
			h.lib, err = netlink.NewHandleAt(ns)
		}
		done <- errors.Join(err, ns.Close())
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.k.Close)
	t.Cleanup(h.lib.Close)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nic1"
	nic := netlink.NewVeth(attrs)
	nic.PeerName = "nic1-peer"
	if err := errors.Join(h.lib.LinkAdd(nic), h.Ensure("bridge")); err != nil {
		t.Fatal(err)
	}
	h.ensured = 0
	h.restart()
	return h
}

// restart starts a plugin process, as far as this package goes.
func (h *host) restart() {
	h.t.Helper()
	var err error
	if h.m, err = endpoint.NewManager(h.k, h, h, slog.New(slog.DiscardHandler)); err != nil {
		h.t.Fatal(err)
	}
}

// The journal.

func (h *host) Put(key string, e endpoint.Endpoint) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails; err != nil {
		return err
	}
	h.store[key] = e
	return nil
}

func (h *host) Delete(keys ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range keys {
		delete(h.store, k)
	}
	return nil
}

func (h *host) All() (map[string]endpoint.Endpoint, error) { return maps.Clone(h.store), nil }

// The networks.

func (h *host) Get(id string) (network.Definition, error) {
	d, ok := h.networks[id]
	if !ok {
		return d, errNoNetwork
	}
	return d, nil
}

func (h *host) Ensure(id string) error {
	h.ensured++
	d, err := h.Get(id)
	if err != nil || d.Mode != network.Bridge {
		return err
	}
	return h.k.EnsureBridge(kernel.Bridge{Name: d.BridgeName, Alias: h.k.NetworkAlias(id), MAC: kernel.BridgeMAC(id), MTU: d.MTU})
}

func (h *host) Pass() {}

func (h *host) Reach(network.Definition, []netip.Addr) error   { return nil }
func (h *host) Unreach(network.Definition, []netip.Addr) error { return nil }

// What the tests do.

func (h *host) create(network string) {
	h.t.Helper()
	if _, err := h.m.Create(endpoint.Endpoint{ID: "e", Network: network, IPv4: prefix("10.1.0.7/24")}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) join() {
	h.t.Helper()
	if _, _, err := h.m.Join("e"); err != nil {
		h.t.Fatal(err)
	}
}

// forget loses the journal.
func (h *host) forget() {
	clear(h.store)
	h.restart()
}

func (h *host) link(name string) kernel.Link {
	h.t.Helper()
	l, err := h.k.Link(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

func (h *host) links() string {
	h.t.Helper()
	all, err := h.k.Links()
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return fmt.Sprint(names)
}

func (h *host) lookup(name string) netlink.Link {
	h.t.Helper()
	l, err := h.lib.LinkByName(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

func (h *host) removeLink(name string) {
	h.t.Helper()
	if err := h.lib.LinkDel(h.lookup(name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) noMaster(name string) error { return h.lib.LinkSetNoMaster(h.lookup(name)) }

// moveAway moves a link into another namespace, as the engine does.
func (h *host) moveAway(name string) {
	h.t.Helper()
	l := h.lookup(name)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			err = h.lib.LinkSetNsFd(l, int(ns))
			h.t.Cleanup(func() { _ = ns.Close() })
		}
		done <- err
	}()
	if err := <-done; err != nil {
		h.t.Fatal(err)
	}
}

// settle settles the endpoint's host end.
func (h *host) settle() (bool, error) {
	h.t.Helper()
	l := h.link(kernel.HostName("e"))
	o, ours := h.k.Owner(l.Alias)
	if !ours {
		h.t.Fatalf("whose is %+v?", l)
	}
	ports, err := h.k.BridgePorts()
	if err != nil {
		h.t.Fatal(err)
	}
	told, err := h.k.Told()
	if err != nil {
		h.t.Fatal(err)
	}
	if p, is := ports[l.Index]; is {
		l.Port = &p
		if l.Told = told[l.Index]; l.Told == nil {
			l.Told = map[string]bool{}
		}
	}
	d, _ := h.Get(o.Network) // of one that is going no MTU is known
	return h.m.Settle(l, o, h.link("br").Index, d.MTU)
}
