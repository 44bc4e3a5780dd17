package ship

// Held is some records of one stream.
type Held struct {
	First, Last    int64 // the earliest and the latest time, in nanoseconds since 1970
	Records, Bytes uint64
}

func (h *Held) add(r *Record) {
	if h.Records == 0 || r.Stamped < h.First {
		h.First = r.Stamped
	}
	if h.Records == 0 || r.Stamped > h.Last {
		h.Last = r.Stamped
	}
	h.Records++
	h.Bytes += uint64(len(r.Line))
}

// tellHeld says what this collector has acknowledged of a stream.
func (l *lane) tellHeld(f *feed, h Held) {
	if told := l.pool.owner.Held; told != nil && h.Records > 0 {
		told(f.meta.Load(), l.pool.id, l.name, h)
	}
}
