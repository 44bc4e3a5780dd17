// Package loopback says which addresses do not leave this host: what goes there
// needs no encryption, and whoever comes from there is here already.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Is reports whether a host, or a host:port, is this one by its address or by the
// name localhost.
func Is(addr string) bool {
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
