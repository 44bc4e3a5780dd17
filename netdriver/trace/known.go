package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/netdriver/kernel"
)

// Path is that of the plugin's call for Known: GET Path?from=END&to=END.
const Path = "/trace"

// Ask traces from one end to the other on the host whose plugin is behind the
// admin socket. An end is an address, the id of an endpoint or its beginning;
// To may also be the name of a host. The caller has to be root on that host.
// Progress is told what is being done; it may be nil.
func Ask(ctx context.Context, socket, from, to string, progress func(string)) (*Report, error) {
	ns, err := netOf(ctx, socket)
	if err != nil {
		return nil, err
	}
	for asked := from; ; {
		known, err := ask(ctx, socket, asked, to)
		if err != nil {
			return nil, err
		}
		known.From.Asked = from
		report, err := Run(ctx, Config{Known: known, HostNS: ns, Progress: progress})
		other := new(elsewhereError)
		if !errors.As(err, &other) || asked != from { // or its routes change all the time
			return report, err
		}
		asked = kernel.EndpointOf(other.alias)
	}
}

func ask(ctx context.Context, socket, from, to string) (Known, error) {
	query := url.Values{"from": {from}, "to": {to}}
	var body bytes.Buffer
	if err := admin.Get(ctx, socket, Path+"?"+query.Encode(), &body); err != nil {
		return Known{}, err
	}
	var known Known
	if err := json.Unmarshal(body.Bytes(), &known); err != nil {
		return Known{}, fmt.Errorf("read the plugin's answer: %w", err)
	}
	if !known.To.Addr.IsValid() {
		addr, err := lookup(ctx, to, known.From)
		if err != nil {
			return Known{}, err
		}
		known.To.Addr = addr
	}
	return known, nil
}

// lookup finds the address of a host, of a family that the other end has.
func lookup(ctx context.Context, name string, from Intended) (netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no container or endpoint that is known here, no address, and no host by name (docker dockline net trace knows containers by their names, dockline-net trace by address or endpoint's id): %w", name, err)
	}
	for _, a := range addrs {
		a = a.Unmap()
		if e := from.Endpoint; e == nil || a.Is4() && e.IPv4.IsValid() || a.Is6() && e.IPv6.IsValid() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%q has no address of a family that %s has: %v", name, from.Asked, addrs)
}

// netOf returns a file that stands for the network namespace of the process
// behind a socket: an engine that runs in a namespace of its own gives its
// plugins that one.
func netOf(ctx context.Context, socket string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", fmt.Errorf("reach the plugin: %w", err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return "", fmt.Errorf("find out who the plugin is: %w", err)
	}
	var cred *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, asked); err != nil {
		return "", fmt.Errorf("find out who the plugin is: %w", err)
	}
	path := filepath.Join("/proc", strconv.Itoa(int(cred.Pid)), "ns/net")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("look at the plugin's network (run this on the host itself, not in a container): %w", err)
	}
	return path, nil
}
