package trace

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes a report for people: what was seen, and the verdict at the end.
func (r *Report) Print(w io.Writer) error {
	t := &text{w: w}
	t.end("A", r.From)
	t.end("B", r.To)
	t.hops(r.Hops)
	for _, node := range []string{From, Host, To} {
		if n := r.Nodes[node]; n != nil {
			t.node(node, n)
		}
	}
	for _, l := range r.FDB {
		told := ""
		if l.Told {
			told = ", by configuration"
		}
		t.line("bridge %s has the MAC of %s (%s) at %s%s", l.Bridge, l.Of, l.MAC, l.Port, told)
	}
	for _, a := range r.ARP {
		t.asked(a)
	}
	t.ping(r.Ping)
	if m := r.MTU; m.Path > 0 {
		t.line("MTU      %d of A's link; packets of up to %d bytes are answered", m.Link, m.Path)
		if m.Told > 0 {
			t.line("         %s says that %d fit", m.By, m.Told)
		}
	}
	for _, d := range r.Drops {
		if d.Counted {
			t.line("firewall %s: %s ended %d packets meanwhile", d.Node, rule(&d), d.Packets)
		} else if !ours(&d) && onTheWay(r, &d) {
			t.line("firewall %s: %s may end packets, and does not count them", d.Node, rule(&d))
		}
	}
	for _, u := range r.Unseen {
		t.line("not seen %s", u)
	}
	t.verdict(r.Verdict)
	return t.err
}

// text keeps the first error.
type text struct {
	w   io.Writer
	err error
}

func (t *text) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

func (t *text) end(name string, in Intended) {
	if in.Endpoint == nil {
		line := fmt.Sprintf("%s        %s", name, in.Asked)
		if in.Addr.IsValid() && in.Addr.String() != in.Asked {
			line += ", " + in.Addr.String()
		}
		if rec := in.Record; rec != nil {
			line += fmt.Sprintf(": of host %s by the cluster's records%s", rec.Host, forWhom(rec))
		}
		t.line("%s", line)
		return
	}
	state := "joined"
	if !in.Endpoint.Joined {
		state = "not joined"
	}
	t.line("%s        %s, %s, %s: endpoint %s (%s), network %s (%s)", name, in.Asked, in.Addr, in.Endpoint.MAC, cut(in.Endpoint.ID), state, cut(in.Network.ID), which(in.Network))
}

func cut(id string) string { return id[:min(len(id), 12)] }

func (t *text) hops(hops []Hop) {
	if len(hops) == 0 {
		return
	}
	tab := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tab, "\nLINK\tWHERE\tSTATE\tMTU\tRX\tTX\tDROPPED\tERRORS")
	for _, h := range hops {
		where := h.Role
		if h.Node == Host {
			where += " on the host"
		} else {
			where = "in " + h.Node
		}
		if h.Missing {
			_, _ = fmt.Fprintf(tab, "%s\t%s\tmissing\n", h.Name, where)
			continue
		}
		d := h.Delta
		_, _ = fmt.Fprintf(tab, "%s\t%s\t%s\t%d\t+%d\t+%d\t+%d\t+%d\n", h.Name, where, state(h), h.MTU, d.Rx, d.Tx, d.RxDropped+d.TxDropped+d.Queue, d.RxErrors+d.TxErrors)
	}
	if err := tab.Flush(); t.err == nil {
		t.err = err
	}
	t.line("")
}

func state(h Hop) string {
	words := []string{"up"}
	switch {
	case !h.Up:
		words[0] = "DOWN"
	case !h.Carrier:
		words[0] = "NO CARRIER"
	}
	if h.NoARP {
		words = append(words, "noarp")
	}
	if h.Master != "" {
		words = append(words, "on "+h.Master)
	}
	return strings.Join(words, ", ")
}

func (t *text) node(node string, n *Node) {
	switch w := n.Way; {
	case w == nil && node == Host:
		t.line("%-8s between them", node)
	case w == nil:
		t.line("%-8s %s", node, n.NoWay)
	case w.Local:
		t.line("%-8s %s is its own address", node, w.To)
	case w.Via.IsValid():
		t.line("%-8s sends to %s by %s, via %s", node, w.To, w.Link, w.Via)
	default:
		t.line("%-8s sends to %s by %s", node, w.To, w.Link)
	}
	for _, r := range n.Routes {
		t.line("         route %s", r)
	}
	for _, r := range n.Rules {
		if !slices.Contains(usual, r) {
			t.line("         rule %s", r)
		}
	}
	for _, b := range n.Neighbours {
		mac := b.MAC
		if mac == "" {
			mac = "nobody"
		}
		t.line("         neighbour %s is %s on %s (%s)", b.Addr, mac, b.Link, b.State)
	}
	for _, name := range sorted(n.Settings) {
		ofHost := strings.HasPrefix(name, "bridge/") || strings.HasSuffix(name, "forward") || strings.HasSuffix(name, "forwarding")
		if v := n.Settings[name]; v != "0" && (!ofHost || node == Host) {
			t.line("         %s = %s", strings.ReplaceAll(name, "/", "."), v)
		}
	}
	for _, name := range sorted(n.Counted) {
		t.line("         counted %s +%d", name, n.Counted[name])
	}
}

// usual are the rules that every namespace has.
var usual = []string{"0: from all to all table 255", "32766: from all to all table 254", "32767: from all to all table 253"}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (t *text) asked(a Asked) {
	if a.Fault != "" {
		t.line("asked    for %s (%s): %s", a.Addr, a.What, a.Fault)
		return
	}
	answers := []string{}
	for _, one := range a.Answers {
		answers = append(answers, fmt.Sprintf("%s (%d)", one.MAC, one.Count))
	}
	said := strings.Join(answers, ", ")
	switch {
	case said == "" && a.What == From:
		said = "nobody else has it"
	case said == "":
		said = "no answer"
	}
	t.line("asked    %d times who has %s (%s): %s", a.Sent, a.Addr, a.What, said)
}

func (t *text) ping(p Ping) {
	if p.Sent == 0 {
		return
	}
	t.line("echo     %d sent, %d answered, %d%% lost", p.Sent, p.Received, 100*(p.Sent-p.Received)/p.Sent)
	if p.Received > 0 {
		t.line("         %s least, %s on average, %s most, jitter %s", short(p.Min), short(p.Avg), short(p.Max), short(p.Jitter))
	}
	if p.Fault != "" {
		t.line("         the kernel of A: %s", p.Fault)
	}
	for _, e := range p.Errors {
		t.line("         %s says: %s (%d times)", e.From, e.Code, e.Count)
	}
}

func (t *text) verdict(v Verdict) {
	t.line("\n%s", v.Words)
	if v.Do != "" {
		t.line("What to do: %s", v.Do)
	}
	for _, c := range v.Also {
		t.line("Also wrong: %s", c.Words)
		if c.Do != "" {
			t.line("What to do: %s", c.Do)
		}
	}
	for _, n := range v.Notes {
		t.line("Also: %s.", n)
	}
}
