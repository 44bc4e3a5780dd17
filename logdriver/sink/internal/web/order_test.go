package web

import (
	"context"
	"testing"
)

// TestOrderIsByStream: a stream gets another group when what is known of it changes.
func TestOrderIsByStream(t *testing.T) {
	var o order
	batchOf := func(streams ...string) *batch {
		b := new(batch)
		for _, s := range streams {
			b.records = append(b.records, Record{Group: &Group{Stream: s}})
		}
		o.begin(b)
		return b
	}
	free := func(b *batch) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, over := range b.turn.after {
			select {
			case <-over:
			default:
				return b.first(ctx)
			}
		}
		return true
	}
	first, second, other := batchOf("a", "b"), batchOf("b", "c", "b"), batchOf("d")
	if !free(first) || free(second) || !free(other) {
		t.Error("batches of one stream are under way together")
	}
	o.end(first)
	if !free(second) {
		t.Error("it waits for what is over")
	}
	o.end(second)
	o.end(other)
	if len(o.last) > 0 {
		t.Errorf("%d streams are remembered", len(o.last))
	}
}
