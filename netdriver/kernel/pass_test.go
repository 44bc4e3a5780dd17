package kernel

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

func TestOurBridgesBringTheHostNoRouterAdvertisement(t *testing.T) {
	k := inNamespace(t)
	guarded := func() (bridges []string) {
		table := &nftables.Table{Family: nftables.TableFamilyIPv6, Name: "dockline-" + string(self)}
		rules, _ := k.nft.GetRules(table, &nftables.Chain{Table: table, Name: "input"})
		for _, r := range rules {
			b, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			bridges = append(bridges, b)
		}
		return bridges
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
		{nil, nil},
	} {
		for range 2 {
			if err := k.SyncPass(step.want); err != nil {
				t.Fatal(err)
			}
			if got := guarded(); !slices.Equal(got, step.guards) {
				t.Errorf("%v: guards %v", step.want, got)
			}
		}
	}
}
