package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/failpoint"
)

// handle is the library's, with a failpoint behind each change, so that tests
// can end the process between any two. Removing a link waits until no CPU uses
// it any more, which takes the kernel many milliseconds; a socket of its own
// keeps others from waiting for that too.
type handle struct {
	*netlink.Handle
	removals *netlink.Handle
}

func newHandle() (*handle, error) {
	var opened [2]*netlink.Handle
	for i := range opened {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err == nil {
			opened[i] = h
			err = h.SetSocketTimeout(socketTimeout)
		}
		if err != nil {
			for _, h := range opened {
				if h != nil {
					h.Close()
				}
			}
			return nil, fmt.Errorf("open a netlink socket: %w", err)
		}
	}
	return &handle{Handle: opened[0], removals: opened[1]}, nil
}

func (h *handle) Close() {
	h.Handle.Close()
	h.removals.Close()
}

func step(what string, l netlink.Link, err error) error {
	failpoint.Hit("kernel", what, kindOf(l.Attrs().Name, l.Type()))
	return err
}

// kindOf is what the name of a link of ours says that it is, else its type.
func kindOf(name, kind string) string {
	if strings.HasPrefix(name, "dl") && len(name) > len(hostPrefix) {
		return name[:len(hostPrefix)-1]
	}
	return kind
}

func (h *handle) LinkAdd(l netlink.Link) error { return step("add", l, h.Handle.LinkAdd(l)) }

func (h *handle) LinkDel(l netlink.Link) error { return step("remove", l, h.removals.LinkDel(l)) }

func (h *handle) LinkSetAlias(l netlink.Link, alias string) error {
	return step("alias", l, h.Handle.LinkSetAlias(l, alias))
}

func (h *handle) LinkSetName(l netlink.Link, name string) error {
	return step("name", l, h.Handle.LinkSetName(l, name))
}

func (h *handle) LinkSetMaster(l, master netlink.Link) error {
	return step("master", l, h.Handle.LinkSetMaster(l, master))
}

func (h *handle) LinkSetNoMaster(l netlink.Link) error {
	return step("no master", l, h.Handle.LinkSetNoMaster(l))
}

func (h *handle) LinkSetMTU(l netlink.Link, mtu int) error {
	return step("MTU", l, h.Handle.LinkSetMTU(l, mtu))
}

func (h *handle) LinkSetUp(l netlink.Link) error { return step("up", l, h.Handle.LinkSetUp(l)) }

func (h *handle) LinkSetDown(l netlink.Link) error { return step("down", l, h.Handle.LinkSetDown(l)) }

func (h *handle) LinkSetIP6AddrGenMode(l netlink.Link, mode int) error {
	return step("address mode", l, h.Handle.LinkSetIP6AddrGenMode(l, mode))
}

func (h *handle) AddrReplace(l netlink.Link, a *netlink.Addr) error {
	return step("address", l, h.Handle.AddrReplace(l, a))
}

// dial opens a netlink socket in the handle's namespace. Entering one takes a
// capability that the plugin does not have, and it never needs to: there the
// namespace is the process's own.
func (k *Kernel) dial(family int, groups uint32) (*mdnetlink.Conn, error) {
	fd, err := k.enter()
	if err != nil {
		return nil, err
	}
	c, err := mdnetlink.Dial(family, &mdnetlink.Config{Groups: groups, NetNS: fd})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return c, nil
}

// enter returns what says to a library in which namespace to open a socket: 0
// where the thread is in the right one, as is every thread of the plugin.
func (k *Kernel) enter() (fd int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := netns.Get()
	if err != nil {
		return 0, fmt.Errorf("look at the namespace: %w", err)
	}
	defer func() { err = errors.Join(err, now.Close()) }()
	if now.Equal(k.ns) {
		return 0, nil
	}
	return int(k.ns), nil
}
