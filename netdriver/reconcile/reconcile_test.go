package reconcile

import (
	"errors"
	"testing"
	"time"

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

func TestRest(t *testing.T) {
	for _, tc := range []struct {
		name string
		rep  Report
		err  error
		want time.Duration
	}{
		{"nothing to do", Report{Took: 50 * time.Millisecond}, nil, time.Second},
		{"nothing to do, quickly", Report{Took: time.Millisecond}, nil, restMin},
		{"nothing to do, slowly", Report{Took: time.Second}, nil, restMax},
		{"much to do", Report{Took: time.Second, Repaired: 500}, nil, time.Second},
		{"too much", Report{Took: time.Minute, Repaired: 500}, nil, restMax},
		{"an error", Report{Repaired: 1}, errors.New("no"), restMax},
	} {
		if got := restAfter(tc.rep, tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
