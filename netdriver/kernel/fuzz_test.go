package kernel

import "testing"

// An alias can be set by anybody; what is taken for ours must be what we write.
func FuzzOwner(f *testing.F) {
	for _, alias := range []string{"", self.NetworkAlias("n"), self.EndpointAlias("n", "e"), "dockline:5e1f:endpoint:n", "dockline:5e1f:network:a:b"} {
		f.Add(alias)
	}
	f.Fuzz(func(t *testing.T, alias string) {
		o, ours := self.Owner(alias)
		if !ours {
			return
		}
		again := self.NetworkAlias(o.Network)
		if o.Endpoint != "" {
			again = self.EndpointAlias(o.Network, o.Endpoint)
		}
		if o.Network == "" || again != alias || !IsAlias(alias) {
			t.Errorf("%q is of %+v, whose alias is %q", alias, o, again)
		}
	})
}

// What the kernel answers is read within its bounds.
func FuzzParseAddr(f *testing.F) {
	f.Add([]byte{2, 24, 0, 0, 3, 0, 0, 0, 8, 0, 2, 0, 10, 1, 0, 7})
	f.Add([]byte{2, 24})
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, _, err := parseAddr(data); err != nil && p.IsValid() {
			t.Errorf("%x is %v and %v", data, p, err)
		}
	})
}
