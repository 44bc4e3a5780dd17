package wire

import (
	"bytes"
	"sync"

	"github.com/dockline/dockline/logdriver/ship"
)

// maxKept bounds what is kept of a refused record, in bytes.
const maxKept = 64 << 10

// Kept returns what is kept of a record that is refused.
func Kept(encoded []byte) []byte { return bytes.Clone(encoded[:min(len(encoded), maxKept)]) }

// Refusals are the records of a connection that its collector will never take, or
// no message has room for. They are told when what they were in a batch with is
// acknowledged.
type Refusals struct {
	mu   sync.Mutex // guards what follows
	all  []refusal
	told uint64 // batches that Wait has told
}

type refusal struct {
	batch uint64 // the number of the one that it was in, from 1
	ship.Refusal
}

// Add notes those of the batch with this number, counted from 1.
func (r *Refusals) Add(batch uint64, refused ...ship.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range refused {
		r.all = append(r.all, refusal{batch, one})
	}
}

// Tell notes how many batches Wait returns as acknowledged.
func (r *Refusals) Tell(acked uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = acked
}

// Refused is ship.Refuser's.
func (r *Refusals) Refused() (told []ship.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rest []refusal
	for _, one := range r.all {
		if one.batch <= r.told {
			told = append(told, one.Refusal)
		} else {
			rest = append(rest, one)
		}
	}
	r.all = rest
	return told
}
