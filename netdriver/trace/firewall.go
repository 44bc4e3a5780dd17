package trace

import (
	"fmt"
	"slices"
	"strings"
)

// What the rules of firewalls tell.

func countingAt(r *Report) (found []finding) {
	for i := range r.Drops {
		if v := r.counted(&r.Drops[i]); v != nil {
			found = append(found, r.at(r.Drops[i].Node, v)...)
		}
	}
	if len(found) == 0 || r.Ping.Blocked && found[0].at > r.inside(From) {
		found = append(found, r.at(From, blocked(r))...)
	}
	return found
}

// counting: a firewall's rule that ended at least as many packets as were lost.
func counting(r *Report) *Verdict {
	if found := countingAt(r); len(found) > 0 {
		return &found[0].Verdict
	}
	return nil
}

func (r *Report) counted(d *Drop) *Verdict {
	lost := r.Ping.Sent - r.Ping.Received
	beforeARP := d.Family == "arp" || d.Family == "bridge" || d.Family == "netdev"
	switch {
	case !d.Counted || d.Packets == 0 || !onTheWay(r, d):
	case int(d.Packets) >= lost && lost > 0 || beforeARP && !r.answered(r.next()): //nolint:gosec // few
		return say(Firewalled, remedy(r, d), "%s drops packets: %s, %s, ended %d while %d echoes were sent%s.", culprit(r, d), place(d), rule(d), d.Packets, r.Ping.Sent, silently(d))
	}
	return nil
}

func blocked(r *Report) *Verdict {
	if !r.Ping.Blocked {
		return nil
	}
	return say(Firewalled, "Look at the output rules there: "+r.in(From)+"nft list ruleset.", "A's own firewall lets nothing out: the kernel refused to send (%s).", r.Ping.Fault)
}

// onTheWay reports whether packets from A to B, or those back, come by a rule.
func onTheWay(r *Report, d *Drop) bool {
	v4 := r.To.Addr.Is4()
	if d.Family == "ip" && !v4 || d.Family == "ip6" && v4 || d.Family == "arp" && !v4 {
		return false
	}
	if d.Node != Host {
		return d.Hook != "forward"
	}
	bridged := r.From.Network != nil && r.From.Network.Mode == "bridge"
	switch {
	case d.Family == "netdev" || d.Family == "bridge" && bridged:
		return true
	case d.Family == "bridge":
		return false
	case r.ToHost:
		return d.Hook != "forward"
	case d.Family == "arp":
		return by(d, "forward")
	}
	// What the host only bridges comes by its IP rules where bridged frames are
	// given to them; and what it routes.
	call := "bridge/bridge-nf-call-iptables"
	if !v4 {
		call = "bridge/bridge-nf-call-ip6tables"
	}
	host := r.Nodes[Host]
	given := bridged && host != nil && host.Settings[call] == "1"
	return (given || r.hostRoutes()) && by(d, "prerouting", "forward", "postrouting")
}

// by reports whether packets come to a chain by one of these hooks.
func by(d *Drop, hooks ...string) bool {
	return slices.ContainsFunc(strings.Split(d.Hook, ","), func(h string) bool { return slices.Contains(hooks, h) })
}

// hostRoutes reports whether A's gateway to B is this host.
func (r *Report) hostRoutes() bool {
	a := r.Nodes[From]
	return !r.ToHost && a != nil && a.Way != nil && a.Way.Via.IsValid() && r.has(Host, a.Way.Via)
}

// culprit is who drops, as far as A can tell.
func culprit(r *Report, d *Drop) string {
	switch {
	case d.Node == Host && !r.ToHost:
		return "The host between A and B"
	case d.Node == From:
		return "A itself"
	case r.answered("B"):
		return "B answers " + asking(r) + " but"
	}
	return "B"
}

func place(d *Drop) string {
	if d.Node == Host {
		return "the firewall of the host"
	}
	return "the firewall in the sandbox of " + d.Node
}

func rule(d *Drop) string {
	table := d.Family + " " + d.Table
	if d.Legacy {
		table = d.Table + " of " + legacy(d)
	}
	if d.Handle == 0 {
		return fmt.Sprintf("the policy of chain %s in table %s", d.Chain, table)
	}
	words := fmt.Sprintf("rule %d of chain %s in table %s", d.Handle, d.Chain, table)
	if d.Comment != "" {
		words += fmt.Sprintf(" (%q)", d.Comment)
	}
	return words
}

// legacy is the command that a rule is of.
func legacy(d *Drop) string {
	if d.Family == "ip6" {
		return "ip6tables-legacy"
	}
	return "iptables-legacy"
}

func silently(d *Drop) string {
	if d.Verdict == "reject" {
		return " and rejected them"
	}
	return ""
}

func remedy(r *Report, d *Drop) string {
	show := fmt.Sprintf("nft -a list chain %s %s %s", d.Family, d.Table, d.Chain)
	if d.Legacy {
		show = fmt.Sprintf("%s -t %s -L %s -nv --line-numbers", legacy(d), d.Table, d.Chain)
	}
	return fmt.Sprintf("Look at it with: %s%s. Accept what is meant to pass before it.", r.in(d.Node), show)
}
