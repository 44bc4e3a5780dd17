package reconcile

import (
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

func TestMissing(t *testing.T) {
	here, away := kernel.Link{Name: "dlc-x"}, kernel.Link{Name: "whatever", Away: true}
	for _, tc := range []struct {
		name      string
		bridge    bool
		links     []kernel.Link
		elsewhere bool
		gone      bool
		proven    bool
	}{
		{"macvlan in its sandbox", false, nil, true, false, false},
		{"macvlan that is nowhere", false, nil, false, true, false},
		{"macvlan that stayed or came back", false, []kernel.Link{here}, false, true, true},
		{"pair with one end in a sandbox", true, []kernel.Link{away}, true, false, true},
		{"pair that stayed or came back", true, []kernel.Link{here, here}, false, true, true},
		{"pair that died with its sandbox", true, nil, false, true, true},
	} {
		if gone, proven := missing(tc.bridge, tc.links, tc.elsewhere); gone != tc.gone || gone && proven != tc.proven {
			t.Errorf("%s: gone %v, proven %v", tc.name, gone, proven)
		}
	}
}
