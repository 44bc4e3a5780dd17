package dispatch

import (
	"sync"
	"testing"
)

func TestKeyLock(t *testing.T) {
	var l keyLock
	unlockA := l.lock("a")
	l.lock("b")() // another key's does not wait
	counts := map[string]*int{"a": new(int), "c": new(int)}
	var all sync.WaitGroup
	for key, n := range counts {
		for range 50 {
			all.Go(func() {
				defer l.lock(key)()
				*n++ // the race detector sees two at a time
			})
		}
	}
	unlockA()
	all.Wait()
	if *counts["a"] != 50 || *counts["c"] != 50 || len(l.held) != 0 {
		t.Errorf("counted %d and %d of 50, %d keys left", *counts["a"], *counts["c"], len(l.held))
	}
}
