package pluginlog

import "time"

// Seldom is for what may go on for days, and is said at once, and then ever more
// seldom: after a minute, two, four, and at last every hour. The zero value is
// ready for use, by one goroutine at a time.
type Seldom struct {
	next   time.Time
	pause  time.Duration
	unsaid int
}

const (
	firstPause = time.Minute
	mostPause  = time.Hour
)

// Due reports whether it is to be said now, and how often it was not since it was.
// What was not to be said for a while is new.
func (s *Seldom) Due(now time.Time) (unsaid int, due bool) {
	if now.Before(s.next) {
		s.unsaid++
		return 0, false
	}
	if now.Sub(s.next) > s.pause {
		s.pause = 0
	}
	unsaid, s.unsaid = s.unsaid, 0
	s.pause = min(max(2*s.pause, firstPause), mostPause)
	s.next = now.Add(s.pause)
	return unsaid, true
}

// Pause is how long it is not said from the last time on.
func (s *Seldom) Pause() time.Duration { return s.pause }
