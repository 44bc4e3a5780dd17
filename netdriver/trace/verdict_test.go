package trace

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// seen is what a trace sees of two containers on one bridge that reach each other.
func seen() *Report {
	end := func(name, addr, mac string) Intended {
		p := netip.MustParsePrefix(addr)
		return Intended{
			Asked: name, Addr: p.Addr(), Endpoint: &Endpoint{ID: name, Joined: true, IPv4: p, MAC: mac, HostLink: "dlh-" + name},
			Network: &Network{ID: "n", Mode: "bridge", Bridge: "br", Parent: "nic"},
		}
	}
	node := func(addr, to string) *Node {
		return &Node{
			Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}, Way: &Way{To: netip.MustParseAddr(to), Link: "eth0"},
			Settings: map[string]string{}, Counted: map[string]int64{},
		}
	}
	up := func(node, side, role, name, master string) Hop {
		return Hop{Node: node, Side: side, Role: role, Name: name, Up: true, Carrier: true, MTU: 1500, Master: master, WantMaster: master}
	}
	r := &Report{
		From: end("a", "10.7.0.2/24", "02:00:00:00:00:02"), To: end("b", "10.7.0.3/24", "02:00:00:00:00:03"),
		Nodes: map[string]*Node{From: node("10.7.0.2/24", "10.7.0.3"), Host: node("10.6.0.2/24", "10.7.0.3"), To: node("10.7.0.3/24", "10.7.0.2")},
		Hops: []Hop{
			up(From, From, Container, "eth0", ""), up(Host, From, Port, "dlh-a", "br"), up(Host, From+To, Bridge, "br", ""),
			up(Host, To, Port, "dlh-b", "br"), up(To, To, Container, "eth0", ""),
		},
		ARP:  []Asked{{Addr: netip.MustParseAddr("10.7.0.3"), What: "B", Sent: 3, Answers: []Answer{{MAC: "02:00:00:00:00:03", Count: 3}}}},
		Ping: Ping{Sent: 5, Received: 5, Avg: time.Millisecond},
		MTU:  MTU{Link: 1500, Path: 1500},
	}
	return r
}

// silent takes the answers away.
func silent(r *Report) { r.Ping, r.MTU = Ping{Sent: 5}, MTU{} }

// viaGateway sends A by a gateway to a machine that is not this host's.
func viaGateway(r *Report) {
	silent(r)
	r.To = Intended{Asked: "10.8.0.9", Addr: netip.MustParseAddr("10.8.0.9")}
	delete(r.Nodes, To)
	r.Hops = r.Hops[:3]
	r.Nodes[From].Way.Via = netip.MustParseAddr("10.7.0.1")
	r.ARP = []Asked{{Addr: netip.MustParseAddr("10.7.0.1"), What: "gateway", Sent: 3, Answers: []Answer{{MAC: "02:00:00:00:00:01", Count: 3}}}}
}

func TestJudge(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Report)
		fault  Fault
		words  string
	}{
		"healthy": {func(*Report) {}, None, "5 of 5 echoes answered, in 1ms"},
		"an MTU that routers tell": {func(r *Report) { r.MTU = MTU{1500, 1400, 1400, netip.MustParseAddr("10.7.0.1"), 1401} }, None,
			"packets of up to 1400 bytes pass, and 10.7.0.1 says so"},
		"an MTU that nobody tells": {func(r *Report) { r.MTU = MTU{Link: 1500, Path: 1400, Size: 1401} }, BlackHole, "-o mtu=1400"},
		"a link of ours with less": {func(r *Report) { r.MTU, r.Hops[2].MTU = MTU{Link: 1500, Path: 1400, Size: 1401}, 1400 }, BlackHole, "at br (bridge), whose MTU is 1400"},
		"a jumbo link":             {func(r *Report) { r.MTU = MTU{Link: 65535, Path: greatest} }, None, "9216 bytes pass whole"},
		"some lost":                {func(r *Report) { r.Ping.Received = 3 }, Lossy, "2 of 5 echoes were lost"},
		"some lost by a link":      {func(r *Report) { r.Ping.Received, r.Hops[1].Delta.RxDropped = 3, 2 }, Lossy, "dlh-a (port) dropped or damaged 2"},
		"some lost by a limit": {func(r *Report) {
			r.Ping.Received = 3
			r.Drops = []Drop{{Node: To, Family: "ip", Table: "t", Chain: "c", Handle: 4, Verdict: "drop", Counted: true, Packets: 2}}
		}, Firewalled, "ended 2 while 5"},
		"a twin that does not hurt yet": {func(r *Report) {
			r.ARP[0].Answers = append(r.ARP[0].Answers, Answer{MAC: "02:00:00:00:00:99", Count: 3})
		}, Duplicate, "02:00:00:00:00:03 and 02:00:00:00:00:99"},
		"a twin with one MAC":  {func(r *Report) { r.ARP[0].Answers[0].Count = 6 }, Duplicate, "answered twice"},
		"another in its place": {func(r *Report) { silent(r); r.ARP[0].Answers[0].MAC = "02:00:00:00:00:99" }, Duplicate, "by another machine, 02:00:00:00:00:99"},
		"not started":          {func(r *Report) { silent(r); delete(r.Nodes, To); r.To.Endpoint.Joined = false }, NotRunning, "its container does not run"},
		"no sandbox of A":      {func(r *Report) { r.Ping = Ping{}; delete(r.Nodes, From) }, NotRunning, "A is meant to be in a sandbox"},
		"parent gone": {func(r *Report) {
			silent(r)
			r.Hops[2] = Hop{Node: Host, Side: From, Role: Uplink, Name: "nic", Missing: true}
		}, ParentDown, "The uplink nic of A's network is missing"},
		"bridge down":                {func(r *Report) { silent(r); r.Hops[2].Up = false }, LinkDown, "The bridge br is down"},
		"bridge gone":                {func(r *Report) { silent(r); r.Hops[2].Missing = true }, LinkDown, "The bridge br is missing"},
		"no port":                    {func(r *Report) { silent(r); r.Hops[1].Master = "" }, WrongBridge, "a port of no bridge instead of br"},
		"a port before what follows": {func(r *Report) { silent(r); r.Hops[1].Up, r.Hops[0].Carrier = false, false }, LinkDown, "dlh-a on the host, of A is down"},
		"link gone":                  {func(r *Report) { silent(r); r.Hops[3].Missing = true }, LinkDown, "dlh-b on the host, of B is missing"},
		"an internal network":        {func(r *Report) { viaGateway(r); r.From.Network.Internal = true; r.Nodes[From].Way = nil }, NoRoute, "internal"},
		"out by another network":     {func(r *Report) { silent(r); r.Nodes[From].Way.Link = "eth1" }, NoRoute, "by eth1, and not by eth0"},
		"another network": {func(r *Report) {
			silent(r)
			r.ARP[0].Answers = nil
			r.To.Network.ID, r.To.Network.Parent = "m", "nic.20"
		}, WrongNetwork,
			"bridge on nic.20 instead of bridge on nic"},
		"isolated ports": {func(r *Report) { silent(r); r.From.Network.Isolated = true }, Isolation, "apart"},
		"a firewall that says": {func(r *Report) {
			viaGateway(r)
			r.Ping.Errors = []Unreachable{{netip.MustParseAddr("10.8.0.1"), Prohibited, 5}}
		}, Firewalled, "10.8.0.1"},
		"a loop": {func(r *Report) {
			viaGateway(r)
			r.Ping.Errors = []Unreachable{{netip.MustParseAddr("10.8.0.1"), TimeExceeded, 5}}
		}, RouteLoop, "each other"},
		"dead behind a router": {func(r *Report) {
			viaGateway(r)
			r.Ping.Errors = []Unreachable{{netip.MustParseAddr("10.8.0.1"), HostUnreachable, 5}}
		}, FarDead, "10.8.0.1 gets no answer"},
		"A's own kernel is no router": {func(r *Report) { viaGateway(r); r.Ping.Errors = []Unreachable{{r.From.Addr, HostUnreachable, 5}} }, Unknown,
			"nothing comes back from beyond"},
		"gateway dead": {func(r *Report) { viaGateway(r); r.ARP[0].Answers = nil }, GatewayDead, "gateway 10.7.0.1"},
		"the host does not route": {func(r *Report) {
			viaGateway(r)
			r.Nodes[Host].Addrs = append(r.Nodes[Host].Addrs, netip.MustParsePrefix("10.7.0.1/24"))
			r.Nodes[Host].Settings["ipv4/ip_forward"] = "0"
		}, NoForwarding, "net.ipv4.ip_forward is 0"},
		"the host does not know where to": {func(r *Report) {
			viaGateway(r)
			r.Nodes[Host].Addrs = append(r.Nodes[Host].Addrs, netip.MustParsePrefix("10.7.0.1/24"))
			r.Nodes[Host].Way = nil
		}, NoRoute, "this host, which does not know"},
		"the engine's policy": {func(r *Report) {
			silent(r)
			r.Nodes[Host].Settings["bridge/bridge-nf-call-iptables"] = "1"
			r.Drops = []Drop{{Node: Host, Family: "ip", Table: "filter", Chain: "FORWARD", Hook: "forward", Verdict: "drop"}}
		}, Firewalled, "policy of chain FORWARD in table ip filter"},
		"a policy that is not on the way": {func(r *Report) {
			silent(r)
			r.Drops = []Drop{{Node: Host, Family: "ip", Table: "filter", Chain: "FORWARD", Hook: "forward", Verdict: "drop"}}
		}, Unknown, "only 0 packets came to its link"},
		"a rule that others hit": {func(r *Report) {
			silent(r)
			r.Drops = []Drop{{Node: Host, Family: "ip", Table: "filter", Chain: "INPUT", Hook: "input", Handle: 3, Verdict: "drop", Counted: true, Packets: 100}}
		}, Unknown, "only 0 packets"},
		"ARP filtered": {func(r *Report) {
			silent(r)
			r.ARP[0].Answers = nil
			r.Drops = []Drop{{Node: To, Family: "arp", Table: "t", Chain: "c", Hook: "input", Handle: 3, Verdict: "drop", Counted: true, Packets: 1}}
		}, Firewalled, "table arp t"},
		"a bridge that has B elsewhere": {func(r *Report) {
			silent(r)
			r.ARP[0].Answers = nil
			r.FDB = []Learned{{Of: To, MAC: "02:00:00:00:00:03", Bridge: "br", Port: "nic"}}
		}, WrongBridge, "at nic, which is not B's port"},
		"rp_filter that counts":  {func(r *Report) { silent(r); r.Nodes[To].Counted["TcpExt:IPReversePathFilter"] = 5 }, ReversePath, "counted 5"},
		"echoes ignored":         {func(r *Report) { silent(r); r.Nodes[To].Settings["ipv4/icmp_echo_ignore_all"] = "1" }, EchoIgnored, "ignores them"},
		"answers lost":           {func(r *Report) { silent(r); r.Nodes[To].Counted["Icmp:OutEchoReps"] = 5 }, Unknown, "lost on the way back"},
		"dropped inside of B":    {func(r *Report) { silent(r); r.Hops[4].Delta.Rx = 9 }, Unknown, "something in B's namespace drops them"},
		"nothing says why":       {func(r *Report) { viaGateway(r); r.ARP = nil }, Unknown, "nothing that was looked at says why"},
		"a difference is a note": {func(r *Report) { r.To.Endpoint.Differences = []string{"it is odd"} }, None, "5 of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			r := seen()
			tc.change(r)
			v := Judge(r)
			if v.Fault != tc.fault || v.OK != (tc.fault == None) || !strings.Contains(v.Words+" "+v.Do, tc.words) {
				t.Errorf("%q: %s %s; want %q and %q", v.Fault, v.Words, v.Do, tc.fault, tc.words)
			}
			if (v.Do == "") != v.OK {
				t.Errorf("what to do: %q", v.Do)
			}
			if d := r.To.Endpoint; d != nil && len(d.Differences) != len(v.Notes) {
				t.Errorf("notes %q", v.Notes)
			}
		})
	}
}
