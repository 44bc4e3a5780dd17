package wire

import "sync"

// MaxStrange is how many records in a row a collector may refuse before it is
// taken for one that refuses all.
const MaxStrange = 16

// Trust is how many refusals are taken for what they say, though nothing else
// shows that the collector is set up rightly. At first it is none.
type Trust struct {
	mu   sync.Mutex // guards left
	left int
}

// Restore is for a collector that has taken something.
func (t *Trust) Restore() { t.mu.Lock(); defer t.mu.Unlock(); t.left = MaxStrange }

// Spend reports whether so many more refusals are believed.
func (t *Trust) Spend(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left < n {
		return false
	}
	t.left -= n
	return true
}
