package web

import (
	"context"
	"sync"
)

// order keeps batches apart that have records of the same stream.
type order struct {
	mu   sync.Mutex               // guards last
	last map[string]chan struct{} // by stream, which may have more than one group; closed when the last batch so far with it is over
}

// turn is when a batch may be sent.
type turn struct {
	after []chan struct{}
	over  chan struct{} // nil: at any time
}

// begin queues a batch behind those before it. They are taken from the queue
// before it is, so that each gets its turn.
func (o *order) begin(b *batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[string]chan struct{}{}
	}
	b.turn.after, b.turn.over = b.turn.after[:0], make(chan struct{})
	var g *Group
	for i := range b.records {
		if b.records[i].Group == g {
			continue
		}
		g = b.records[i].Group
		before := o.last[g.Stream]
		if before == b.turn.over {
			continue
		}
		if before != nil {
			b.turn.after = append(b.turn.after, before)
		}
		o.last[g.Stream] = b.turn.over
	}
}

// first waits for a batch's turn, and reports whether it has come.
func (b *batch) first(ctx context.Context) bool {
	for _, over := range b.turn.after {
		select {
		case <-over:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// end lets those behind a batch go.
func (o *order) end(b *batch) {
	if b.turn.over == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range b.records {
		if s := b.records[i].Group.Stream; o.last[s] == b.turn.over {
			delete(o.last, s)
		}
	}
	close(b.turn.over)
}
