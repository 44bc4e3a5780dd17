package ship

// Source is one stream of the spool on one route, as ship reads it. Its
// methods but Ack are called by one goroutine at a time.
type Source interface {
	// Read reads bytes from offset on into p, all of one session; io.EOF means
	// that there are none at or behind offset. Another error that has a method
	// SkipTo() uint64 says where reading can go on if it does not pass.
	Read(p []byte, offset uint64) (Span, error)
	// Release gives back what Read keeps open; Read may be called again.
	Release()
	// Pending reports whether there are bytes at or behind offset.
	Pending(offset uint64) bool
	// Cursor returns the offset up to which the route has acknowledged the stream.
	Cursor() uint64
	// Ack moves the cursor on and makes that survive the process.
	Ack(offset uint64) error
	// Mark tells that the first frame at or behind edge, which a Span named,
	// begins at offset and was written at time.
	Mark(edge, offset uint64, time int64)
	// Quarantine puts aside bytes that cannot be understood.
	Quarantine(offset uint64, data []byte) error
	// Live reports whether more bytes may come.
	Live() bool
	// Watch has fn called when there is more to read or a session has ended,
	// until stop is called. fn does not block.
	Watch(fn func()) (stop func())
}

// Span says what a Read returned.
type Span struct {
	From    uint64 // offset of the first byte; above what was asked for where older bytes are gone
	Len     int    // bytes read
	Session uint32 // who wrote them; frames do not cross from one session to another
	Final   bool   // no more bytes of that session follow

	Lost uint64 // bytes that are gone between what was asked for and From
	Torn bool   // From is not known to be the beginning of a frame

	Unmarked bool // the first frame at or behind Edge wants to be marked
	Edge     uint64
}

// Collector is one member of a pool.
type Collector struct {
	Name string // its identity in the ranking
	ID   string // one with another id is another, which has to be connected to anew
	Sink Sink
}

// Pool is a set of collectors and the order in which a key prefers them.
type Pool struct {
	ID         string // pools with the same id are one
	Collectors []Collector
	Rank       func(key string) []string // names of the collectors that take the key, best first; may be empty
}
