package engine_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// advertisement is a frame to all nodes that offers a default route and a
// prefix to take addresses of (RFC 4861, 4.2 and 4.6.2).
func advertisement(from net.HardwareAddr, prefix netip.Addr) []byte {
	src := netip.MustParseAddr("fe80::" + from.String()[:2] + "99").As16()
	dst := netip.MustParseAddr("ff02::1").As16()
	p := prefix.As16()
	body := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // for half an hour
	body = append(body, 3, 4, 64, 0xc0, 0, 0, 0x07, 0x08, 0, 0, 0x07, 0x08, 0, 0, 0, 0)
	body = append(body, p[:]...)
	binary.BigEndian.PutUint16(body[2:], checksum(src[:], dst[:], body))
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, from...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), 58, 255)
	return append(append(append(frame, src[:]...), dst[:]...), body...)
}

// checksum is that of ICMPv6 (RFC 4443, 2.3).
func checksum(src, dst, body []byte) uint16 {
	all := append(append(append([]byte{}, src...), dst...), 0, 0, 0, byte(len(body)), 0, 0, 0, 58)
	all = append(all, body...)
	sum := uint32(0)
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// filter is the engine's: what is forwarded is dropped unless DOCKER-USER
// accepts it.
func (h *host) filter(change func(c *nftables.Conn, table *nftables.Table, user *nftables.Chain)) {
	h.t.Helper()
	within(h.t, h.ns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}
		change(c, table, &nftables.Chain{Table: table, Name: "DOCKER-USER"})
		return c.Flush()
	})
}

func (h *host) dropForwarded() {
	h.t.Helper()
	h.filter(func(c *nftables.Conn, table *nftables.Table, user *nftables.Chain) {
		drop := nftables.ChainPolicyDrop
		c.AddTable(table)
		c.AddChain(user)
		forward := c.AddChain(&nftables.Chain{
			Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter, Policy: &drop,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: user.Name}}})
		c.AddRule(&nftables.Rule{Table: table, Chain: user, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictReturn}}})
	})
}

// flushTable takes out what anybody put into the engine's chain.
func (h *host) flushTable() {
	h.t.Helper()
	h.filter(func(c *nftables.Conn, _ *nftables.Table, user *nftables.Chain) { c.FlushChain(user) })
}

// command runs a command in the host's namespace.
func (h *host) command(name string, args ...string) {
	h.t.Helper()
	within(h.t, h.ns, func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	})
}
