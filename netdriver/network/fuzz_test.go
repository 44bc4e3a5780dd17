package network

import (
	"errors"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
)

// Options are KEY=VALUE, one a line. What is accepted is within the kernel's
// bounds, what is refused is said in words that name the key.
func FuzzParse(f *testing.F) {
	for _, o := range []string{
		"parent=eth0", "mode=bridge\nuplink=eth1\nmtu=9000", "mode=bridge\nhost_access=true", "mode=macvlan\nmacvlan_mode=bridge",
		"com.docker.network.bridge.name=br-0\nmode=bridge", "com.docker.network.container_iface_prefix=net", "mtu=-1", "paret=eth0", "allow_overlap=maybe",
	} {
		f.Add(o, true)
	}
	f.Fuzz(func(t *testing.T, lines string, v6 bool) {
		o := map[string]string{}
		for line := range strings.Lines(lines) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			o[key] = value
		}
		d, err := Parse(Request{ID: "n", Options: o, IPv6: v6})
		var value *options.ValueError
		switch {
		case errors.As(err, &value):
			if _, given := o[value.Key]; !given {
				t.Errorf("%q: the error names %q", o, value.Key)
			}
		case err != nil: // an unknown key
		case d.Mode == Bridge && d.BridgeName == "" || len(d.BridgeName) > 15 || len(d.Parent) > 15 || len(d.IfPrefix) > 11 || strings.ContainsAny(d.BridgeName+d.Parent+d.IfPrefix, "/: \t\n"):
			t.Errorf("%q makes %+v", o, d)
		case d.MTU != 0 && (d.MTU < minMTU || d.MTU > maxMTU || v6 && d.MTU < minMTUIPv6):
			t.Errorf("%q makes %+v", o, d)
		}
		_ = NeedsNoGateway(o, v6)
	})
}
