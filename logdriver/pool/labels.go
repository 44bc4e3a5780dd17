package pool

import (
	"fmt"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Labels gives pools names for people: the ids of those that are lists of
// collectors are long and may hold credentials.
type Labels struct {
	mu sync.Mutex // guards by
	by map[string]string
}

// maxLabels bounds how many are kept: they can be made again.
const maxLabels = 1000

// Of returns what a pool is called.
func (l *Labels) Of(id string) string {
	if !strings.Contains(id, "://") {
		return id // a name
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	label, ok := l.by[id]
	if !ok {
		if l.by == nil || len(l.by) >= maxLabels {
			l.by = map[string]string{}
		}
		label = fmt.Sprintf("list-%08x", uint32(xxhash.Sum64String(id)))
		l.by[id] = label
	}
	return label
}
