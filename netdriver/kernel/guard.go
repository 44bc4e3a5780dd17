package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// syncGuards makes tables of this instance's own drop what claims to be a
// router's advertisement and comes to the host from a container, which would
// become the host's default gateway (the class of CVE-2020-13401). The sysctl
// for this, accept_ra, is read-only in a plugin. On a bridge that the host has
// no part in, and on the links named besides, none is for the host; on a bridge that
// it shares, those from our ports are not.
func (k *Kernel) syncGuards(want map[string]Pass, links []string) error {
	alone, ports := slices.Clone(links), []string(nil)
	for _, p := range want {
		if p.Shared {
			ports = []string{hostPrefix}
		} else {
			alone = append(alone, p.Bridge)
		}
	}
	slices.Sort(alone)
	alone = slices.Compact(alone)
	return errors.Join(
		k.syncGuard(nftables.TableFamilyIPv6, nftables.ChainPriorityFilter, alone, ifName),
		k.syncGuard(nftables.TableFamilyBridge, bridgeFilter, ports, func(prefix string) []byte { return []byte(prefix) }))
}

// bridgeFilter is NF_BR_PRI_FILTER_BRIDGED (linux/netfilter_bridge.h).
var bridgeFilter = nftables.ChainPriorityRef(-200)

// syncGuard makes the guards of one family those of these names, which match
// gives in the form that an interface's name is compared with: whole, or its
// beginning.
func (k *Kernel) syncGuard(family nftables.TableFamily, prio *nftables.ChainPriority, names []string, match func(string) []byte) error {
	table := &nftables.Table{Family: family, Name: "dockline-" + string(k.Instance)}
	chain := &nftables.Chain{Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: prio}
	rules, err := k.nft.GetRules(table, chain)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list rules: %w", err)
	}
	missing := err != nil
	var has []string
	for _, r := range rules {
		name, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		has = append(has, name)
	}
	switch {
	case missing && len(names) == 0, !missing && slices.Equal(has, names):
		return nil
	case len(names) == 0:
		k.nft.DelTable(table)
		return k.flushPass(true)
	}
	k.nft.AddTable(table)
	k.nft.AddChain(chain)
	k.nft.FlushChain(chain)
	for _, name := range names {
		k.nft.AddRule(guardRule(table, chain, name, match(name)))
	}
	return k.flushPass(true)
}

func guardRule(table *nftables.Table, chain *nftables.Chain, name string, match []byte) *nftables.Rule {
	const routerAdvertisement = 134 // RFC 4861, 4.2
	return &nftables.Rule{
		Table: table, Chain: chain,
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: match},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{routerAdvertisement}},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, name),
	}
}
