package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dockline/dockline/test/harness/wire"
)

// sandbox is where the links of a host's containers are. They share one, which
// does as well as one each: what matters is that it is not the host's own.
type sandbox struct {
	*wire.Station
	host, inside     *netlink.Handle
	hostNS, insideNS netns.NsHandle
}

func newSandbox(ctx context.Context, w *world, host *wire.Station) (*sandbox, error) {
	b := &sandbox{hostNS: netns.None(), insideNS: netns.None()}
	var err error
	if b.Station, err = wire.NewStation(ctx, w.lab, host.Name+"box"); err != nil {
		return nil, err
	}
	var err1, err2, err3, err4 error
	b.hostNS, err1 = netns.GetFromName(host.NS)
	b.insideNS, err2 = netns.GetFromName(b.NS)
	b.host, err3 = netlink.NewHandleAt(b.hostNS)
	b.inside, err4 = netlink.NewHandleAt(b.insideNS)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("make a sandbox: %w", err)
	}
	return b, nil
}

// enter puts a link into the sandbox, as the engine does after Join.
func (b *sandbox) enter(link string) error {
	l, err := b.host.LinkByName(link)
	if err == nil {
		err = b.host.LinkSetNsFd(l, int(b.insideNS))
	}
	if err == nil {
		l, err = b.inside.LinkByName(link)
	}
	if err == nil {
		err = b.inside.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("move %s into the sandbox: %w", link, err)
	}
	return nil
}

// leave puts it back, as the engine does after Leave.
func (b *sandbox) leave(link string) error {
	l, err := b.inside.LinkByName(link)
	if err == nil {
		err = b.inside.LinkSetNsFd(l, int(b.hostNS))
	}
	if err != nil {
		return fmt.Errorf("move %s out of the sandbox: %w", link, err)
	}
	return nil
}

func (b *sandbox) close() error {
	b.host.Close()
	b.inside.Close()
	return errors.Join(b.hostNS.Close(), b.insideNS.Close(), b.Close())
}
