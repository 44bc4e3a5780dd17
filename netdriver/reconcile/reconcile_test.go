package reconcile

import (
	"testing"

	"github.com/dockline/dockline/netdriver/kernel"
)

func TestAbandoned(t *testing.T) {
	here, away := kernel.Link{Name: "dlc-x"}, kernel.Link{Name: "whatever", Away: true}
	for _, tc := range []struct {
		name   string
		bridge bool
		links  []kernel.Link
		want   bool
	}{
		{"macvlan in its sandbox", false, nil, false},
		{"macvlan that stayed or came back", false, []kernel.Link{here}, true},
		{"pair with one end in a sandbox", true, []kernel.Link{away}, false},
		{"pair that stayed or came back", true, []kernel.Link{here, here}, true},
		{"pair that died with its sandbox", true, nil, true},
	} {
		if got := abandoned(tc.bridge, tc.links); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
