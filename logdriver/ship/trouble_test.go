package ship

import (
	"errors"
	"testing"
	"time"
)

// What goes on for a day is said at once, and then ever more seldom.
func TestComplaintIsSaidSeldom(t *testing.T) {
	var c complaint
	now, said, left := time.Now(), 0, 0
	for range 24 * 360 {
		if unsaid, ok := c.due(now); ok {
			said, left = said+1, left+unsaid
		}
		now = now.Add(10 * time.Second)
	}
	if said < 24 || said > 32 || said+left+c.unsaid != 24*360 {
		t.Errorf("said %d times, %d and %d times not", said, left, c.unsaid)
	}
	if _, ok := new(complaint).due(now); !ok {
		t.Error("the first time is not said")
	}
}

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
