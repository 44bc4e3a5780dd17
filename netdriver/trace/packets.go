package trace

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What packets tell: the second half of Judge.

func (r *Report) answered(what string) bool {
	a := r.asked(what)
	return a != nil && slices.ContainsFunc(a.Answers, func(one Answer) bool { return one.Count > 0 })
}

// in is what a command begins with that is to run in an end's namespace.
func (r *Report) in(node string) string {
	if n := r.Nodes[node]; n != nil && n.Sandbox != "" {
		return "nsenter --net=" + n.Sandbox + " "
	}
	return ""
}

// next is what A asks for before it can send: B or its gateway.
func (r *Report) next() string {
	if a := r.Nodes[From]; a != nil && a.Way != nil && a.Way.Via.IsValid() {
		return "gateway"
	}
	return "B"
}

const takeAway = "Take the address away from one of the two: look for the MACs in the switch's table, reserve the address, or give the network an --ip-range that nobody else uses. (A router that answers for others, by proxy ARP, looks the same.)"

func duplicates(r *Report) []finding { return r.at(Host, duplicate(r)) }

// duplicate: two machines answer for one address, or one that is not B does.
func duplicate(r *Report) *Verdict {
	for _, what := range []string{"B", "gateway"} {
		a := r.asked(what)
		if a == nil {
			continue
		}
		if machines(a) > 1 {
			return say(Duplicate, takeAway, "Two machines have the address %s of %s: %s answer. A sends to whichever answered last.", a.Addr, what, macs(a))
		}
		if a.twice() {
			return say(Duplicate, takeAway, "Each question for the address %s of %s is answered twice, from one MAC (%s): two hosts have given it out.", a.Addr, what, a.Answers[0].MAC)
		}
	}
	if a, e := r.asked("B"), r.To.Endpoint; a != nil && e != nil && len(a.Answers) == 1 && a.Answers[0].MAC != e.MAC && a.Answers[0].Node != To && r.Ping.Received == 0 {
		return say(Duplicate, takeAway, "The address %s of B, whose MAC is %s, is answered for by another machine, %s, and not by B.", a.Addr, e.MAC, macs(a))
	}
	if a := r.asked("A"); a != nil && slices.ContainsFunc(a.Answers, func(one Answer) bool { return one.Node != From }) {
		return say(Duplicate, takeAway, "Another machine, %s, has A's own address %s: answers go there.", macs(a), a.Addr)
	}
	return nil
}

// machines counts those that answered: one that is looked into may do so by
// several links, by each for the addresses of all (arp_ignore 0).
func machines(a *Asked) int {
	all := map[string]bool{}
	for _, one := range a.Answers {
		all[cmp.Or(one.Node, one.MAC)] = true
	}
	return len(all)
}

func macs(a *Asked) string {
	var all []string
	for _, one := range a.Answers {
		mac := one.MAC
		if one.Node == Host {
			mac += " (of this host)"
		}
		all = append(all, mac)
	}
	return strings.Join(all, " and ")
}

// wayBack: B's routes.
func wayBack(r *Report) []finding {
	b := r.Nodes[To]
	if b == nil || !r.linked(To) || !r.has(To, r.To.Addr) {
		return nil
	}
	if b.Way == nil {
		return r.at(To, say(NoRoute, "Give B a gateway or a route to A's subnet.", "B gets what A sends and does not know where to answer to: %s.", b.NoWay))
	}
	h := r.hop(To, Container)
	if h != nil && b.Way.Link != h.Name && !b.Way.Local && !strict(b, h.Name) {
		return r.at(To, say(NoRoute, "Look at the routes of B.", "B answers to A by %s, and not by %s, where A's packets come in.", b.Way.Link, h.Name))
	}
	return nil
}

func strict(n *Node, link string) bool { return n.Settings["ipv4/conf/"+link+"/rp_filter"] == "1" }

// reversePath: a packet whose answer would leave by another link is dropped (RFC 3704).
func reversePath(r *Report) (found []finding) {
	if b, h := r.Nodes[To], r.hop(To, Container); b != nil && h != nil && r.To.Addr.Is4() && b.Way != nil && !b.Way.Local && b.Way.Link != h.Name && strict(b, h.Name) {
		return r.at(To, say(ReversePath, fmt.Sprintf("Give B a route to A by %s, or: %ssysctl -w net.ipv4.conf.%s.rp_filter=2 (and all.rp_filter).", h.Name, r.in(To), h.Name),
			"B drops what A sends (rp_filter): it comes in by %s, and B's own route to A leads by %s.", h.Name, b.Way.Link))
	}
	for _, node := range []string{From, Host, To} {
		n := r.Nodes[node]
		if n != nil && int(n.Counted["TcpExt:IPReversePathFilter"]) >= r.Ping.Sent && r.Ping.Sent > 0 {
			found = append(found, r.at(node, say(ReversePath, "Make the routes there symmetrical, or set net.ipv4.conf.*.rp_filter to 2 there.",
				"%s drops the packets (rp_filter): it counted %d that came in by another link than its route back leads by.", upper(name(node)), n.Counted["TcpExt:IPReversePathFilter"]))...)
		}
	}
	return found
}

func name(node string) string {
	if node == Host {
		return "the host"
	}
	return node
}

// forwarding: the host is A's gateway.
func forwarding(r *Report) []finding {
	if !r.hostRoutes() {
		return nil
	}
	via, host := r.Nodes[From].Way.Via, r.Nodes[Host]
	key := "ipv4/ip_forward"
	if r.To.Addr.Is6() {
		key = "ipv6/conf/all/forwarding"
	}
	switch {
	case host.Settings[key] == "0":
		return r.at(Host, say(NoForwarding, "sysctl -w net."+strings.ReplaceAll(key, "/", ".")+"=1, if the host is to route for its containers.", "A's gateway %s is this host, and it does not route (net.%s is 0).", via, strings.ReplaceAll(key, "/", ".")))
	case host.Way == nil:
		return r.at(Host, say(NoRoute, "Give the host a route.", "A's gateway %s is this host, which does not know where to send on to: %s.", via, host.NoWay))
	}
	return nil
}

// unanswered: nobody says where the next machine is.
func unanswered(r *Report) *Verdict {
	what := r.next()
	a := r.asked(what)
	if a == nil || r.answered(what) {
		return nil
	}
	if what == "gateway" {
		return say(GatewayDead, "Look whether the gateway is on, on this wire and VLAN, and is the right one for the network.",
			"A's gateway %s does not answer %s: A gets no further than its own wire.", a.Addr, asking(r))
	}
	if b, h := r.Nodes[To], r.hop(To, Container); b != nil && h != nil {
		return mute(r, b, h)
	}
	alive := "Nothing else was asked on this wire, so that it may be the wire itself."
	do := "Look whether it is on, whether it has that address, and whether its switch port is in the same VLAN."
	if g := r.asked("gateway"); r.answered("gateway") {
		alive = fmt.Sprintf("The wire works: the gateway %s answers.", g.Addr)
	} else if g != nil {
		alive = fmt.Sprintf("The gateway %s does not answer either: it may be the wire.", g.Addr)
		do += " Look at the switch too."
	}
	if rec := r.To.Record; rec != nil {
		alive += fmt.Sprintf(" By the cluster's records the address is host %s's%s.", rec.Host, forWhom(rec))
		do = "Look on host " + rec.Host + " whether the container runs, and trace from there: docker dockline net trace. " + do
	}
	return say(FarDead, do, "B, %s, does not answer %s: it is off, or on another wire or VLAN, or nobody has the address. %s", a.Addr, asking(r), alive)
}

func forWhom(rec *Record) string {
	if rec.For == "" {
		return ""
	}
	return ", for " + rec.For
}

func asking(r *Report) string {
	if r.To.Addr.Is6() {
		return "neighbour discovery"
	}
	return "ARP"
}

// mute: B is there to be looked into, and does not answer for its address.
func mute(r *Report, b *Node, h *Hop) *Verdict {
	why, do := "", ""
	ignore := b.Settings["ipv4/conf/"+h.Name+"/arp_ignore"]
	switch {
	case h.NoARP:
		why, do = fmt.Sprintf("its link %s is set to noarp", h.Name), fmt.Sprintf("%sip link set %s arp on", r.in(To), h.Name)
	case r.To.Addr.Is4() && ignore != "" && ignore != "0":
		why, do = fmt.Sprintf("arp_ignore of %s is %s", h.Name, ignore), fmt.Sprintf("%ssysctl -w net.ipv4.conf.%s.arp_ignore=0 (and all.arp_ignore)", r.in(To), h.Name)
	case r.To.Addr.Is6() && b.Settings["ipv6/conf/"+h.Name+"/disable_ipv6"] == "1":
		why, do = fmt.Sprintf("IPv6 is disabled on %s", h.Name), "Enable it, or make the network without --ipv6."
	}
	if why != "" {
		return say(ARPSuppressed, do, "B is up and does not answer %s: %s.", asking(r), why)
	}
	if d := suspect(r, "arp", "bridge", "netdev"); d != nil {
		return say(Firewalled, remedy(r, d), "Questions by %s do not get from A to B, or the answers not back; %s has %s, which does not count.", asking(r), place(d), rule(d))
	}
	if l := r.elsewhere(); l != nil {
		return say(WrongBridge, "Find out who uses that MAC there; a loop in the wire looks like this, too.", "The bridge %s has B's MAC %s at %s, which is not B's port.", l.Bridge, l.MAC, l.Port)
	}
	return say(ARPSuppressed, "Look with tcpdump at the host's end of B's link whether questions arrive there.", "B is up and does not answer %s, and nothing in its settings says why.", asking(r))
}

// elsewhere is where a bridge has B's MAC, if that is the wrong place.
func (r *Report) elsewhere() *Learned {
	e := r.To.Endpoint
	if e == nil || e.HostLink == "" {
		return nil
	}
	for i := range r.FDB {
		if l := &r.FDB[i]; l.Of == To && r.To.Network != nil && l.Bridge == r.To.Network.Bridge && l.Port != e.HostLink {
			return l
		}
	}
	return nil
}

// suspect is a rule or policy that drops without counting, in a chain of these
// families (all, if none is named), the ends' own first.
func suspect(r *Report, families ...string) *Drop {
	for _, node := range []string{To, Host, From} {
		for i := range r.Drops {
			d := &r.Drops[i]
			of := len(families) == 0
			for _, f := range families {
				of = of || d.Family == f
			}
			if of && d.Node == node && !d.Counted && onTheWay(r, d) && !ours(d) {
				return d
			}
		}
	}
	return nil
}

// ours are chains of the plugin's own, by which no container's packets come.
func ours(d *Drop) bool { return strings.HasPrefix(d.Table, "dockline") }

// errorsBack: somebody on the way says why.
func errorsBack(r *Report) *Verdict {
	for _, e := range r.Ping.Errors {
		if e.From == r.From.Addr {
			continue // A's own kernel, of a question that was not answered
		}
		switch e.Code {
		case Prohibited:
			return say(Firewalled, "Look at the firewall of "+e.From.String()+".", "%s answers that it may not let the echoes pass (%s): a firewall there rejects them.", e.From, e.Code)
		case NetUnreachable:
			return say(NoRoute, "Give the router "+e.From.String()+" a route.", "The router %s has no route to B.", e.From)
		case HostUnreachable:
			return say(FarDead, "Look whether B is on and on the wire behind "+e.From.String()+".", "The router %s gets no answer from B on the wire behind it: B is off or elsewhere.", e.From)
		case TimeExceeded:
			return say(RouteLoop, "Look at the routes of "+e.From.String()+" and its neighbours.", "The echoes went round until %s threw them away: routers send them to each other.", e.From)
		default:
			return say(Firewalled, "Look at the firewall of "+e.From.String()+".", "%s rejects the echoes (%s).", e.From, e.Code)
		}
	}
	return nil
}

// swallowed: whoever is next answers, and the echoes end without a word.
func swallowed(r *Report) *Verdict {
	if !r.answered(r.next()) {
		return nil
	}
	if r.Nodes[To] != nil {
		return inside(r, r.Nodes[To], To)
	}
	if r.ToHost {
		return inside(r, r.Nodes[Host], Host)
	}
	if r.next() == "gateway" {
		return say(Unknown, "Trace from the gateway on: is B on, has the gateway a route to B and B one back to A's subnet, and does a firewall there drop ICMP?",
			"A's gateway %s answers %s and takes the echoes; nothing comes back from beyond it.", r.asked("gateway").Addr, asking(r))
	}
	return say(Firewalled, "Look at the firewall of B, and whether it has a route back to A's subnet by this wire and its rp_filter lets A in.",
		"B answers %s but drops ICMP: it is on and on the same wire, and its firewall (or its route back) keeps it from answering.", asking(r))
}

// inside: how far into B the echoes came.
func inside(r *Report, b *Node, where string) *Verdict {
	sent := int64(r.Ping.Sent)
	in, out, ignore := "Icmp:InEchos", "Icmp:OutEchoReps", "ipv4/icmp_echo_ignore_all"
	if r.To.Addr.Is6() {
		in, out, ignore = "Icmp6InEchos", "Icmp6OutEchoReplies", "ipv6/icmp/echo_ignore_all"
	}
	d := suspect(r)
	if words := r.dropped(); words != "" {
		return say(Lossy, "Look at its queueing disciplines (tc -s qdisc, tc -s filter) and its errors (ip -s -s link).", "B answers %s, and the echoes or their answers are lost: %s.", asking(r), words)
	}
	switch {
	case b.Settings[ignore] == "1":
		return say(EchoIgnored, "sysctl -w net."+strings.ReplaceAll(ignore, "/", ".")+"=0 there, or do not judge B by ping.", "B gets the echoes and ignores them (%s is 1); it may well serve all else.", strings.ReplaceAll(ignore, "/", "."))
	case b.Counted[out] >= sent:
		words := fmt.Sprintf("B answered %d echoes and A got none: the answers are lost on the way back", b.Counted[out])
		if d != nil {
			return say(Firewalled, remedy(r, d), "%s; %s has %s, which does not count.", words, place(d), rule(d))
		}
		return say(Unknown, "Look with tcpdump at each link below where the answers end.", "%s.", words)
	case d != nil:
		return say(Firewalled, remedy(r, d), "B answers %s but drops ICMP: %s has %s, which does not count its packets, and of %d echoes %d came to B's ICMP.", asking(r), place(d), rule(d), sent, b.Counted[in])
	}
	h := r.hop(where, Container)
	if h != nil && int64(h.Delta.Rx) < sent { //nolint:gosec // few
		return say(Unknown, "Look with tcpdump at each link below where the echoes end.", "B answers %s, and of %d echoes only %d packets came to its link %s: they are lost between A and B.", asking(r), sent, h.Delta.Rx, h.Name)
	}
	return say(Unknown, "Look at B's firewall (also ebtables, arptables and what is in eBPF) and at what it runs.", "B answers %s and gets the packets, but %d of %d echoes came to its ICMP: something in B's namespace drops them.", asking(r), b.Counted[in], sent)
}

// dropped names the first link that dropped at least as many packets as were sent.
func (r *Report) dropped() string {
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Delta.lost() >= uint64(r.Ping.Sent) { //nolint:gosec // few
			return fmt.Sprintf("the link %s %s dropped %d packets meanwhile", h.Name, where(h), h.Delta.lost())
		}
	}
	return ""
}

// blackHole: great packets vanish without a word.
func blackHole(r *Report) *Verdict {
	m := r.MTU
	if m.Path == 0 || m.Path >= min(m.Link, greatest) || m.Told > 0 {
		return nil
	}
	where := "beyond this host"
	for i := range r.Hops {
		if h := &r.Hops[i]; h.MTU > 0 && h.MTU < m.Link {
			where = fmt.Sprintf("at %s (%s), whose MTU is %d", h.Name, h.Role, h.MTU)
			break
		}
	}
	return say(BlackHole, fmt.Sprintf("Set the MTU of the network to at most %d (-o mtu=%d), or raise that of the link that has less; a switch or tunnel in between does not pass what the ends may send.", m.Path, m.Path),
		"A reaches B with small packets only: up to %d bytes pass, greater ones of up to %d, which A may send, vanish without an ICMP error, %s. Connections open and then hang.", m.Path, m.Link, where)
}

// lossy is the verdict on some echoes answered and others not.
func lossy(r *Report) Verdict {
	words := fmt.Sprintf("%d of %d echoes were lost", r.Ping.Sent-r.Ping.Received, r.Ping.Sent)
	do := "Trace again, longer; look at the cable, the load of both hosts, and duplex and errors of the switch's ports."
	for i := range r.Hops {
		h := &r.Hops[i]
		if n := h.Delta.lost(); n > 0 {
			words += fmt.Sprintf("; meanwhile %s (%s) dropped or damaged %d", h.Name, h.Role, n)
			do = fmt.Sprintf("Look at %s: %sip -s -s link show %s, tc -s qdisc show dev %s, ethtool -S %s.", h.Name, r.in(h.Node), h.Name, h.Name, h.Name)
		}
	}
	return Verdict{Fault: Lossy, Words: words + ".", Do: do}
}

// nowhere is the verdict when no cause was found.
func nowhere(r *Report) Verdict {
	words := "No echo was answered, and nothing that was looked at says why"
	if r.Ping.Fault != "" {
		words += " (" + r.Ping.Fault + ")"
	}
	return Verdict{Fault: Unknown, Words: words + ".", Do: "Look at what could not be seen (above), and with tcpdump at each link of the path."}
}

func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
