package etcd

import (
	"maps"
	"strings"
	"testing"
)

// What both hosts say of a shared network has to be the same, whichever of them
// says it first, and also after etcd has lost what was said.
func TestASharedDefinition(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := newHost(t, "a", s.endpoint), newHost(t, "b", s.endpoint)
	pa := a.pool(subnet, "share", "lan")
	pb := b.pool("", "share", "lan")
	first := map[string]string{"mode": "macvlan", "vlan": "7", "parent": "eth0", "aux-address": "10.0.0.2"}
	ok(t, a.Agree(pa.Prefix, first))
	for name, tc := range map[string]struct{ key, value, says string }{
		"another mode":         {"mode", "bridge", `share "lan" has mode=macvlan on host host-a`},
		"another VLAN":         {"vlan", "none", "has vlan=7 on host host-a"},
		"another parent":       {"parent", "eth1", "not eth1; where the interfaces have other names"},
		"set aside":            {"aux-address", "10.0.0.3", "not 10.0.0.3; leave it out here"},
		"the same":             {"mode", "macvlan", ""},
		"what b does not say":  {"aux-address", "", ""},
		"what a does not say":  {"isolated_ports", "true", ""},
		"and a's, once more":   {"mode", "macvlan", ""},
		"and b differs, again": {"mode", "bridge", "has mode=macvlan"},
	} {
		ours := maps.Clone(first)
		if ours[tc.key] = tc.value; tc.value == "" {
			delete(ours, tc.key)
		}
		err := b.Agree(pb.Prefix, ours)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok(t, b.Agree(pb.Prefix, first))
	if err := a.Agree(pa.Prefix, map[string]string{"mode": "bridge"}); err == nil || !strings.Contains(err.Error(), "on host host-b") {
		t.Errorf("a changes its mind: %v", err)
	}
	c := newHost(t, "c", s.endpoint)
	other := c.pool("10.1.0.0/24")
	ok(t, c.Agree(other.Prefix, map[string]string{"mode": "bridge"})) // which shares nothing
}
