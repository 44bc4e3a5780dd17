package kernel

import (
	"context"
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	routeGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
		unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE | 1<<(unix.RTNLGRP_NSID-1)
	rulesGroups = 1 << (nftablesGroup - 1)

	nftablesGroup = 7 // NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h)
)

// Watch calls changed whenever links, addresses, routes, rules or the
// namespaces of sandboxes may have changed, and once it listens; it is for the
// caller to look what did. It returns nil when ctx ends, else why it cannot
// listen any more. changed must not block.
func (k *Kernel) Watch(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, source := range []struct {
		family int
		groups uint32
		counts func(mdnetlink.Message) bool
	}{
		{unix.NETLINK_ROUTE, routeGroups, counts},
		{unix.NETLINK_NETFILTER, rulesGroups, func(mdnetlink.Message) bool { return true }},
	} {
		c, err := k.dial(source.family, source.groups)
		if err != nil {
			cancel()
			return errors.Join(err, g.Wait())
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		g.Go(func() error {
			defer stop()
			defer func() { _ = c.Close() }()
			return listen(ctx, c, source.counts, changed)
		})
	}
	changed()
	return g.Wait()
}

func listen(ctx context.Context, c *mdnetlink.Conn, counts func(mdnetlink.Message) bool, changed func()) error {
	for {
		msgs, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the socket was closed because it is over
		case errors.Is(err, unix.ENOBUFS): // some got lost, and any of them may have counted
			changed()
			continue
		case err != nil:
			return fmt.Errorf("listen for changes: %w", err)
		}
		for _, m := range msgs {
			if counts(m) {
				changed()
				break
			}
		}
	}
}

// counts leaves out what happens all the time on a host with a routing daemon:
// routes that it makes, and what it removes of its own. Ours are not its.
func counts(m mdnetlink.Message) bool {
	switch uint16(m.Header.Type) {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_DELNSID:
		return true
	case unix.RTM_DELROUTE:
		const protocol = 5 // of struct rtmsg (rtnetlink(7))
		return len(m.Data) > protocol && (m.Data[protocol] <= unix.RTPROT_STATIC || m.Data[protocol] == routeProtocol)
	}
	return false
}
