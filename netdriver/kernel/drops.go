package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Drop is a place in the namespace's firewall at which packets end.
type Drop struct {
	Family, Table, Chain string
	Handle               uint64 // of the rule, as `nft -a` shows it; 0: the chain's policy
	Hook                 string // of the chain, or of those that lead to it, with commas between; "": not known
	Verdict              string // drop or reject
	Comment              string
	Counted              bool
	Packets              uint64
	// Legacy is set where it is one of iptables in its legacy form; Handle is the
	// rule's number in its chain then.
	Legacy bool
}

// Drops returns all of them, in the kernel's order, those of the legacy form of
// iptables last. With an error there are those that could be read.
func (k *Kernel) Drops() ([]Drop, error) {
	k.passMu.Lock()
	drops, err := k.listDrops()
	if err != nil {
		k.closeNetfilter()
	}
	k.passMu.Unlock()
	legacy, err2 := k.legacyDrops()
	return append(drops, legacy...), errors.Join(err, err2)
}

// ruled is a chain with its rules.
type ruled struct {
	*nftables.Chain
	rules []*nftables.Rule
	maps  map[string][]*expr.Verdict // what the maps that the rules look up hold, by name
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
	var all []ruled
	var unread []error // maps; one that went away meanwhile hides no rule
	for _, c := range chains {
		one := ruled{Chain: c, maps: map[string][]*expr.Verdict{}}
		one.rules, err = k.nft.GetRules(c.Table, c)
		if errors.Is(err, unix.ENOENT) {
			continue // it went away meanwhile
		} else if err != nil {
			return nil, fmt.Errorf("list the rules of chain %s: %w", c.Name, err)
		}
		unread = append(unread, k.readMaps(&one))
		all = append(all, one)
	}
	hooks := hooksOf(all)
	var drops []Drop
	for _, c := range all {
		at := Drop{Family: familyName(c.Table.Family), Table: c.Table.Name, Chain: c.Name, Hook: hooks[chainKey(c.Table, c.Name)]}
		for _, r := range c.rules {
			if d, ends := dropOf(at, r, c.maps); ends {
				drops = append(drops, d)
			}
		}
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			at.Verdict = "drop"
			drops = append(drops, at)
		}
	}
	return drops, errors.Join(unread...)
}

// readMaps reads the verdict maps that a chain's rules look up.
func (k *Kernel) readMaps(c *ruled) error {
	for _, r := range c.rules {
		for _, e := range r.Exprs {
			l, is := e.(*expr.Lookup)
			if !is || !toVerdict(l) || c.maps[l.SetName] != nil {
				continue
			}
			elements, err := k.nft.GetSetElements(&nftables.Set{Table: c.Table, Name: l.SetName})
			if err != nil {
				return fmt.Errorf("read the map %s of chain %s: %w", l.SetName, c.Name, err)
			}
			for _, el := range elements {
				if v := verdictOf(el.Val); v != nil {
					c.maps[l.SetName] = append(c.maps[l.SetName], v)
				}
			}
		}
	}
	return nil
}

// verdictOf reads an element's verdict (linux/netfilter/nf_tables.h,
// NFTA_VERDICT_…), which the library leaves as it is; nil: it has none.
func verdictOf(attrs []byte) *expr.Verdict {
	ad, err := mdnetlink.NewAttributeDecoder(attrs)
	if err != nil {
		return nil
	}
	ad.ByteOrder = binary.BigEndian
	var v *expr.Verdict
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v = &expr.Verdict{Kind: expr.VerdictKind(int32(ad.Uint32()))} //nolint:gosec // it is signed
		case unix.NFTA_VERDICT_CHAIN:
			if v != nil {
				v.Chain = ad.String()
			}
		}
	}
	if ad.Err() != nil {
		return nil
	}
	return v
}

// toVerdict reports whether what a lookup finds is what becomes of the packet.
func toVerdict(l *expr.Lookup) bool { return l.IsDestRegSet && l.DestRegister == unix.NFT_REG_VERDICT }

// eachVerdict calls do for every verdict that a rule may come to.
func eachVerdict(r *nftables.Rule, maps map[string][]*expr.Verdict, do func(*expr.Verdict)) {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			do(e)
		case *expr.Lookup:
			if !toVerdict(e) {
				continue
			}
			for _, v := range maps[e.SetName] {
				do(v)
			}
		}
	}
}

func chainKey(t *nftables.Table, name string) string {
	return familyName(t.Family) + " " + t.Name + " " + name
}

// hooksOf says by which hooks packets come to each chain, its own or those of
// the chains that lead to it.
func hooksOf(all []ruled) map[string]string {
	to := map[string][]string{} // where the rules of a chain lead
	found := map[string][]string{}
	for _, c := range all {
		key := chainKey(c.Table, c.Name)
		for _, r := range c.rules {
			eachVerdict(r, c.maps, func(v *expr.Verdict) {
				if v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto {
					to[key] = append(to[key], chainKey(c.Table, v.Chain))
				}
			})
		}
	}
	for _, c := range all {
		hook := hookName(c.Chain)
		if hook == "" {
			continue
		}
		seen := map[string]bool{}
		for todo := []string{chainKey(c.Table, c.Name)}; len(todo) > 0; todo = todo[1:] {
			if key := todo[0]; !seen[key] {
				seen[key] = true
				if !slices.Contains(found[key], hook) {
					found[key] = append(found[key], hook)
				}
				todo = append(todo, to[key]...)
			}
		}
	}
	hooks := map[string]string{}
	for key, of := range found {
		hooks[key] = strings.Join(of, ",")
	}
	return hooks
}

// dropOf reads whether a rule ends packets. A counter counts those only if all
// that the rule asks for stands before it.
func dropOf(d Drop, r *nftables.Rule, maps map[string][]*expr.Verdict) (Drop, bool) {
	d.Handle = r.Handle
	d.Comment, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
			d.Counted, d.Packets = true, e.Packets
		case *expr.Reject:
			d.Verdict = "reject"
		case *expr.Target: // of iptables in its nft form
			if e.Name == "REJECT" || e.Name == "DROP" {
				d.Verdict = map[string]string{"REJECT": "reject", "DROP": "drop"}[e.Name]
			}
		case *expr.Cmp, *expr.Range, *expr.Match, *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Lookup:
			d.Counted, d.Packets = false, 0
		}
	}
	eachVerdict(r, maps, func(v *expr.Verdict) {
		if v.Kind == expr.VerdictDrop {
			d.Verdict = "drop"
		}
	})
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

// place is what makes two drops one, seen at two times.
type place struct {
	family, table, chain string
	handle               uint64
	legacy               bool
}

func (d Drop) place() place { return place{d.Family, d.Table, d.Chain, d.Handle, d.Legacy} }

// DropsSince returns those of after that have ended packets since before, with
// the number of packets. One that was not there before is new, unless whole is
// false: not all of them could be read then.
func DropsSince(before, after []Drop, whole bool) []Drop {
	then := make(map[place]uint64, len(before)) // there may be very many
	for _, d := range before {
		then[d.place()] = d.Packets
	}
	var hit []Drop
	for _, d := range after {
		was, there := then[d.place()]
		if !there && !whole {
			continue
		}
		if d.Packets >= was {
			d.Packets -= was
		}
		if d.Packets > 0 {
			hit = append(hit, d)
		}
	}
	return hit
}
