package dispatch

import "sync"

// keyLock is one lock for each key. There is nothing of a key that nobody
// holds or waits for. The zero value is ready.
type keyLock struct {
	mu   sync.Mutex // guards held and the users in it
	held map[string]*keyHolder
}

type keyHolder struct {
	mu    sync.Mutex
	users int // who hold it or wait for it
}

// lock waits for the key and returns what gives it back.
func (l *keyLock) lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*keyHolder{}
	}
	h := l.held[key]
	if h == nil {
		h = &keyHolder{}
		l.held[key] = h
	}
	h.users++
	l.mu.Unlock()
	h.mu.Lock()
	return func() {
		h.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.held, key)
		}
	}
}
