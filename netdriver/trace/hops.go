package trace

import (
	"cmp"
	"slices"

	"github.com/dockline/dockline/netdriver/kernel"
)

// hops are the links from A to B.
func (r *run) hops() {
	from, to := r.Known.From, r.Known.To
	near := r.side(From, r.a, from.Endpoint, from.Network)
	switch {
	case to.Endpoint != nil && to.Network != nil && to.Network.ID == from.Network.ID:
		far := r.side(To, r.b, to.Endpoint, to.Network)
		near = slices.DeleteFunc(near, func(h Hop) bool { return h.Role == Uplink }) // frames stay on this host
		for i := range near {
			if near[i].Role == Bridge || near[i].Role == Parent {
				near[i].Side = From + To
			}
		}
		far = slices.DeleteFunc(far, func(h Hop) bool { return h.Role == Uplink || h.Role == Bridge || h.Role == Parent })
		slices.Reverse(far)
		near = append(near, far...)
	case to.Endpoint != nil && to.Network != nil:
		far := r.side(To, r.b, to.Endpoint, to.Network)
		slices.Reverse(far)
		near = append(near, far...)
	case r.b == r.host && r.b != nil:
		own := r.hostsOwn()
		if len(own) == 1 && own[0].Name == from.Network.Bridge { // frames stay on this host
			near = slices.DeleteFunc(near, func(h Hop) bool { return h.Role == Uplink })
			own = nil
		}
		near = append(near, own...)
	}
	r.report.Hops = near
}

// side are the links of one end, from the container outwards.
func (r *run) side(node string, s *space, e *Endpoint, n *Network) []Hop {
	inside := Hop{Node: node, Side: node, Role: Container, Missing: true}
	if s != nil {
		was, is := byAlias(s.before.links, e.Alias), byAlias(s.after.links, e.Alias)
		inside = hop(node, node, Container, cmp.Or(is.Name, was.Name), s.before.links, s.after.links)
		inside.Left = inside.Missing // it was there when the sandbox was found by it
	}
	before, after := r.host.before.links, r.host.after.links
	hops := []Hop{inside}
	add := func(role, name, master string) {
		if name == "" {
			return
		}
		h := hop(Host, node, role, name, before, after)
		h.WantMaster = master
		h.Master = masterOf(after[name], after)
		hops = append(hops, h)
	}
	if n.Bridge == "" {
		add(Parent, n.Parent, "")
		return hops
	}
	add(Port, e.HostLink, n.Bridge)
	add(Bridge, n.Bridge, "")
	add(Uplink, n.Parent, n.Bridge)
	return hops
}

// hostsOwn is the host's link that has B's address.
func (r *run) hostsOwn() []Hop {
	for name, l := range r.host.after.links {
		for _, p := range l.Addrs {
			if p.Addr() == r.to {
				return []Hop{hop(Host, To, OwnLink, name, r.host.before.links, r.host.after.links)}
			}
		}
	}
	return nil
}

func hop(node, side, role, name string, before, after map[string]kernel.LinkState) Hop {
	l, there := after[name]
	if name == "" || !there {
		return Hop{Node: node, Side: side, Role: role, Name: name, Missing: true}
	}
	h := Hop{
		Node: node, Side: side, Role: role, Name: name, Up: l.Up, Carrier: l.Carrier, NoARP: l.NoARP,
		MTU: l.MTU, MAC: l.MAC.String(), VLAN: l.VLAN, Addrs: l.Addrs, Total: fromKernel(l),
	}
	if b, was := before[name]; was {
		h.Delta = h.Total.minus(fromKernel(b))
	}
	return h
}

func masterOf(l kernel.LinkState, all map[string]kernel.LinkState) string {
	for name, m := range all {
		if l.Master != 0 && m.Index == l.Master {
			return name
		}
	}
	return ""
}

func fromKernel(l kernel.LinkState) Counters {
	c := l.Counters
	return Counters{Queue: l.Queued, Rx: c.RxPackets, RxDropped: c.RxDropped, RxErrors: c.RxErrors, Tx: c.TxPackets, TxDropped: c.TxDropped, TxErrors: c.TxErrors}
}

func (c Counters) minus(o Counters) Counters {
	return Counters{
		Queue: since(c.Queue, o.Queue),
		Rx:    since(c.Rx, o.Rx), RxDropped: since(c.RxDropped, o.RxDropped), RxErrors: since(c.RxErrors, o.RxErrors),
		Tx: since(c.Tx, o.Tx), TxDropped: since(c.TxDropped, o.TxDropped), TxErrors: since(c.TxErrors, o.TxErrors),
	}
}

// lost counts all that did not get through.
func (c Counters) lost() uint64 { return c.RxDropped + c.TxDropped + c.Queue + c.RxErrors + c.TxErrors }

// since is 0 where a counter began anew.
func since(now, then uint64) uint64 {
	if now < then {
		return 0
	}
	return now - then
}
