package trace

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dockline/dockline/netdriver/kernel"
	"github.com/dockline/dockline/test/harness/netns"
)

// Faults of odd kinds, and several at once: the nearest to A is named, and the
// others beside it.
func TestFurtherFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		mode   string // "": bridge
		inject func(l *lan)
		to     string
		fault  Fault
		words  []string
		also   []Fault
	}{
		"firewall of B, legacy": {
			inject: func(l *lan) {
				l.run(l.box("b"), "iptables-legacy", "-N", "mine")
				l.run(l.box("b"), "iptables-legacy", "-A", "mine", "-p", "icmp", "-j", "DROP")
				l.run(l.box("b"), "iptables-legacy", "-A", "INPUT", "-j", "mine")
			},
			to: "b", fault: Firewalled, words: []string{"B answers ARP but drops packets", "rule 1 of chain mine in table filter of iptables-legacy", "ended 5 while 5", "iptables-legacy -t filter -L mine"},
		},
		"policy of B, legacy, IPv6": {
			inject: func(l *lan) {
				l.run(l.box("b"), "ip6tables-legacy", "-P", "INPUT", "DROP")
				l.run(l.box("b"), "ip6tables-legacy", "-A", "INPUT", "-p", "icmpv6", "--icmpv6-type", "neighbour-solicitation", "-j", "ACCEPT")
			},
			to: "fd00:7::3", fault: Firewalled, words: []string{"B answers neighbour discovery but drops", "the policy of chain INPUT in table filter of ip6tables-legacy"},
		},
		"a map of verdicts": {
			inject: func(l *lan) {
				l.drop(l.box("b"), "ip", "input", "ip saddr vmap { 10.7.0.2 : drop, 10.7.0.4 : accept }")
			},
			to: "b", fault: Firewalled, words: []string{"sandbox of B", "chain c in table ip t"},
		},
		"a wrong neighbour written down": {
			inject: func(l *lan) {
				l.ip(l.box("a"), "neighbour", "replace", "10.7.0.3", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
			},
			to: "b", fault: StaleMAC, words: []string{"A sends what is for 10.7.0.3 (B) to the MAC 02:00:00:00:00:99 (PERMANENT)"},
		},
		"a limit on B's link": {
			inject: func(l *lan) { // no packet passes that is longer than the burst, such as an echo
				l.run(l.box("b"), "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "90", "limit", "3000")
			},
			to: "b", fault: Lossy, words: []string{"B answers ARP", "the link eth0 in the sandbox of B dropped"},
		},
		"A has B's address": {
			inject: func(l *lan) { l.ip(l.box("a"), "address", "add", "10.7.0.3/32", "dev", "lo") },
			to:     "b", fault: Duplicate, words: []string{"A has the address 10.7.0.3 of B itself"},
		},
		"two links on one wire": { // which both answer for both
			inject: func(l *lan) {
				l.sibling("b")
				l.sibling("a")
			},
			to: "b", words: []string{"5 of 5"},
		},
		"others' drops on the host": {
			mode: "macvlan",
			inject: func(l *lan) {
				l.drop(l.host.NS, "ip", "input", "counter drop")
				l.background("ping", "-c", "100", "-i", "0.01", "-W", "1", "10.6.0.2")
				l.drop(l.far.NS, "ip", "input", "icmp type echo-request drop")
			},
			to: "10.7.0.9", fault: Firewalled, words: []string{"B answers ARP but drops ICMP"},
		},
		"the host, whose firewall drops": {
			mode: "bridge",
			inject: func(l *lan) {
				l.ip(l.host.NS, "address", "add", "10.7.0.5/24", "dev", "br-n")
				l.drop(l.host.NS, "inet", "input", "counter drop")
				l.ip(l.host.NS, "link", "set", "eth0", "down") // which is not on the way
			},
			to: "10.7.0.5", fault: Firewalled, words: []string{"B answers ARP but drops packets: the firewall of the host"},
		},
		"A's firewall, and B's link": {
			inject: func(l *lan) {
				l.ip(l.box("b"), "link", "set", "eth0", "down")
				l.drop(l.box("a"), "ip", "output", "icmp type echo-request counter drop")
			},
			to: "b", fault: Firewalled, words: []string{"A itself drops"}, also: []Fault{LinkDown},
		},
		"A's port, and B's firewall": {
			inject: func(l *lan) {
				l.ip(l.host.NS, "link", "set", kernel.HostName("a"), "down")
				l.drop(l.box("b"), "ip", "input", "counter drop")
				l.ip(l.host.NS, "link", "set", kernel.HostName("b"), "nomaster")
			},
			to: "b", fault: LinkDown, words: []string{kernel.HostName("a") + " on the host, of A is down"}, also: []Fault{WrongBridge},
		},
		"A's route, and the uplink": {
			inject: func(l *lan) {
				l.ip(l.box("a"), "route", "replace", "default", "dev", "lo")
				l.ip(l.host.NS, "link", "set", "eth0", "down")
			},
			to: "10.8.0.9", fault: NoRoute, words: []string{"A sends to B by lo"}, also: []Fault{ParentDown},
		},
		"the parent, and a far host": {
			mode:   "macvlan",
			inject: func(l *lan) { l.must(l.far.Close()); l.ip(l.host.NS, "link", "set", "eth0", "down") },
			to:     "10.7.0.9", fault: ParentDown, words: []string{"The parent eth0 of A's network is down"},
		},
		"B's firewall, and its way back": {
			inject: func(l *lan) {
				l.run(l.box("b"), "iptables-legacy", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
				l.ip(l.box("b"), "route", "add", "blackhole", "10.7.0.2/32")
			},
			to: "b", fault: Firewalled, words: []string{"iptables-legacy"}, also: []Fault{NoRoute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, map[string]string{"": "bridge"}[tc.mode]+tc.mode)
			tc.inject(l)
			v := l.trace(tc.to).Verdict
			if v.Fault != tc.fault || v.OK != (tc.fault == None) {
				t.Errorf("the fault is %q, want %q: %s %s", v.Fault, tc.fault, v.Words, v.Do)
			}
			for _, w := range tc.words {
				if !strings.Contains(v.Words+" "+v.Do, w) {
					t.Errorf("%q is not in: %s %s", w, v.Words, v.Do)
				}
			}
			var also []Fault
			for _, c := range v.Also {
				also = append(also, c.Fault)
			}
			if len(also) != len(tc.also) || len(also) > 0 && also[0] != tc.also[0] {
				t.Errorf("beside it there are %+v, want %q", v.Also, tc.also)
			}
		})
	}
}

// Ends that are none, or one, are refused in words; none of them is waited for.
func TestEndsThatAreRefused(t *testing.T) {
	l := newLAN(t, "bridge")
	l.ip(l.box("a"), "address", "add", "10.9.0.2/24", "dev", "eth0")
	for to, want := range map[string]string{
		"a": "is A itself", "10.7.0.2": "is A itself", "10.9.0.2": "is an address of A itself", "224.0.0.1": "no address of one machine",
		"0.0.0.0": "no address of one machine", "127.0.0.1": "another machine's wherever", "fe80::1": "another machine's wherever",
	} {
		known := l.known(to)
		if _, err := Run(l.ctx, Config{Known: known, HostNS: netns.Path(l.host.NS)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v, want %q", to, err, want)
		}
	}
}

// A container that ends while it is traced is said to have.
func TestContainerEndsMeanwhile(t *testing.T) {
	for _, end := range []string{"a", "b"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, "bridge")
			var once sync.Once
			r, err := Run(l.ctx, Config{Known: l.known("b"), HostNS: netns.Path(l.host.NS), Progress: func(what string) {
				if strings.HasPrefix(what, "asking on") {
					once.Do(func() { l.ip(l.box(end), "link", "delete", "eth0") })
				}
			}})
			l.must(err)
			if v := r.Verdict; v.Fault != NotRunning || !strings.Contains(v.Words, strings.ToUpper(end)+" left its network while it was traced") {
				t.Errorf("the fault is %q: %s", v.Fault, v.Words)
			}
		})
	}
}

// Traces from one container at the same time do not take each other's answers for
// those of a twin.
func TestTracesAtOnce(t *testing.T) {
	l := newLAN(t, "bridge")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			r, err := Run(l.ctx, Config{Known: l.known("b"), HostNS: netns.Path(l.host.NS)})
			if err != nil || !r.Verdict.OK {
				t.Errorf("%v: %+v", err, r)
			}
		})
	}
	all.Wait()
}

// Who holds a namespace's lock for ever, as a container may, keeps nobody from tracing.
func TestALockThatIsHeld(t *testing.T) {
	l := newLAN(t, "bridge")
	open := func() *kernel.Kernel {
		k, err := kernel.OpenAt(netns.Path(l.box("a")), "")
		l.must(err)
		t.Cleanup(k.Close)
		return k
	}
	held, s := open(), &space{k: open()}
	if ours, err := held.TryLock(); err != nil || !ours {
		t.Fatal(ours, err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := s.turn(t.Context()); err != nil || time.Since(began) < turnWithin {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("too long"))
		defer cancel()
		if err := s.turn(ctx); err == nil || err.Error() != "too long" {
			t.Errorf("who gives up: %v", err)
		}
	})
	held.Unlock()
	l.must(s.turn(l.ctx))
	if ours, err := held.TryLock(); err != nil || ours {
		t.Errorf("the lock is had twice: %v", err)
	}
}

// A twin with the same MAC is found all the same.
func TestTwinWithOneMAC(t *testing.T) {
	l := newLAN(t, "bridge")
	twin, err := l.wire.Foreign(l.ctx, "twin", "10.7.0.9/24")
	l.must(err)
	far, err := l.far.Interface("eth0")
	l.must(err)
	l.ip(twin.NS, "link", "set", "eth0", "address", far.HardwareAddr.String())
	// One port has the MAC at a time; both hear broadcasts.
	if v := l.trace("10.7.0.9").Verdict; v.Fault != Duplicate || !strings.Contains(v.Words, "answered twice, from one MAC") {
		t.Errorf("the fault is %q: %s", v.Fault, v.Words)
	}
}

// Nothing of the kernel's is changed by a trace, and no table of a firewall made.
func TestATraceLeavesNothing(t *testing.T) {
	l := newLAN(t, "bridge")
	state := func() string {
		var all strings.Builder
		for _, ns := range []string{l.host.NS, l.box("a"), l.box("b")} {
			for _, cmd := range []string{"ip -4 -br address", "ip -4 route show table all", "ip rule", "nft list ruleset", "cat /proc/net/ip_tables_names /proc/net/packet /proc/net/raw"} {
				out, err := netns.Command(l.ctx, ns, "sh", "-c", cmd).CombinedOutput()
				l.must(err)
				all.WriteString(cmd + ":\n" + string(out))
			}
		}
		return all.String()
	}
	before := state()
	l.trace("b")
	l.trace("10.7.0.9")
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// sibling gives a container a second link on the wire, with an address of its own.
func (l *lan) sibling(name string) {
	l.t.Helper()
	link := "s-" + name
	l.must(l.k.CreateVeth(kernel.Veth{Host: "h-" + name, Container: link, Alias: l.k.EndpointAlias("m", "s"+name), Bridge: "br-n", MAC: []byte{2, 0, 0, 0, 1, name[0]}}))
	l.ip(l.host.NS, "link", "set", link, "netns", l.box(name), "name", "eth1")
	l.ip(l.box(name), "address", "add", "10.9.0."+map[string]string{"a": "2", "b": "3"}[name]+"/24", "dev", "eth1")
	l.ip(l.box(name), "link", "set", "eth1", "up")
}

// background runs a command of the host's while the test is.
func (l *lan) background(name string, args ...string) {
	l.t.Helper()
	cmd := netns.Command(l.ctx, l.host.NS, name, args...)
	cmd.Stdout, cmd.Stderr = nil, os.Stderr
	l.must(cmd.Start())
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
