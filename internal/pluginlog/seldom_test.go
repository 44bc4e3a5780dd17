package pluginlog

import (
	"testing"
	"time"
)

// What goes on for a day is said at once, and then ever more seldom.
func TestSeldom(t *testing.T) {
	var s Seldom
	now, said, left := time.Now(), 0, 0
	for range 24 * 360 {
		if unsaid, due := s.Due(now); due {
			said, left = said+1, left+unsaid
		}
		now = now.Add(10 * time.Second)
	}
	if said < 24 || said > 32 || said+left+s.unsaid != 24*360 {
		t.Errorf("said %d times, %d and %d times not", said, left, s.unsaid)
	}
	now = now.Add(3 * time.Hour)
	if _, due := s.Due(now); !due || s.Pause() != firstPause {
		t.Errorf("what is new is said at once: %v, and again after %v", due, s.Pause())
	}
}
