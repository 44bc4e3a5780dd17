package neighbour

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A port whose link takes no more frames for now has lost some, and is none to
// be given up.
func TestAFullQueueIsNoFault(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace: run it as root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			err = errors.Join(overflow(t), ns.Close())
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func overflow(t *testing.T) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nic0"
	v := netlink.NewVeth(attrs)
	v.PeerName = "nic0-peer"
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	for _, name := range []string{v.Name, v.PeerName} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	nic, err := net.InterfaceByName("nic0")
	if err != nil {
		return err
	}
	// A kilobyte a second, and room for one frame.
	if out, err := exec.Command("tc", "qdisc", "add", "dev", nic.Name, "root", "tbf", "rate", "8kbit", "burst", "100", "limit", "100").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	p, err := Open(nic)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	for range 20 {
		err = errors.Join(err, p.Ask(four, nil), p.Announce(four, nic.HardwareAddr))
	}
	frame := announcement(four, nic.HardwareAddr)
	if _, full := p.in.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); !errors.Is(full, unix.ENOBUFS) {
		t.Errorf("the queue was not full: %v", full)
	}
	return err
}
