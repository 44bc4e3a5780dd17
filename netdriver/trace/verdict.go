package trace

import (
	"fmt"
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
	Unknown       Fault = "unknown"
)

// Verdict says what is wrong and what to do.
type Verdict struct {
	OK    bool     `json:"ok"`
	Fault Fault    `json:"fault,omitempty"`
	Words string   `json:"words"`
	Do    string   `json:"do,omitempty"`
	Notes []string `json:"notes,omitempty"` // what else is not as it should be
}

// Judge says what follows from what was seen. Causes come before what follows
// from them: a link that is down also leaves questions unanswered.
func Judge(r *Report) Verdict {
	v := judge(r)
	v.OK = v.Fault == None
	v.Notes = notes(r)
	return v
}

func judge(r *Report) Verdict {
	p := r.Ping
	if p.Sent > 0 && p.Received == p.Sent {
		return first(r, Verdict{Words: fine(r)}, duplicate, blackHole)
	}
	if p.Received > 0 {
		return first(r, lossy(r), duplicate, counting)
	}
	return first(r, nowhere(r),
		running, parents, bridges, links, addresses, hostMacvlan, wayOut, wrongNetwork, isolated, duplicate, counting,
		wayBack, reversePath, forwarding, unanswered, errorsBack, swallowed)
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

// running: an end has no sandbox.
func running(r *Report) *Verdict {
	for _, end := range []struct {
		name string
		of   *Endpoint
	}{{From, r.From.Endpoint}, {To, r.To.Endpoint}} {
		if end.of == nil || r.Nodes[end.name] != nil {
			continue
		}
		if !end.of.Joined {
			return say(NotRunning, "Start it, or look why it ended: docker ps -a, docker logs.", "%s is in no sandbox: its container does not run.", end.name)
		}
		return say(NotRunning, "Restart the container; if this stays, look at the plugin's status and the engine's log.",
			"%s is meant to be in a sandbox, and no namespace on this host has its link.", end.name)
	}
	return nil
}

// parents: what leads to the wire.
func parents(r *Report) *Verdict {
	for i := range r.Hops {
		h := &r.Hops[i]
		if h.Role != Parent && h.Role != Uplink {
			continue
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
	}
	return nil
}

// bridges: the bridge itself, and ports that are elsewhere.
func bridges(r *Report) *Verdict {
	for i := range r.Hops {
		h := &r.Hops[i]
		switch {
		case h.Role == Bridge && h.Missing:
			return say(LinkDown, "Run a reconcile (kill -HUP of the plugin, or wait 30 s); a bridge that is somebody else's its owner has to make again.", "The bridge %s is missing.", h.Name)
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
	}
	return nil
}

// links: the ends' own. What is down takes the carrier away at the other end, so
// that this comes last.
func links(r *Report) *Verdict {
	for _, is := range []func(r *Report, h *Hop, at string) *Verdict{missing, down, cutOff} {
		for i := range r.Hops {
			h := &r.Hops[i]
			if h.Role != Port && h.Role != Container && h.Role != OwnLink {
				continue
			}
			at := "in the sandbox of " + h.Node
			if h.Node == Host {
				at = "on the host, of " + h.Side
			}
			if v := is(r, h, at); v != nil {
				return v
			}
		}
	}
	return nil
}

func missing(_ *Report, h *Hop, at string) *Verdict {
	if !h.Missing {
		return nil
	}
	return say(LinkDown, "Restart the container: its link cannot be made again while it runs.", "The link %s %s is missing.", h.Name, at)
}

func down(r *Report, h *Hop, at string) *Verdict {
	if h.Up {
		return nil
	}
	return say(LinkDown, r.in(h.Node)+"ip link set "+h.Name+" up, and find out who took it down.", "The link %s %s is down.", h.Name, at)
}

func cutOff(_ *Report, h *Hop, at string) *Verdict {
	if h.Carrier {
		return nil
	}
	return say(LinkDown, "Look at the other end of the link.", "The link %s %s has no carrier: what it leads to is down.", h.Name, at)
}

// addresses: an end that lost its own.
func addresses(r *Report) *Verdict {
	for _, end := range []struct {
		name string
		of   Intended
	}{{From, r.From}, {To, r.To}} {
		n := r.Nodes[end.name]
		if n == nil || end.of.Endpoint == nil {
			continue
		}
		has := false
		for _, p := range n.Addrs {
			has = has || p.Addr() == end.of.Addr
		}
		if !has {
			return say(NoAddress, "Restart the container, and find out what in it removed the address.", "%s is without its address %s.", end.name, end.of.Addr)
		}
	}
	return nil
}

// hostMacvlan: the kernel keeps a parent and its macvlan links apart.
func hostMacvlan(r *Report) *Verdict {
	if !r.ToHost || r.From.Network == nil || r.From.Network.Mode != "macvlan" {
		return nil
	}
	own := r.hop(Host, OwnLink)
	if own == nil || own.Name != r.From.Network.Parent {
		return nil
	}
	return say(HostMacvlan, "Make the network with -o host_access=true and use the address of the host's port on it, or go by way of another interface.",
		"B is this host itself, by the parent %s: a host and its own macvlan containers do not reach each other by the parent.", own.Name)
}

// wayOut: A's own routes.
func wayOut(r *Report) *Verdict {
	a := r.Nodes[From]
	if a == nil {
		return nil
	}
	if a.Way == nil {
		do := "Give the network a gateway, or the container a route."
		if r.From.Network != nil && r.From.Network.Internal {
			do = "The network is internal: it has no gateway on purpose. Put both on one network."
		}
		return say(NoRoute, do, "A does not know where to send to: %s.", a.NoWay)
	}
	if h := r.hop(From, Container); h != nil && a.Way.Link != h.Name && !a.Way.Local {
		return say(NoRoute, "Look at the routes of A: a more specific one, or another network's gateway, comes first.",
			"A sends to B by %s, and not by %s, its link to this network.", a.Way.Link, h.Name)
	}
	return nil
}

// wrongNetwork: neighbours by their addresses, on different wires.
func wrongNetwork(r *Report) *Verdict {
	a, from, to := r.Nodes[From], r.From.Network, r.To.Network
	if a == nil || a.Way == nil || a.Way.Via.IsValid() || from == nil || r.answered("B") {
		return nil
	}
	switch {
	case to != nil && to.ID != from.ID:
		return say(WrongNetwork, "Put both on one network, or give them subnets of their own and a router between.",
			"A takes B for a neighbour on its own wire, but B is on another network (%s instead of %s).", where(to), where(from))
	case to == nil && from.Mode == "bridge" && from.Parent == "" && !r.ToHost && r.hop(Host, Uplink) == nil && from.Bridge != "":
		return say(WrongNetwork, "Give the network an uplink (-o parent=…), or start what has that address on it.",
			"Nobody on A's network has %s, and its bridge %s has no uplink of the plugin's: nothing leads out.", r.To.Addr, from.Bridge)
	}
	return nil
}

func where(n *Network) string {
	if n.Mode == "bridge" && n.Parent == "" {
		return "bridge " + n.Bridge
	}
	return n.Mode + " on " + n.Parent
}

// isolated: the operator's own wish.
func isolated(r *Report) *Verdict {
	from, to := r.From.Network, r.To.Network
	if from == nil || to == nil || from.ID != to.ID || !from.Isolated {
		return nil
	}
	return say(Isolation, "Make the network without that option if they should.", "The network keeps its containers apart (isolated ports, or private macvlan): A and B are not to reach each other.")
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
