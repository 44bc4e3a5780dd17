package kernel

import (
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"testing"
)

// in runs a command in the handle's namespace.
func (k *Kernel) in(t *testing.T, name string, args ...string) {
	t.Helper()
	err := k.Within(func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
}

// Where packets end, in whatever form the firewall is, and by which hooks they
// come there.
func TestDrops(t *testing.T) {
	k := inNamespace(t)
	k.in(t, "nft", `add table ip t
		add chain ip t far
		add chain ip t near { type filter hook input priority 0; policy drop; }
		add chain ip t through { type filter hook forward priority 0; }
		add chain ip t lost
		add rule ip t far icmp type echo-request counter drop comment "ping"
		add rule ip t far counter icmp type echo-request drop
		add rule ip t far reject
		add rule ip t near ip saddr vmap { 10.0.0.1 : jump far, 10.0.0.2 : drop }
		add rule ip t through goto far
		add rule ip t lost counter drop`)
	for _, iptables := range []string{"iptables-legacy", "ip6tables-legacy"} {
		k.in(t, iptables, "-N", "mine")
		k.in(t, iptables, "-A", "mine", "-p", "tcp", "-j", "ACCEPT")
		k.in(t, iptables, "-A", "mine", "-p", "udp", "--dport", "53", "-j", "REJECT")
		k.in(t, iptables, "-A", "FORWARD", "-j", "mine")
		k.in(t, iptables, "-A", "FORWARD", "-j", "DROP", "-c", "7", "99")
		k.in(t, iptables, "-P", "OUTPUT", "DROP")
	}
	k.in(t, "iptables-legacy", "-t", "raw", "-A", "PREROUTING", "-s", "10.0.0.9", "-j", "DROP")
	got, err := k.Drops()
	if err != nil {
		t.Fatal(err)
	}
	want := []Drop{
		{Family: "ip", Table: "t", Chain: "far", Hook: "input,forward", Verdict: "drop", Comment: "ping", Counted: true},
		{Family: "ip", Table: "t", Chain: "far", Hook: "input,forward", Verdict: "drop"},
		{Family: "ip", Table: "t", Chain: "far", Hook: "input,forward", Verdict: "reject"},
		{Family: "ip", Table: "t", Chain: "near", Hook: "input", Verdict: "drop"},
		{Family: "ip", Table: "t", Chain: "near", Hook: "input", Verdict: "drop"}, // the policy
		{Family: "ip", Table: "t", Chain: "lost", Verdict: "drop", Counted: true},
		{Family: "ip", Table: "raw", Chain: "PREROUTING", Handle: 1, Hook: "prerouting", Verdict: "drop", Counted: true, Legacy: true},
	}
	for _, f := range []string{"ip", "ip6"} {
		want = append(want,
			Drop{Family: f, Table: "filter", Chain: "FORWARD", Handle: 2, Hook: "forward", Verdict: "drop", Counted: true, Packets: 7, Legacy: true},
			Drop{Family: f, Table: "filter", Chain: "OUTPUT", Hook: "output", Verdict: "drop", Counted: true, Legacy: true},
			Drop{Family: f, Table: "filter", Chain: "mine", Handle: 2, Hook: "forward", Verdict: "reject", Counted: true, Legacy: true},
		)
	}
	for _, d := range got {
		if !d.Legacy {
			d.Handle = 0 // nft gives them out
		}
		if i := slices.Index(want, d); i >= 0 {
			want = slices.Delete(want, i, i+1)
		} else {
			t.Errorf("there is no %+v", d)
		}
	}
	if len(want) > 0 {
		t.Errorf("not found: %+v", want)
	}
}

// To look for tables of the legacy form makes none.
func TestLegacyTablesAreNotMade(t *testing.T) {
	k := inNamespace(t)
	if drops, err := k.Drops(); err != nil || len(drops) > 0 {
		t.Errorf("%v, %v", drops, err)
	}
	k.in(t, "sh", "-c", "! grep . /proc/net/ip_tables_names /proc/net/ip6_tables_names")
}

func TestDropsSince(t *testing.T) {
	at := func(chain string, handle, packets uint64) Drop {
		return Drop{Family: "ip", Table: "t", Chain: chain, Handle: handle, Verdict: "drop", Counted: true, Packets: packets}
	}
	legacy := at("a", 1, 9)
	legacy.Legacy = true
	before := []Drop{at("a", 1, 5), at("a", 2, 5), at("b", 1, 5), legacy}
	after := []Drop{at("a", 1, 8), at("a", 2, 5), at("b", 1, 2), at("c", 1, 4), legacy}
	for _, c := range []struct {
		whole bool
		want  []Drop
	}{
		{true, []Drop{at("a", 1, 3), at("b", 1, 2), at("c", 1, 4)}}, // b begins anew, c is new
		{false, []Drop{at("a", 1, 3), at("b", 1, 2)}},               // c may have counted for days
	} {
		if got := DropsSince(before, after, c.whole); !slices.Equal(got, c.want) {
			t.Errorf("whole %v: %+v, not %+v", c.whole, got, c.want)
		}
	}
}

// What the kernel gives out is read within its bounds.
func FuzzLegacyTable(f *testing.F) {
	rule := make([]byte, 112+40)
	binary.NativeEndian.PutUint16(rule[88:], 112)
	binary.NativeEndian.PutUint16(rule[90:], uint16(len(rule)))
	f.Add(rule, uint32(3), uint32(0))
	f.Add(rule[:100], uint32(31), uint32(200))
	f.Fuzz(func(t *testing.T, rules []byte, hooks, begin uint32) {
		table := legacyTable{hooks: hooks, rules: rules}
		table.begin[1], table.underflow[2] = begin, begin
		for _, family := range legacyFamilies {
			for _, d := range table.drops(family, "t") {
				if d.Verdict == "" {
					t.Errorf("%+v ends nothing", d)
				}
			}
		}
	})
}
