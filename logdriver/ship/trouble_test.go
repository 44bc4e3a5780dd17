package ship

import (
	"errors"
	"testing"
)

// The trouble is the last, since the first.
func TestTroubleIsSinceTheFirst(t *testing.T) {
	l := newLane(Collector{Name: "a", Sink: narrow{}}, quiet, &Stats{}, nil)
	l.inTrouble(errors.New("refused"))
	first := l.trouble.Load().Since
	l.inTrouble(errors.New("no route"))
	if got := *l.trouble.Load(); got.Err != "no route" || !got.Since.Equal(first) {
		t.Errorf("%+v, not since %v", got, first)
	}
}
