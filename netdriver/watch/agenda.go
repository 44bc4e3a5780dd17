package watch

import (
	"container/heap"
	"time"
)

// agenda is what is to be done when, the earliest first; of two for the same
// moment the one that was added first.
type agenda struct {
	items []item
	added uint64
}

type item struct {
	at    time.Time
	order uint64
	do    func()
}

func (a *agenda) add(at time.Time, do func()) {
	a.added++
	heap.Push(a, item{at, a.added, do})
}

// next removes and returns what is due, or nil and how long nothing is.
func (a *agenda) next(now time.Time) (do func(), wait time.Duration) {
	if len(a.items) == 0 {
		return nil, time.Hour
	}
	if wait = a.items[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	due, _ := heap.Pop(a).(item)
	return due.do, 0
}

// Len, Less, Swap, Push and Pop are container/heap's.
func (a *agenda) Len() int { return len(a.items) }

// Less orders by time.
func (a *agenda) Less(i, j int) bool {
	x, y := &a.items[i], &a.items[j]
	return x.at.Before(y.at) || x.at.Equal(y.at) && x.order < y.order
}

// Swap swaps two items.
func (a *agenda) Swap(i, j int) { a.items[i], a.items[j] = a.items[j], a.items[i] }

// Push appends an item.
func (a *agenda) Push(x any) {
	if it, ok := x.(item); ok {
		a.items = append(a.items, it)
	}
}

// Pop removes the last item.
func (a *agenda) Pop() any {
	last := a.items[len(a.items)-1]
	a.items[len(a.items)-1] = item{}
	a.items = a.items[:len(a.items)-1]
	return last
}
