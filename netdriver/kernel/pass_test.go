package kernel

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

func TestOurBridgesBringTheHostNoRouterAdvertisement(t *testing.T) {
	k := inNamespace(t)
	guarded := func() (names []string) {
		for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv6, nftables.TableFamilyBridge} {
			table := &nftables.Table{Family: family, Name: "dockline-" + string(self)}
			rules, _ := k.nft.GetRules(table, &nftables.Chain{Table: table, Name: "input"})
			for _, r := range rules {
				name, _ := userdata.GetString(r.UserData, userdata.TypeComment)
				names = append(names, name)
			}
		}
		return names
	}
	a, b := self.NetworkAlias("a"), self.NetworkAlias("b")
	for _, step := range []struct {
		want   map[string]Pass
		guards []string
	}{
		{nil, nil},
		{map[string]Pass{a: {Bridge: "dlb-a"}}, []string{"dlb-a"}},
		{map[string]Pass{a: {Bridge: "dlb-a"}, b: {Bridge: "dlb-b"}}, []string{"dlb-a", "dlb-b"}},
		{map[string]Pass{b: {Bridge: "dlb-b"}}, []string{"dlb-b"}},
		{map[string]Pass{a: {Bridge: "br0", Shared: true}, b: {Bridge: "dlb-b"}}, []string{"dlb-b", "dlh-"}},
		{map[string]Pass{a: {Bridge: "br0", Shared: true}}, []string{"dlh-"}},
		{nil, nil},
	} {
		for range 2 {
			if err := k.SyncPass(step.want, nil); err != nil {
				t.Fatal(err)
			}
			if got := guarded(); !slices.Equal(got, step.guards) {
				t.Errorf("%v: guards %v", step.want, got)
			}
		}
	}
}

func TestRulesThatSomebodyRemovedComeBack(t *testing.T) {
	k := inNamespace(t)
	want := map[string]Pass{self.NetworkAlias("a"): {Bridge: "dlb-a"}}
	table := &nftables.Table{Family: nftables.TableFamilyIPv6, Name: "dockline-" + string(self)}
	for round := range 3 {
		for range 3 { // the last one asks for no more than whether anything changed
			if err := k.SyncPass(want, nil); err != nil {
				t.Fatal(err)
			}
		}
		if rules, err := k.nft.GetRules(table, &nftables.Chain{Table: table, Name: "input"}); err != nil || len(rules) != 1 {
			t.Fatalf("round %d: %d rules, %v", round, len(rules), err)
		}
		k.nft.DelTable(table)
		if err := k.nft.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
