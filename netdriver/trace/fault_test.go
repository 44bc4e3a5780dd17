package trace

import (
	"strings"
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

// Faults that are injected, and the verdict that names them.
func TestFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		mode   string // "": bridge
		inject func(l *lan)
		to     string // or several, one after the other
		fault  Fault
		words  []string
	}{
		"healthy":          {to: "b 10.7.0.9 fd00:7::3 fd00:7::9", words: []string{"5 of 5", "1500 bytes"}},
		"healthy, macvlan": {mode: "macvlan", to: "b", words: []string{"5 of 5"}},
		"link down": {
			inject: func(l *lan) { l.ip(l.host.NS, "link", "set", kernel.HostName("b"), "down") },
			to:     "b", fault: LinkDown, words: []string{kernel.HostName("b"), "on the host, of B", "is down"},
		},
		"link in the sandbox down": {
			inject: func(l *lan) { l.ip(l.box("b"), "link", "set", "eth0", "down") },
			to:     "b", fault: LinkDown, words: []string{"eth0 in the sandbox of B is down"},
		},
		"wrong bridge": {
			inject: func(l *lan) {
				l.ip(l.host.NS, "link", "add", "other", "type", "bridge")
				l.ip(l.host.NS, "link", "set", "other", "up")
				l.ip(l.host.NS, "link", "set", kernel.HostName("b"), "master", "other")
			},
			to: "b", fault: WrongBridge, words: []string{"of B is a port of the bridge other instead of br-n", "ip link set " + kernel.HostName("b") + " master br-n"},
		},
		"missing route": {
			inject: func(l *lan) { l.ip(l.box("a"), "route", "del", "default") },
			to:     "10.8.0.9", fault: NoRoute, words: []string{"A does not know where to send to", "gateway"},
		},
		"missing route back": {
			inject: func(l *lan) {
				l.ip(l.box("b"), "route", "del", "10.7.0.0/24")
				l.ip(l.box("b"), "route", "del", "default")
			},
			to: "b", fault: NoRoute, words: []string{"B gets what A sends and does not know where to answer to"},
		},
		"ARP off": {
			inject: func(l *lan) { l.ip(l.box("b"), "link", "set", "eth0", "arp", "off") },
			to:     "b", fault: ARPSuppressed, words: []string{"B is up and does not answer ARP", "noarp"},
		},
		"ARP ignored": {
			inject: func(l *lan) { l.sysctl(l.box("b"), "ipv4/conf/eth0/arp_ignore", "8") },
			to:     "b", fault: ARPSuppressed, words: []string{"arp_ignore of eth0 is 8"},
		},
		"MTU black hole": {
			inject: func(l *lan) { l.ip(l.lab.Namespace("lan"), "link", "set", "far-eth0", "mtu", "1200") },
			to:     "10.7.0.9", fault: BlackHole, words: []string{"small packets only: up to 1200 bytes", "beyond this host"},
		},
		"firewall of B": {
			inject: func(l *lan) {
				l.drop(l.box("b"), "inet", "input", `icmp type echo-request counter drop comment "no-ping"`)
			},
			to: "b", fault: Firewalled, words: []string{"B answers ARP but drops packets: the firewall in the sandbox of B, rule", "table inet t", "no-ping", "ended 5 while 5"},
		},
		"firewall that does not count": {
			inject: func(l *lan) { l.drop(l.box("b"), "ip", "input", "icmp type echo-request drop") },
			to:     "b", fault: Firewalled, words: []string{"B answers ARP but drops ICMP", "sandbox of B", "chain c in table ip t"},
		},
		"firewall of A": {
			inject: func(l *lan) { l.drop(l.box("a"), "ip", "output", "icmp type echo-request drop") },
			to:     "b", fault: Firewalled, words: []string{"A's own firewall lets nothing out"},
		},
		"firewall that rejects": {
			inject: func(l *lan) { l.drop(l.far.NS, "ip", "input", "reject with icmp type admin-prohibited") },
			to:     "10.7.0.9", fault: Firewalled, words: []string{"10.7.0.9 answers that it may not"},
		},
		"firewall of the bridge": {
			inject: func(l *lan) { l.drop(l.host.NS, "bridge", "forward", "ether type ip counter drop") },
			to:     "b", fault: Firewalled, words: []string{"firewall of the host", "table bridge t", "ended 5 while 5"},
		},
		"firewall of a far host": {
			inject: func(l *lan) { l.drop(l.far.NS, "ip", "input", "icmp type echo-request drop") },
			to:     "10.7.0.9", fault: Firewalled, words: []string{"B answers ARP but drops ICMP"},
		},
		"duplicate address": {
			inject: func(l *lan) {
				_, err := l.wire.Foreign(l.ctx, "twin", "10.7.0.3/24")
				l.must(err)
			},
			to: "b", fault: Duplicate, words: []string{"Two machines have the address 10.7.0.3 of B", "02:42:0a:07:00:03"},
		},
		"A's address is another's": {
			inject: func(l *lan) {
				_, err := l.wire.Foreign(l.ctx, "twin", "10.7.0.2/24")
				l.must(err)
			},
			to: "b", fault: Duplicate, words: []string{"has A's own address 10.7.0.2"},
		},
		"rp_filter": {
			inject: func(l *lan) {
				l.ip(l.box("b"), "link", "add", "other", "type", "bridge")
				l.ip(l.box("b"), "address", "add", "10.9.0.2/24", "dev", "other")
				l.ip(l.box("b"), "link", "set", "other", "up")
				l.ip(l.box("b"), "route", "add", "10.7.0.2/32", "dev", "other")
				l.sysctl(l.box("b"), "ipv4/conf/eth0/rp_filter", "1")
			},
			to: "b", fault: ReversePath, words: []string{"rp_filter", "comes in by eth0", "leads by other"},
		},
		"parent down": {
			inject: func(l *lan) { l.ip(l.host.NS, "link", "set", "eth0", "down") },
			to:     "10.7.0.9", fault: ParentDown, words: []string{"The uplink eth0", "is down"},
		},
		"parent without a cable": {
			inject: func(l *lan) { l.must(l.host.Cut(l.ctx, "eth0")) },
			to:     "10.7.0.9", fault: ParentDown, words: []string{"no carrier"},
		},
		"parent of a macvlan network down": {
			mode:   "macvlan",
			inject: func(l *lan) { l.ip(l.host.NS, "link", "set", "eth0", "down") },
			to:     "b", fault: ParentDown, words: []string{"The parent eth0 of both is down"},
		},
		"far host dead": {
			inject: func(l *lan) { l.must(l.far.Cut(l.ctx, "eth0")) }, // a namespace that is closed answers on until the kernel gets to it
			to:     "10.7.0.9", fault: FarDead, words: []string{"does not answer ARP", "The wire works: the gateway 10.7.0.1 answers"},
		},
		"gateway dead": {
			inject: func(l *lan) { l.must(l.gw.Cut(l.ctx, "eth0")) },
			to:     "10.8.0.9", fault: GatewayDead, words: []string{"A's gateway 10.7.0.1 does not answer ARP"},
		},
		"router without a route": {
			inject: func(l *lan) { l.sysctl(l.gw.NS, "ipv4/ip_forward", "1") },
			to:     "10.8.0.9", fault: NoRoute, words: []string{"The router 10.7.0.1 has no route to B"},
		},
		"host of its macvlan containers": {
			mode: "macvlan", inject: func(l *lan) { l.ip(l.host.NS, "address", "add", "10.7.0.5/24", "dev", "eth0") },
			to: "10.7.0.5", fault: HostMacvlan, words: []string{"host_access=true"},
		},
		"container that has ended": {
			inject: func(l *lan) { l.ip(l.box("b"), "link", "delete", "eth0") },
			to:     "b", fault: NotRunning, words: []string{"B is meant to be in a sandbox"},
		},
		"address gone": {
			inject: func(l *lan) { l.ip(l.box("b"), "address", "flush", "dev", "eth0") },
			to:     "b", fault: NoAddress, words: []string{"B is without its address 10.7.0.3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for answers that do not come, most of the time
			mode := tc.mode
			if mode == "" {
				mode = "bridge"
			}
			l := newLAN(t, mode)
			if tc.inject != nil {
				tc.inject(l)
			}
			for to := range strings.FieldsSeq(tc.to) {
				v := l.trace(to).Verdict
				if v.Fault != tc.fault || v.OK != (tc.fault == None) {
					t.Errorf("to %s the fault is %q, want %q: %s %s", to, v.Fault, tc.fault, v.Words, v.Do)
				}
				for _, w := range tc.words {
					if !strings.Contains(v.Words+" "+v.Do, w) {
						t.Errorf("%q is not in: %s %s", w, v.Words, v.Do)
					}
				}
			}
		})
	}
}
