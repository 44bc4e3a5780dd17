package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Drop is a place in the namespace's firewall at which packets end.
type Drop struct {
	Family, Table, Chain string
	Handle               uint64 // of the rule, as `nft -a` shows it; 0: the chain's policy
	Hook                 string // of the chain, if it has one
	Verdict              string // drop or reject
	Comment              string
	Counted              bool
	Packets              uint64
}

// Drops returns all of them, in the kernel's order. Rules of the legacy form of
// iptables are not among them.
func (k *Kernel) Drops() ([]Drop, error) {
	k.passMu.Lock()
	defer k.passMu.Unlock()
	drops, err := k.listDrops()
	if err != nil {
		k.closeNetfilter()
	}
	return drops, err
}

func (k *Kernel) listDrops() ([]Drop, error) {
	if err := k.netfilter(); err != nil {
		return nil, err
	}
	if err := k.nftSocket.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		return nil, fmt.Errorf("set the netfilter time-out: %w", err)
	}
	chains, err := k.nft.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the firewall's chains: %w", err)
	}
	var drops []Drop
	for _, c := range chains {
		rules, err := k.nft.GetRules(c.Table, c)
		if errors.Is(err, unix.ENOENT) {
			continue // it went away meanwhile
		} else if err != nil {
			return nil, fmt.Errorf("list the rules of chain %s: %w", c.Name, err)
		}
		at := Drop{Family: familyName(c.Table.Family), Table: c.Table.Name, Chain: c.Name, Hook: hookName(c)}
		for _, r := range rules {
			if d, ends := dropOf(at, r); ends {
				drops = append(drops, d)
			}
		}
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			at.Verdict = "drop"
			drops = append(drops, at)
		}
	}
	return drops, nil
}

// dropOf reads whether a rule ends packets.
func dropOf(d Drop, r *nftables.Rule) (Drop, bool) {
	d.Handle = r.Handle
	d.Comment, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
			d.Counted, d.Packets = true, e.Packets
		case *expr.Reject:
			d.Verdict = "reject"
		case *expr.Verdict:
			if e.Kind == expr.VerdictDrop {
				d.Verdict = "drop"
			}
		case *expr.Target: // of iptables in its nft form
			if e.Name == "REJECT" || e.Name == "DROP" {
				d.Verdict = map[string]string{"REJECT": "reject", "DROP": "drop"}[e.Name]
			}
		}
	}
	return d, d.Verdict != ""
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyNetdev:
		return "netdev"
	}
	return fmt.Sprintf("family %d", f)
}

// hookName is that of linux/netfilter.h, or linux/netfilter_bridge.h, in which
// the numbers are the same, or for netdev linux/netfilter_netdev.h.
func hookName(c *nftables.Chain) string {
	if c.Hooknum == nil {
		return ""
	}
	names := []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}
	switch c.Table.Family {
	case nftables.TableFamilyNetdev:
		names = []string{"ingress", "egress"}
	case nftables.TableFamilyARP:
		names = []string{"input", "output", "forward"}
	}
	if n := int(*c.Hooknum); n < len(names) {
		return names[n]
	}
	return "hook " + fmt.Sprint(*c.Hooknum)
}

// SameRule reports whether two drops are one, seen at two times.
func (d Drop) SameRule(o Drop) bool {
	return d.Family == o.Family && d.Table == o.Table && d.Chain == o.Chain && d.Handle == o.Handle
}

// DropsSince returns those of after that have ended packets since before, with
// the number of packets.
func DropsSince(before, after []Drop) []Drop {
	var hit []Drop
	for _, d := range after {
		i := slices.IndexFunc(before, d.SameRule)
		if i >= 0 && d.Packets >= before[i].Packets {
			d.Packets -= before[i].Packets
		}
		if d.Packets > 0 {
			hit = append(hit, d)
		}
	}
	return hit
}
