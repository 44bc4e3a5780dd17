package dhcp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/dhcpd"
	"github.com/dockline/dockline/test/harness/wire"
)

// noise makes frames about a container's address none of which may be believed.
type noise struct {
	*rand.Rand
	of      *container
	gateway netip.Addr
	from    net.HardwareAddr
}

var toAll = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func ether(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	return append(binary.BigEndian.AppendUint16(f, kind), payload...)
}

// arp is a claim of the address with something wrong in it.
func (n *noise) arp() []byte {
	p := []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + n.IntN(2))}
	p = append(append(p, n.from...), n.of.addr.Addr().AsSlice()...)
	p = append(append(p, 0, 0, 0, 0, 0, 0), n.of.addr.Addr().AsSlice()...)
	switch n.IntN(5) {
	case 0:
		p[n.IntN(6)] ^= byte(1 + n.IntN(255)) // another kind of network
	case 1:
		p[7] = byte(3 + n.IntN(250)) // neither question nor answer
	case 2:
		p[8] |= 1 // a group
	case 3:
		copy(p[8:14], make([]byte, 6)) // nobody
	case 4:
		p = p[:n.IntN(len(p))] // the rest is filled up with zeros, or missing
	}
	return ether(toAll, n.from, unix.ETH_P_ARP, p)
}

// nd is an advertisement or a solicitation that is wrong somewhere.
func (n *noise) nd() []byte {
	ip := make([]byte, 40+24+n.IntN(64))
	for i := range ip {
		ip[i] = byte(n.Uint32())
	}
	ip[0], ip[6], ip[7], ip[40], ip[41] = 6<<4, unix.IPPROTO_ICMPV6, 255, byte(135+n.IntN(2)), 0
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40-n.IntN(9)+n.IntN(9))) // the checksum is what chance made it
	if n.IntN(3) == 0 {
		ip[7] = 64
	}
	return ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, n.from, unix.ETH_P_IPV6, ip[:len(ip)-n.IntN(24)])
}

// udp4 wraps a payload, with right headers.
func (n *noise) udp4(to net.HardwareAddr, ports [2]uint16, payload []byte) []byte {
	p := make([]byte, 28, 28+len(payload))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(payload)))
	copy(p[12:], n.gateway.AsSlice())
	copy(p[16:], []byte{255, 255, 255, 255})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(p[20:], ports[0])
	binary.BigEndian.PutUint16(p[22:], ports[1])
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	return ether(to, n.from, unix.ETH_P_IP, append(p, payload...))
}

// dhcp is an answer to a question that nobody asked, whole or damaged, or a question
// by the container's MAC that makes no sense.
func (n *noise) dhcp() []byte {
	m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: n.of.mac, YourIPAddr: net.IPv4(192, 0, 2, byte(n.Uint32())), Options: dhcpv4.Options{}}
	binary.BigEndian.PutUint32(m.TransactionID[:], n.Uint32())
	m.UpdateOption(dhcpv4.OptMessageType([]dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak, dhcpv4.MessageType(n.Uint32())}[n.IntN(4)]))
	m.UpdateOption(dhcpv4.OptServerIdentifier(n.gateway.AsSlice()))
	m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Duration(n.IntN(9)) * time.Second))
	ports := [2]uint16{67, 68}
	if n.IntN(4) == 0 {
		m.OpCode, ports = dhcpv4.OpcodeBootRequest, [2]uint16{68, 67}
		m.UpdateOption(dhcpv4.OptClientIdentifier([]byte{1, 2, 3, byte(n.Uint32())}))
	}
	payload := m.ToBytes()
	switch n.IntN(4) {
	case 0:
		payload = payload[:n.IntN(len(payload))]
	case 1:
		for range 1 + n.IntN(20) {
			payload[n.IntN(len(payload))] = byte(n.Uint32())
		}
	case 2:
		payload = append(payload[:len(payload)-1], bytes.Repeat([]byte{82, 255}, n.IntN(500))...) // options that do not end
	}
	f := n.udp4([]net.HardwareAddr{toAll, n.of.mac}[n.IntN(2)], ports, payload)
	if n.IntN(4) == 0 {
		f[14+n.IntN(28)] ^= byte(1 + n.IntN(255)) // of the headers
	}
	return f
}

// icmp is an echo's answer that nobody asked for.
func (n *noise) icmp() []byte {
	f := n.udp4(toAll, [2]uint16{}, make([]byte, n.IntN(300)))
	f[14+9] = unix.IPPROTO_ICMP
	for i := 34; i < len(f); i++ {
		f[i] = byte(n.Uint32())
	}
	return f
}

// anything is bytes, of some protocol by its name.
func (n *noise) anything() []byte {
	p := make([]byte, n.IntN(1400))
	for i := range p {
		p[i] = byte(n.Uint32())
	}
	kinds := []uint16{unix.ETH_P_ARP, unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_8021Q, unix.ETH_P_LLDP, uint16(n.Uint32())}
	return ether([]net.HardwareAddr{toAll, n.of.mac}[n.IntN(2)], n.from, kinds[n.IntN(len(kinds))], p)
}

// send sends frames until ctx ends, and returns how many.
func (n *noise) send(ctx context.Context, by *wire.Station) (sent int, err error) {
	link, err := by.Interface("eth0")
	if err != nil {
		return 0, err
	}
	n.from = link.HardwareAddr
	return sent, by.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		makes := []func() []byte{n.arp, n.nd, n.dhcp, n.dhcp, n.icmp, n.anything}
		for ctx.Err() == nil {
			for range 50 {
				if err := unix.Sendto(fd, makes[n.IntN(len(makes))](), 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
					return err
				}
				sent++
			}
			time.Sleep(2 * time.Millisecond) // so that servers' answers find room in the sockets' queues
		}
		return nil
	})
}

// What makes no sense on the wire is not believed and holds nothing up, however much
// there is of it: containers start and keep their leases, and the plugin grows by
// nothing of it. What does make sense is seen all the same.
func TestNoise(t *testing.T) {
	t.Parallel()
	r := newRig(t, dhcpd.Dnsmasq, settings())
	r.env = []string{"PROBE_INTERVAL=1s"}
	r.restartPlugin()
	r.lanNetwork()
	c := &container{mac: mac(t, "0a:00:00:00:0c:01")}
	r.must(r.start(c))
	first, pid := r.table()[c.addr.Addr()], r.cmd.Process.Pid
	noisy, err := r.lan.Foreign(t.Context(), "noisy")
	r.must(err)
	before := r.resident()

	seed := rand.Uint64()
	n := &noise{Rand: rand.New(rand.NewPCG(seed, 0)), of: c, gateway: r.gateway}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	sent := 0
	go func() {
		var err error
		sent, err = n.send(ctx, noisy)
		done <- err
	}()
	var others []*container
	for i := range 4 {
		o := &container{mac: mac(t, fmt.Sprintf("0a:00:00:00:0c:1%d", i))}
		if err := r.start(o); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		others = append(others, o)
	}
	for _, o := range others {
		r.must(r.stop(o))
	}
	r.stateOf(c, func(l lease) bool { return l.State == "bound" && l.Ends.After(first.Ends.Add(4*time.Second)) })
	cancel()
	r.must(<-done)
	t.Logf("%d frames were sent", sent)
	if sent < 5000 {
		t.Errorf("that is no noise")
	}
	if l := r.table()[c.addr.Addr()]; l.Server != first.Server || l.MAC != first.MAC {
		t.Errorf("seed %d: the lease was %+v and is %+v", seed, first, l)
	}
	if after := r.resident(); after > before+64<<20 {
		t.Errorf("seed %d: the plugin took %d bytes, and takes %d", seed, before, after)
	}
	metrics := r.asks("/metrics")
	for _, want := range []string{`dockline_net_conflicts{network="` + r.network[:12] + `"} 0`, `dockline_net_dhcp_events_total{event="refused"} 0`, `dockline_net_dhcp_events_total{event="lost"} 0`, `dockline_net_wire_addresses_found_total 0`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("seed %d: the metrics lack %s:\n%s", seed, want, strings.Join(regexp.MustCompile(`(?m)^dockline_net_(conflicts|dhcp|wire|pool).*`).FindAllString(metrics, -1), "\n"))
		}
	}
	if text, err := os.ReadFile(filepath.Join(r.lab.Dir, "plugin.log")); err != nil || bytes.Contains(text, []byte("panic")) || r.cmd.Process.Pid != pid {
		t.Errorf("seed %d: the plugin was hurt: %v", seed, err)
	}

	r.run(noisy, "ip", "address", "add", c.addr.Addr().String()+"/32", "dev", "eth0") // which answers for it
	r.await(20*time.Second, func() error {
		if metrics := r.asks("/metrics"); !strings.Contains(metrics, `dockline_net_conflicts{network="`+r.network[:12]+`"} 1`+"\n") {
			return fmt.Errorf("nobody sees that another machine has the address")
		}
		return nil
	})
}

// resident is how much memory the plugin has, in bytes.
func (r *rig) resident() int64 {
	r.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	r.must(err)
	kib, err := strconv.ParseInt(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(text)[1]), 10, 64)
	r.must(err)
	return kib << 10
}
