package kernel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/internal/failpoint"
)

// An engine that turns IP forwarding on sets the FORWARD policy to DROP, and
// with bridge-nf-call-iptables frames between two ports of a bridge go through
// that chain. An accept elsewhere cannot override a drop; the engine's own
// chain for this is DOCKER-USER, which it never flushes.
const (
	passTable = "filter"
	passChain = "DOCKER-USER"
)

// SyncPass makes the rules in DOCKER-USER that let frames pass within our
// bridges exactly those wanted: the bridge's name by the alias of its network.
// Each says in its comment whose it is; others' rules are not touched. New
// ones come after what the user put there. Where the chain is not there (no
// engine yet, or one with iptables off or in its legacy form) nothing is done.
func (k *Kernel) SyncPass(want map[string]string) error {
	k.passMu.Lock()
	defer k.passMu.Unlock()
	err := k.syncRules(want)
	if err != nil {
		k.closeNetfilter()
	}
	return err
}

func (k *Kernel) syncRules(want map[string]string) error {
	if err := k.netfilter(); err != nil {
		return err
	}
	if err := k.nftSocket.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		return fmt.Errorf("set the netfilter time-out: %w", err)
	}
	var errs []error
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		if err := k.syncPassFamily(family, want); err != nil {
			errs = append(errs, fmt.Errorf("let bridged frames pass in %s: %w", passChain, err))
		}
	}
	if err := k.syncGuard(slices.Sorted(maps.Values(want))); err != nil {
		errs = append(errs, fmt.Errorf("keep router advertisements of containers from the host: %w", err))
	}
	return errors.Join(errs...)
}

// syncGuard makes a table of this instance's own drop what claims to be a
// router's advertisement and comes to the host by one of our bridges: a
// container would become the host's default gateway (the class of
// CVE-2020-13401). The sysctl for this, accept_ra, is read-only in a plugin.
func (k *Kernel) syncGuard(bridges []string) error {
	table := &nftables.Table{Family: nftables.TableFamilyIPv6, Name: "dockline-" + string(k.Instance)}
	chain := &nftables.Chain{Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter}
	rules, err := k.nft.GetRules(table, chain)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list rules: %w", err)
	}
	missing := err != nil
	var has []string
	for _, r := range rules {
		bridge, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		has = append(has, bridge)
	}
	switch {
	case missing && len(bridges) == 0, !missing && slices.Equal(has, bridges):
		return nil
	case len(bridges) == 0:
		k.nft.DelTable(table)
		return k.flushPass(true)
	}
	k.nft.AddTable(table)
	k.nft.AddChain(chain)
	k.nft.FlushChain(chain)
	for _, bridge := range bridges {
		k.nft.AddRule(guardRule(table, chain, bridge))
	}
	return k.flushPass(true)
}

func guardRule(table *nftables.Table, chain *nftables.Chain, bridge string) *nftables.Rule {
	const routerAdvertisement = 134 // RFC 4861, 4.2
	return &nftables.Rule{
		Table: table, Chain: chain,
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifName(bridge)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{routerAdvertisement}},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, bridge),
	}
}

func (k *Kernel) syncPassFamily(family nftables.TableFamily, want map[string]string) error {
	table := &nftables.Table{Family: family, Name: passTable}
	chain := &nftables.Chain{Table: table, Name: passChain}
	rules, err := k.nft.GetRules(table, chain)
	if errors.Is(err, unix.ENOENT) || err == nil && len(rules) == 0 && len(want) == 0 {
		return nil
	} else if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	// The rules of a chain that is not there are none, and no error; trying to
	// add one costs the kernel many milliseconds, which a container would wait for.
	if len(rules) == 0 {
		chains, err := k.nft.ListChainsOfTableFamily(family)
		if err != nil {
			return fmt.Errorf("look for the chain: %w", err)
		}
		if !slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Name == passChain && c.Table.Name == passTable }) {
			return nil
		}
	}
	missing := maps.Clone(want)
	changed := false
	for _, rule := range rules {
		alias, ok := userdata.GetString(rule.UserData, userdata.TypeComment)
		if _, ours := k.Owner(alias); !ok || !ours {
			continue
		}
		if bridge, wanted := missing[alias]; wanted && passes(rule, bridge) {
			delete(missing, alias)
			continue
		}
		if err := k.nft.DelRule(rule); err != nil {
			return fmt.Errorf("remove a rule: %w", err)
		}
		changed = true
	}
	for _, alias := range slices.Sorted(maps.Keys(missing)) {
		k.addPass(passRule(table, chain, missing[alias], alias), rules)
		changed = true
	}
	return k.flushPass(changed)
}

func (k *Kernel) flushPass(changed bool) error {
	if !changed {
		return nil
	}
	err := k.nft.Flush()
	failpoint.Hit("kernel", "rules")
	if errors.Is(err, unix.ENOENT) { // the chain went away meanwhile
		k.closeNetfilter()
		return k.netfilter()
	} else if err != nil {
		return fmt.Errorf("change rules: %w", err)
	}
	return nil
}

// addPass puts a rule before the bare return that older engines end the chain
// with, else at the end.
func (k *Kernel) addPass(rule *nftables.Rule, before []*nftables.Rule) {
	if n := len(before); n > 0 && isReturn(before[n-1]) {
		rule.Position = before[n-1].Handle
		k.nft.InsertRule(rule)
		return
	}
	k.nft.AddRule(rule)
}

func isReturn(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
		case *expr.Verdict:
			return e.Kind == expr.VerdictReturn
		default:
			return false
		}
	}
	return false
}

// passRule is what iptables -i BRIDGE -o BRIDGE -j ACCEPT makes, in the form in
// which iptables reads it back.
func passRule(table *nftables.Table, chain *nftables.Chain, bridge, alias string) *nftables.Rule {
	return &nftables.Rule{
		Table: table, Chain: chain,
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifName(bridge)},
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifName(bridge)},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictAccept},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, alias),
	}
}

func passes(r *nftables.Rule, bridge string) bool {
	names := 0
	for _, e := range r.Exprs {
		if c, ok := e.(*expr.Cmp); ok && string(c.Data) == string(ifName(bridge)) {
			names++
		}
	}
	return names == 2
}

func ifName(name string) []byte { return binaryutil.PutString(name + "\x00") }
