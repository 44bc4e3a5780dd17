package record

import "sync/atomic"

// Budget bounds the memory of records that are open, over all streams that
// share it. Where it is used up they are given out in pieces. It is about bytes of
// text: the buffers that hold them may be twice as large. Nil is no bound.
type Budget struct {
	Most int64
	used atomic.Int64
}

// Full reports whether so many bytes more are too many.
func (b *Budget) Full(more int) bool { return b != nil && b.used.Load()+int64(more) > b.Most }

// Add counts bytes as used, or, below zero, as used no longer.
func (b *Budget) Add(bytes int) {
	if b != nil && bytes != 0 {
		b.used.Add(int64(bytes))
	}
}

// Used returns how many bytes are.
func (b *Budget) Used() int64 { return b.used.Load() }
