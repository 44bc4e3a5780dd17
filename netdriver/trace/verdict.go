package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Fault is what is wrong, for programs.
type Fault string

// The faults that Judge names.
const (
	None          Fault = ""
	NotRunning    Fault = "not-running"       // an end is in no sandbox
	LinkDown      Fault = "link-down"         // a link of an end, or a bridge
	ParentDown    Fault = "parent-down"       // the parent or uplink, or its cable
	WrongBridge   Fault = "wrong-bridge"      // a port is elsewhere than it should be
	WrongNetwork  Fault = "wrong-network"     // both are neighbours by address and not by wire
	NoAddress     Fault = "no-address"        // an end is without its address
	NoRoute       Fault = "missing-route"     // one end knows no way to the other, or a wrong one
	NoForwarding  Fault = "no-forwarding"     // the host is the router and does not route
	Isolation     Fault = "isolated"          // the network keeps its containers apart
	HostMacvlan   Fault = "host-macvlan"      // a host and its own macvlan containers
	Duplicate     Fault = "duplicate-address" // two machines have one address
	ReversePath   Fault = "rp-filter"
	ARPSuppressed Fault = "arp-suppressed" // an end gets the question and does not answer
	FarDead       Fault = "far-host-dead"
	GatewayDead   Fault = "gateway-dead"
	Firewalled    Fault = "firewall"
	EchoIgnored   Fault = "echo-ignored" // an end takes echoes and answers none
	RouteLoop     Fault = "routing-loop"
	BlackHole     Fault = "mtu-black-hole"
	Lossy         Fault = "loss"
	StaleMAC      Fault = "stale-neighbour" // an end sends to a hardware address that is not the other's
	Unknown       Fault = "unknown"
)

// Verdict says what is wrong and what to do.
type Verdict struct {
	OK    bool     `json:"ok"`
	Fault Fault    `json:"fault,omitempty"`
	Words string   `json:"words"`
	Do    string   `json:"do,omitempty"`
	Also  []Cause  `json:"also,omitempty"`  // further faults, which would keep A from B as well
	Notes []string `json:"notes,omitempty"` // what else is not as it should be
}

// Cause is a further fault.
type Cause struct {
	Fault Fault  `json:"fault"`
	Words string `json:"words"`
	Do    string `json:"do,omitempty"`
}

// Judge says what follows from what was seen. Causes come before what follows
// from them: a link that is down also leaves questions unanswered. Of several
// causes the one that is nearest to A is the verdict.
func Judge(r *Report) Verdict {
	v := judge(r)
	v.OK = v.Fault == None
	v.Notes = notes(r)
	return v
}

func judge(r *Report) Verdict {
	p := r.Ping
	if p.Sent > 0 && p.Received == p.Sent {
		return first(r, Verdict{Words: fine(r)}, oneMachine, duplicate, blackHole)
	}
	if p.Received > 0 {
		return first(r, lossy(r), left, duplicate, counting)
	}
	var found []finding
	for _, cause := range certain {
		found = append(found, cause(r)...)
	}
	if len(found) > 0 {
		return nearest(found)
	}
	return first(r, nowhere(r), noCarrier, unanswered, errorsBack, swallowed)
}

// Stopped is the report of a trace that cannot be made, because the container of
// one end does not run.
func Stopped(from, to Intended, end, state string) *Report {
	r := &Report{From: from, To: to, Nodes: map[string]*Node{}, Hops: []Hop{}, FDB: []Learned{}, ARP: []Asked{}, Drops: []Drop{}, Unseen: []string{}}
	r.Verdict = *say(NotRunning, "Start it, or look why it ended: docker ps -a, docker logs.", "The container of %s does not run (%s): it is on no network.", end, state)
	return r
}

// finding is a fault and how far from A it is: ten for each link of the way, and
// what is between two links between.
type finding struct {
	at int
	Verdict
}

const apart = 10 // of links

// certain are the faults that are seen where they are, rather than concluded from
// what packets do not arrive.
var certain = []func(*Report) []finding{
	running, parents, bridges, links, addresses, wayOut, oneMachineAt, staleMACs, hostMacvlan, wrongNetwork, isolated, duplicates, countingAt,
	wayBack, reversePath, forwarding,
}

// nearest makes the verdict of what was found.
func nearest(found []finding) Verdict {
	slices.SortStableFunc(found, func(a, b finding) int { return cmp.Compare(a.at, b.at) })
	v := found[0].Verdict
	for _, f := range found[1:] {
		c := Cause{f.Fault, f.Words, f.Do}
		if c.Words != v.Words && !slices.Contains(v.Also, c) {
			v.Also = append(v.Also, c)
		}
	}
	return v
}

// inside is where what is in a namespace is, on the way from A to B.
func (r *Report) inside(node string) int {
	switch node {
	case From:
		return apart / 2
	case To:
		return apart*len(r.Hops) + apart/2
	}
	if r.ToHost {
		return apart*len(r.Hops) + apart/2
	}
	for i := range r.Hops { // behind the last link of A's own network
		if r.Hops[i].Side == To {
			return apart*(i-1) + apart/2
		}
	}
	return apart*(len(r.Hops)-1) + apart/2
}

// at is a finding in a namespace; nil makes none.
func (r *Report) at(node string, v *Verdict) []finding {
	if v == nil {
		return nil
	}
	return []finding{{r.inside(node), *v}}
}

// first is the first verdict that there is one of, else otherwise.
func first(r *Report, otherwise Verdict, causes ...func(*Report) *Verdict) Verdict {
	for _, cause := range causes {
		if v := cause(r); v != nil {
			return *v
		}
	}
	return otherwise
}

func say(f Fault, do, format string, args ...any) *Verdict {
	return &Verdict{Fault: f, Words: fmt.Sprintf(format, args...), Do: do}
}

func fine(r *Report) string {
	words := fmt.Sprintf("A reaches B: %d of %d echoes answered, in %s on average (jitter %s)", r.Ping.Received, r.Ping.Sent, short(r.Ping.Avg), short(r.Ping.Jitter))
	switch m := r.MTU; {
	case m.Path > 0 && m.Path < m.Link && m.Told > 0:
		words += fmt.Sprintf("; packets of up to %d bytes pass, and %s says so to those who send greater ones", m.Path, m.By)
	case m.Path > 0:
		words += fmt.Sprintf("; packets of %d bytes pass whole", m.Path)
	}
	return words + "."
}

// notes are differences that the plugin sees, whatever the verdict.
func notes(r *Report) []string {
	var all []string
	for _, end := range []struct {
		name string
		of   Intended
	}{{"A", r.From}, {"B", r.To}} {
		if e := end.of.Endpoint; e != nil {
			for _, d := range e.Differences {
				all = append(all, end.name+": "+d)
			}
		}
		if n := end.of.Network; n != nil && (end.name == "A" || r.From.Network == nil || n.ID != r.From.Network.ID) {
			for _, d := range n.Differences {
				all = append(all, "network of "+end.name+": "+d)
			}
		}
	}
	return all
}

// running: an end has no sandbox, or left it meanwhile.
func running(r *Report) (found []finding) {
	for _, end := range []struct {
		name string
		of   *Endpoint
	}{{From, r.From.Endpoint}, {To, r.To.Endpoint}} {
		if end.of == nil || r.Nodes[end.name] != nil {
			continue
		}
		v := say(NotRunning, "Restart the container; if this stays, look at the plugin's status and the engine's log.",
			"%s is meant to be in a sandbox, and no namespace on this host has its link.", end.name)
		if !end.of.Joined {
			v = say(NotRunning, "Start it, or look why it ended: docker ps -a, docker logs.", "%s is in no sandbox: its container does not run.", end.name)
		}
		found = append(found, r.at(end.name, v)...)
	}
	if v := left(r); v != nil && len(found) == 0 {
		found = r.at(To, v)
	}
	return found
}

// left: an end's link went away while the trace was made.
func left(r *Report) *Verdict {
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Left && h.Role == Container {
			return say(NotRunning, "Start it again, or look why it ended: docker ps -a, docker logs.",
				"%s left its network while it was traced: its container ended, or was disconnected.", h.Node)
		}
	}
	return nil
}

// eachHop collects what is found at each link, of ends that are in a sandbox.
func (r *Report) eachHop(is func(h *Hop) *Verdict) (found []finding) {
	away := map[string]bool{From: r.Nodes[From] == nil, To: r.Nodes[To] == nil && !r.ToHost}
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Left {
			away[h.Node] = true
		}
	}
	for i := range r.Hops {
		h := &r.Hops[i]
		if away[h.Side] && (h.Role == Container || h.Role == Port) {
			continue
		}
		if v := is(h); v != nil {
			found = append(found, finding{apart * i, *v})
		}
	}
	return found
}

// parents: what leads to the wire.
func parents(r *Report) []finding {
	return r.eachHop(func(h *Hop) *Verdict {
		if h.Role != Parent && h.Role != Uplink {
			return nil
		}
		what := fmt.Sprintf("the %s %s of %s's network", h.Role, h.Name, h.Side)
		if h.Side == From+To {
			what = fmt.Sprintf("the %s %s of both", h.Role, h.Name)
		}
		switch {
		case h.Missing:
			return say(ParentDown, "Bring the interface back (is its driver loaded, was it renamed?); the plugin connects the containers by itself then.", "%s is missing: nothing leads to the wire.", upper(what))
		case !h.Up:
			return say(ParentDown, "ip link set "+h.Name+" up, and find out who took it down.", "%s is down: nothing leads to the wire.", upper(what))
		case !h.Carrier:
			return say(ParentDown, "Look at the cable, at the switch's port, and at what "+h.Name+" stands on.", "%s is up but has no carrier: its cable or the other end of it is dead.", upper(what))
		}
		return nil
	})
}

// bridges: the bridge itself, and ports that are elsewhere.
func bridges(r *Report) []finding {
	return r.eachHop(func(h *Hop) *Verdict {
		switch {
		case h.Role == Bridge && h.Missing:
			return say(LinkDown, "docker dockline net reconcile, or wait 30 s; a bridge that is somebody else's its owner has to make again.", "The bridge %s is missing.", h.Name)
		case h.Role == Bridge && !h.Up:
			return say(LinkDown, "ip link set "+h.Name+" up, and find out who took it down.", "The bridge %s is down.", h.Name)
		case !h.Missing && h.WantMaster != "" && h.Master != h.WantMaster:
			is := "a port of no bridge"
			if h.Master != "" {
				is = "a port of the bridge " + h.Master
			}
			return say(WrongBridge, fmt.Sprintf("ip link set %s master %s, or wait for the plugin to do it within 30 s; find out who moved it.", h.Name, h.WantMaster),
				"The %s %s of %s is %s instead of %s: frames go to another network.", h.Role, h.Name, h.Side, is, h.WantMaster)
		}
		return nil
	})
}

// links: the ends' own. What is down takes the carrier away at the other end, and
// is not that end's fault.
func links(r *Report) []finding {
	return r.eachHop(func(h *Hop) *Verdict {
		if h.Role != Port && h.Role != Container && h.Role != OwnLink {
			return nil
		}
		switch {
		case h.Missing:
			return say(LinkDown, "Restart the container: its link cannot be made again while it runs.", "The link %s %s is missing.", h.Name, where(h))
		case !h.Up:
			return say(LinkDown, r.in(h.Node)+"ip link set "+h.Name+" up, and find out who took it down.", "The link %s %s is down.", h.Name, where(h))
		}
		return nil
	})
}

func where(h *Hop) string {
	if h.Node == Host {
		return "on the host, of " + h.Side
	}
	return "in the sandbox of " + h.Node
}

// noCarrier: a link of an end, and nothing says why.
func noCarrier(r *Report) *Verdict {
	for i := range r.Hops {
		h := &r.Hops[i]
		if (h.Role == Port || h.Role == Container || h.Role == OwnLink) && !h.Missing && !h.Carrier {
			return say(LinkDown, "Look at the other end of the link.", "The link %s %s has no carrier: what it leads to is down.", h.Name, where(h))
		}
	}
	return nil
}

// linked reports whether an end's link is there and up: one that is not takes
// addresses and routes with it.
func (r *Report) linked(node string) bool {
	h := r.hop(node, Container)
	return h == nil || !h.Missing && h.Up
}

func (r *Report) has(node string, a netip.Addr) bool {
	n := r.Nodes[node]
	return n != nil && slices.ContainsFunc(n.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// addresses: an end that lost its own.
func addresses(r *Report) (found []finding) {
	for _, end := range []struct {
		name string
		of   Intended
	}{{From, r.From}, {To, r.To}} {
		if r.Nodes[end.name] == nil || end.of.Endpoint == nil || !r.linked(end.name) || r.has(end.name, end.of.Addr) {
			continue
		}
		found = append(found, r.at(end.name, say(NoAddress, "Restart the container, and find out what in it removed the address.", "%s is without its address %s.", end.name, end.of.Addr))...)
	}
	return found
}

func oneMachineAt(r *Report) []finding { return r.at(From, oneMachine(r)) }

// oneMachine: an end has the other one's address itself, and talks to itself.
func oneMachine(r *Report) *Verdict {
	for _, end := range []struct {
		name, other string
		of          netip.Addr
	}{{From, To, r.To.Addr}, {To, From, r.From.Addr}} {
		n := r.Nodes[end.name]
		if n == nil || n.Way == nil || !n.Way.Local || !r.has(end.name, end.of) {
			continue
		}
		return say(Duplicate, fmt.Sprintf("%sip address show to %s, take it away there, and find out what in the container put it there.", r.in(end.name), end.of),
			"%s has the address %s of %s itself: what it sends there never leaves it.", end.name, end.of, end.other)
	}
	return nil
}

// staleMACs: an end's neighbour table has the other, or the gateway, elsewhere
// than it is.
func staleMACs(r *Report) (found []finding) {
	if a, q := r.Nodes[From], r.asked(r.next()); a != nil && q != nil && r.answered(q.What) {
		right := func(mac string) bool {
			return slices.ContainsFunc(q.Answers, func(one Answer) bool { return one.MAC == mac })
		}
		found = append(found, r.stale(From, q.Addr, q.What, right)...)
	}
	if e := r.From.Endpoint; e != nil && r.Nodes[To] != nil {
		found = append(found, r.stale(To, r.From.Addr, From, func(mac string) bool { return mac == e.MAC })...)
	}
	return found
}

func (r *Report) stale(node string, of netip.Addr, what string, right func(mac string) bool) (found []finding) {
	for _, b := range r.Nodes[node].Neighbours {
		if b.Addr != of || b.MAC == "" || right(b.MAC) {
			continue
		}
		found = append(found, r.at(node, say(StaleMAC, fmt.Sprintf("%sip neighbour del %s dev %s, and find out who wrote it down.", r.in(node), of, b.Link),
			"%s sends what is for %s (%s) to the MAC %s (%s), which is not the one that has the address.", node, of, what, b.MAC, b.State))...)
	}
	return found
}

// hostMacvlan: the kernel keeps a parent and its macvlan links apart.
func hostMacvlan(r *Report) []finding {
	if !r.ToHost || r.From.Network == nil || r.From.Network.Mode != "macvlan" {
		return nil
	}
	own := r.hop(Host, OwnLink)
	if own == nil || own.Name != r.From.Network.Parent {
		return nil
	}
	return r.at(Host, say(HostMacvlan, "Make the network with -o host_access=true and use the address of the host's port on it, or go by way of another interface.",
		"B is this host itself, by the parent %s: a host and its own macvlan containers do not reach each other by the parent.", own.Name))
}

// wayOut: A's own routes.
func wayOut(r *Report) []finding {
	a := r.Nodes[From]
	if a == nil || !r.linked(From) || r.From.Endpoint != nil && !r.has(From, r.From.Addr) {
		return nil
	}
	if a.Way == nil {
		do := "Give the network a gateway, or the container a route."
		if r.From.Network != nil && r.From.Network.Internal {
			do = "The network is internal: it has no gateway on purpose. Put both on one network."
		}
		return r.at(From, say(NoRoute, do, "A does not know where to send to: %s.", a.NoWay))
	}
	if h := r.hop(From, Container); h != nil && a.Way.Link != h.Name && !a.Way.Local {
		return r.at(From, say(NoRoute, "Look at the routes of A: a more specific one, or another network's gateway, comes first.",
			"A sends to B by %s, and not by %s, its link to this network.", a.Way.Link, h.Name))
	}
	return nil
}

// wrongNetwork: neighbours by their addresses, on different wires.
func wrongNetwork(r *Report) []finding {
	a, from, to := r.Nodes[From], r.From.Network, r.To.Network
	if a == nil || a.Way == nil || a.Way.Via.IsValid() || a.Way.Local || from == nil || r.answered("B") {
		return nil
	}
	switch {
	case to != nil && to.ID != from.ID:
		return r.at(Host, say(WrongNetwork, "Put both on one network, or give them subnets of their own and a router between.",
			"A takes B for a neighbour on its own wire, but B is on another network (%s instead of %s).", which(to), which(from)))
	case to == nil && from.Mode == "bridge" && from.Parent == "" && !r.ToHost && r.hop(Host, Uplink) == nil && from.Bridge != "" && !from.Foreign:
		return r.at(Host, say(WrongNetwork, "Give the network an uplink (-o uplink=…), or start what has that address on it.",
			"Nobody on A's network has %s, and its bridge %s has no uplink: nothing leads out.", r.To.Addr, from.Bridge))
	}
	return nil
}

func which(n *Network) string {
	if n.Mode == "bridge" && n.Parent == "" {
		return "bridge " + n.Bridge
	}
	return n.Mode + " on " + n.Parent
}

// isolated: the operator's own wish.
func isolated(r *Report) []finding {
	from, to := r.From.Network, r.To.Network
	if from == nil || to == nil || from.ID != to.ID || !from.Isolated {
		return nil
	}
	return r.at(Host, say(Isolation, "Make the network without that option if they should.", "The network keeps its containers apart (isolated ports, or private macvlan): A and B are not to reach each other."))
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
