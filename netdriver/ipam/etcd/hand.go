package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// hands are the addresses that somebody works on, one goroutine of this process
// at a time: requests of the engine, which the Manager keeps from one another
// already, and the goroutine that compares, which waits for nobody.
type hands struct {
	mu sync.Mutex // guards all
	in map[place]chan struct{}
}

// try takes an address in hand if nobody has it there.
func (h *hands) try(at place) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.in[at] != nil {
		return false
	}
	h.in[at] = make(chan struct{})
	return true
}

// take waits for that. Who waits must have none in hand.
func (h *hands) take(ctx context.Context, at place) error {
	for !h.try(at) {
		h.mu.Lock()
		done := h.in[at]
		h.mu.Unlock()
		if done == nil {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, which is being compared with etcd: %w", at.addr, ctx.Err())
		}
	}
	return nil
}

// takeAny takes those in hand that can be had at once, or waits for the first.
func (h *hands) takeAny(ctx context.Context, all []place) (got []place, err error) {
	for _, at := range all {
		if h.try(at) {
			got = append(got, at)
		}
	}
	if len(got) > 0 {
		return got, nil
	}
	return all[:1], h.take(ctx, all[0])
}

func (h *hands) drop(all ...place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range all {
		close(h.in[at])
		delete(h.in, at)
	}
}

// alone is for the goroutine that compares: it does something about an address,
// unless a request of the engine does.
func (b *Backend) alone(at place, do func() error) error {
	if !b.hands.try(at) {
		return nil
	}
	defer b.hands.drop(at)
	return do()
}

// giveUpUnknown gives back a record of an address that the Manager does not know.
// That is looked at with the address in hand: from there on nobody of this host
// can get it before it is given back, or known not to be.
func (b *Backend) giveUpUnknown(ctx context.Context, client *clientv3.Client, at place, e entry, hold time.Duration) (done bool, err error) {
	err = b.alone(at, func() error {
		if _, known := b.wanted().addrs[at]; known {
			return nil
		}
		done = true
		return b.giveUp(ctx, client, at, e, hold)
	})
	return done, err
}
