package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
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

// Pass is what the firewall needs to know of a network's bridge.
type Pass struct {
	Bridge string
	// Shared is set where the host uses the bridge too, so that routers of its
	// wire are to be heard, and only our ports must not play one.
	Shared bool
}

// SyncPass makes the rules in DOCKER-USER that let frames pass within our
// bridges exactly those wanted, by the alias of their network.
// Each says in its comment whose it is; others' rules are not touched. New
// ones come after what the user put there. Where the chain is not there (no
// engine yet, or one with iptables off) nothing is done; where the host has the
// legacy form of iptables instead, that is ErrLegacy, for such a table can only be
// replaced as a whole, under a lock that a plugin does not share. Where no rule
// has changed since the last time, by anybody, that takes one question.
//
// Router advertisements are kept from the host on these bridges (see syncGuards)
// and on the other links of ours that are named in guard.
func (k *Kernel) SyncPass(want map[string]Pass, guard []string) error {
	k.passMu.Lock()
	defer k.passMu.Unlock()
	err := k.syncRules(want, guard)
	if err != nil {
		k.closeNetfilter()
	}
	return err
}

func (k *Kernel) syncRules(want map[string]Pass, guard []string) error {
	if err := k.netfilter(); err != nil {
		return err
	}
	if err := k.nftSocket.SetDeadline(time.Now().Add(socketTimeout)); err != nil {
		return fmt.Errorf("set the netfilter time-out: %w", err)
	}
	if err := k.checkLegacy(want); err != nil && !k.hasChain() {
		return errors.Join(err, k.syncGuards(want, guard))
	}
	now := passState{want: maps.Clone(want), guard: slices.Clone(guard)}
	var err error
	if now.generation, err = k.generation(); err != nil {
		return err
	}
	if k.passed.equal(now) {
		return nil
	}
	var errs []error
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		if err := k.syncPassFamily(family, want); err != nil {
			errs = append(errs, fmt.Errorf("let bridged frames pass in %s: %w", passChain, err))
		}
	}
	if err := k.syncGuards(want, guard); err != nil {
		errs = append(errs, fmt.Errorf("keep router advertisements of containers from the host: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.passed = now // what was changed here makes another generation, which is looked at once more
	return nil
}

// passState is what SyncPass found right.
type passState struct {
	generation []byte // of the namespace's rules, which the kernel counts; nil: none was looked at
	want       map[string]Pass
	guard      []string
}

func (s passState) equal(o passState) bool {
	return s.generation != nil && bytes.Equal(s.generation, o.generation) && maps.Equal(s.want, o.want) && slices.Equal(s.guard, o.guard)
}

// generation asks for the number that every change of rules, by whomever, makes
// another one.
func (k *Kernel) generation() ([]byte, error) {
	const nfgenmsg = 4 // the size of struct nfgenmsg
	msgs, err := k.nftSocket.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdnetlink.Request},
		Data:   make([]byte, nfgenmsg),
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the generation of the rules: %w", err)
	}
	for _, m := range msgs {
		if len(m.Data) < nfgenmsg {
			continue
		}
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[nfgenmsg:])
		if err != nil {
			return nil, fmt.Errorf("read the generation of the rules: %w", err)
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return slices.Clone(ad.Bytes()), nil
			}
		}
	}
	return nil, nil
}

// ErrLegacy says that the host's firewall is one that is not opened from here.
var ErrLegacy = errors.New("the host's firewall is the legacy form of iptables")

// The files say it of the namespace of the thread that reads them.
const (
	legacyTables = "/proc/thread-self/net/ip_tables_names"
	bridgeCalls  = "/proc/sys/net/bridge/bridge-nf-call-iptables"
)

// checkLegacy looks whether bridged frames go through tables of the legacy form.
func (k *Kernel) checkLegacy(want map[string]Pass) error {
	var tables, calls []byte
	err := k.Within(func() (err error) {
		if tables, err = os.ReadFile(legacyTables); err == nil {
			calls, err = os.ReadFile(bridgeCalls)
		}
		return err
	})
	if err != nil || len(want) == 0 || !slices.Contains(strings.Fields(string(tables)), passTable) || strings.TrimSpace(string(calls)) == "0" {
		return nil //nolint:nilerr // without such files there are no such tables, or none of our frames goes there
	}
	bridge := slices.MinFunc(slices.Collect(maps.Values(want)), func(a, b Pass) int { return strings.Compare(a.Bridge, b.Bridge) }).Bridge
	return fmt.Errorf("%w, which may drop what goes from container to container; if so say on the host: iptables-legacy -I %s -i %s -o %s -j ACCEPT, and so for each bridge (and ip6tables-legacy)",
		ErrLegacy, passChain, bridge, bridge)
}

func (k *Kernel) hasChain() bool {
	_, err := k.nft.ListChain(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: passTable}, passChain)
	return err == nil
}

func (k *Kernel) syncPassFamily(family nftables.TableFamily, want map[string]Pass) error {
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
		if p, wanted := missing[alias]; wanted && passes(rule, p.Bridge) {
			delete(missing, alias)
			continue
		}
		if err := k.nft.DelRule(rule); err != nil {
			return fmt.Errorf("remove a rule: %w", err)
		}
		changed = true
	}
	for _, alias := range slices.Sorted(maps.Keys(missing)) {
		k.addPass(passRule(table, chain, missing[alias].Bridge, alias), rules)
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
