package endpoint

import "sync"

// turns lets callers that name the same key go one after another. The zero
// value is ready.
type turns struct {
	mu   sync.Mutex // guards keys
	keys map[string]*turn
}

type turn struct {
	mu      sync.Mutex
	waiting int // guarded by turns.mu
}

// take waits for its turn and returns what ends it.
func (t *turns) take(key string) (done func()) {
	t.mu.Lock()
	if t.keys == nil {
		t.keys = map[string]*turn{}
	}
	k := t.keys[key]
	if k == nil {
		k = new(turn)
		t.keys[key] = k
	}
	k.waiting++
	t.mu.Unlock()
	k.mu.Lock()
	return func() {
		k.mu.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if k.waiting--; k.waiting == 0 {
			delete(t.keys, key)
		}
	}
}
