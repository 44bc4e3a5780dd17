package wire

import (
	"context"
	"sync"
)

// maxReuse is what a batch may have grown to and still be used again, in bytes.
const maxReuse = 4 << 20

// Handover passes the batches of a connection from Send to those who deliver them
// beside it, and back to be filled again.
type Handover[B any] struct {
	ledger *Ledger
	queue  chan *B
	ctx    context.Context // ends with Fail
	cancel context.CancelFunc

	mu   sync.Mutex // guards free
	free []*B
}

// NewHandover has room for so many batches that nobody delivers yet.
func NewHandover[B any](ledger *Ledger, queued int) *Handover[B] {
	h := &Handover[B]{ledger: ledger, queue: make(chan *B, queued)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Context ends when the connection is of no more use.
func (h *Handover[B]) Context() context.Context { return h.ctx }

// Fail ends the connection; the first error is the one that is told.
func (h *Handover[B]) Fail(err error) {
	h.ledger.Fail(err)
	h.cancel()
}

// Put hands over a batch that the ledger knows to begin.
func (h *Handover[B]) Put(ctx context.Context, b *B) error {
	select {
	case h.queue <- b:
		return h.ledger.Commit()
	case <-h.ctx.Done():
		return h.ledger.Err()
	case <-ctx.Done():
		h.ledger.Fail(ctx.Err())
		return ctx.Err()
	}
}

// Next returns the next batch to deliver, nil when there is none any more.
func (h *Handover[B]) Next() *B {
	select {
	case b := <-h.queue:
		return b
	case <-h.ctx.Done():
		return nil
	}
}

// Spare returns a batch to fill, which may have been filled before.
func (h *Handover[B]) Spare() *B {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.free)
	if n == 0 {
		return new(B)
	}
	b := h.free[n-1]
	h.free = h.free[:n-1]
	return b
}

// Keep takes back a batch that is delivered, which is so many bytes large.
func (h *Handover[B]) Keep(b *B, size int) {
	if size > maxReuse {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = append(h.free, b)
}
