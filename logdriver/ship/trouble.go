package ship

import "time"

// Trouble is why a collector is not reached, or was not before it is well again.
type Trouble struct {
	Since time.Time // the first attempt in vain since it acknowledged anything
	Err   string    // of the last one
}

// inTrouble notes an attempt in vain.
func (l *lane) inTrouble(err error) {
	now := Trouble{time.Now(), err.Error()}
	if was := l.trouble.Load(); was != nil {
		now.Since = was.Since
	}
	l.trouble.Store(&now)
}

const (
	firstQuiet = time.Minute // between the first two times that it is said
	mostQuiet  = time.Hour
	calmAfter  = time.Minute // of a good connection, what follows is said at once
)

// complaint is what is said again and again of something that goes on: ever more
// seldom. The zero value is said at once.
type complaint struct {
	next   time.Time
	pause  time.Duration
	unsaid int
}

// due reports whether it is to be said now, and how often it was not since it was.
func (c *complaint) due(now time.Time) (unsaid int, ok bool) {
	if now.Before(c.next) {
		c.unsaid++
		return 0, false
	}
	unsaid, c.unsaid = c.unsaid, 0
	c.pause = min(max(2*c.pause, firstQuiet), mostQuiet)
	c.next = now.Add(c.pause)
	return unsaid, true
}
