package kernel

import (
	"net/netip"
	"runtime"
	"testing"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// sandbox makes another namespace, moves a link there as the engine does, and
// gives it an address. It returns a handle on that namespace.
func sandbox(t *testing.T, k *Kernel, link, addr string) *netlink.Handle {
	t.Helper()
	type made struct {
		ns  netns.NsHandle
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		done <- made{ns, err}
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(m.err)
	}
	h, err := netlink.NewHandleAt(m.ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		_ = m.ns.Close()
	})
	l, err := k.byName(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.h.LinkSetNsFd(l, int(m.ns)); err != nil {
		t.Fatal(err)
	}
	inside, err := h.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := netlink.ParseAddr(addr)
	if err := h.AddrAdd(inside, a); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(inside); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestALinkInASandboxIsFound(t *testing.T) {
	k := inNamespace(t)
	wire(t, k, "nic0")
	mac := BridgeMAC("x")
	m := Macvlan{Name: ContainerName("e"), Alias: self.EndpointAlias("n", "e"), Parent: "nic0", MAC: mac}
	if err := k.CreateMacvlan(m); err != nil {
		t.Fatal(err)
	}
	elsewhere := func(want int) []Elsewhere {
		t.Helper()
		all, err := k.Elsewhere()
		if err != nil || len(all) != want {
			t.Fatalf("found %+v, %v, want %d", all, err, want)
		}
		return all
	}
	heard := func(want bool) {
		t.Helper()
		if got, err := k.Heard("nic0"); err != nil || got[string(mac)] != want {
			t.Errorf("the parent listens for %s: %v, %v", mac, got, err)
		}
	}
	elsewhere(0)
	heard(false)
	inside := sandbox(t, k, m.Name, "10.1.0.7/24")
	gone(t, k, m.Name)
	heard(true)
	has := elsewhere(1)[0]
	if has.Alias != m.Alias || has.MAC.String() != mac.String() || has.Name != m.Name {
		t.Errorf("found %+v", has)
	}
	addrs, err := k.AddrsElsewhere(has)
	if err != nil || len(addrs) != 1 || addrs[0] != netip.MustParsePrefix("10.1.0.7/24") {
		t.Errorf("with addresses %v, %v", addrs, err)
	}
	ended := has
	ended.NS += 1000
	if addrs, err := k.AddrsElsewhere(ended); err != nil || addrs != nil {
		t.Errorf("in a namespace that has ended since: %v, %v", addrs, err)
	}
	l, err := inside.LinkByName(m.Name)
	if err == nil {
		err = inside.LinkSetName(l, "eth0")
	}
	if err != nil {
		t.Fatal(err)
	}
	if has := elsewhere(1)[0]; has.Name != "eth0" {
		t.Errorf("after the engine renamed it: %+v", has)
	}
	// On its way back it gives this namespace an id in itself, too.
	if err := inside.LinkSetNsFd(l, int(k.ns)); err != nil {
		t.Fatal(err)
	}
	if id, err := k.ownID(); err != nil {
		t.Errorf("own id %d, %v", id, err)
	}
	elsewhere(0)
	heard(false)
	if err := k.DeleteOwned("eth0", m.Alias); err != nil {
		t.Fatal(err)
	}
}

func TestALostSocketIsOpenedAgain(t *testing.T) {
	k := inNamespace(t)
	want := map[string]Pass{self.NetworkAlias("n"): {Bridge: "dlb-n"}}
	for range 2 {
		if err := k.SyncPass(want, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Elsewhere(); err != nil {
			t.Fatal(err)
		}
		k.closeNetfilter()
		_ = k.query.Close()
		k.query = nil
	}
}

// A list of the kernel's may end before its end.
func TestManySandboxesAreFound(t *testing.T) {
	k := inNamespace(t)
	const many = listEnds + 30 // of 28 bytes each: more than a page
	for range many {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			ns, err := netns.New()
			if err == nil {
				t.Cleanup(func() { _ = ns.Close() })
				err = k.name(ns)
			}
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	ids, err := k.namespaces()
	if err != nil || len(ids) != many {
		t.Errorf("%d of %d namespaces are found: %v", len(ids), many, err)
	}
}

// name gives a namespace an id in ours, as moving a link there does.
func (k *Kernel) name(ns netns.NsHandle) error {
	ae := mdnetlink.NewAttributeEncoder()
	ae.Int32(nsidAttr, -1) // any
	ae.Uint32(nsFDAttr, uint32(ns))
	attrs, err := ae.Encode()
	if err != nil {
		return err
	}
	_, err = k.request("name a namespace", unix.RTM_NEWNSID, mdnetlink.Acknowledge, append(make([]byte, sizeofRtgen), attrs...))
	return err
}
