package ship

import "time"

// Trouble is why a collector is not reached, or was not before it is well again. A
// connection that ends while nothing is under way is none.
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

// sayTrouble says, every now and then, that an attempt was in vain.
func (l *lane) sayTrouble(err error, pause time.Duration) {
	if unsaid, due := l.fails.Due(time.Now()); due {
		l.log.Warn("collector is not reached; its records wait in the spool or go to the next in rank",
			"err", err, "retry_in", pause.Round(time.Millisecond), "not_said", unsaid, "said_again_after", l.fails.Pause())
	}
}

// calmAfter is for how long a connection holds until what follows is said at once.
const calmAfter = time.Minute
