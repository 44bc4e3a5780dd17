package ship

// Source is one stream of the spool on one route, as ship reads it. Its
// methods but Ack and AckRanges are called by one goroutine at a time.
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
	// AckRanges notes that the route has acknowledged these offsets, at most
	// MaxRanges ranges beyond the cursor, which moves on as soon as nothing is
	// missing before it, and makes that survive the process.
	AckRanges(ranges ...Range) error
	// Unacknowledged returns the first offsets at or behind offset that the route
	// has not acknowledged; To is math.MaxUint64 where all behind From are.
	Unacknowledged(offset uint64) Range
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

// MaxRanges bounds how many ranges a Source notes beyond its cursor.
const MaxRanges = 1000

// Range is the offsets from From up to, not including, To.
type Range struct{ From, To uint64 }

// Key says which collector of a pool takes a stream's records.
type Key struct {
	Value      string // what the ranking is computed from
	PerRecord  bool   // each record is placed by its own id instead
	SplitAbove int64  // bytes per second beyond which the key is spread over several collectors; 0: never
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
	// Places is over how many of its own places a cluster, which is the only
	// collector then, may spread a heavy key; 0 where the collectors are the places.
	Places int
	// Share returns the one of names, which are in the order of the key's
	// ranking, that has a heavy key in a time slice. Nil where keys are not split.
	Share func(key string, names []string, slice uint64) string
	// Among returns what picks, of the collectors with these names, the first in
	// a key's ranking, "" where there is none. It is called for every record, by
	// one goroutine. Nil where records are not spread.
	Among func(names []string) func(key []byte) string
}
