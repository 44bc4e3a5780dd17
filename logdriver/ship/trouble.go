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

// calmAfter is for how long a connection holds until what follows is said at once.
const calmAfter = time.Minute
