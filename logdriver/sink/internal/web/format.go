package web

import (
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

// Format is one protocol's way to put records into requests.
type Format interface {
	// Type is the media type of its bodies.
	Type() string
	// Body appends the body of a request with these records, which are of one
	// batch, whose text is given, and in its order.
	Body(dst, text []byte, records []Record) []byte
	// Judge reads what the collector answered to a request with n records that it
	// has taken. An error is one of its own, or of the connection.
	Judge(answer []byte, n int) (Verdict, error)
}

// Verdict is what a collector that has taken a request says of its records. Those
// that are not named are taken.
type Verdict struct {
	Refused []Refused // it will never take them
	Busy    []int     // it takes them later; in order
	Why     string    // it was busy
	Partial int       // so many more are refused, it does not say which
	Reason  string    // of Partial
}

// Refused is one record that is refused.
type Refused struct {
	Index  int
	Class  string
	Reason string
}

// Classes of refusals.
const (
	Invalid  = "invalid"
	TooLarge = "too-large"
	Partial  = "partial"
	Failing  = "failing" // the collector fails at it, for ever
)

// Group is what all records of one template have in common. A template has one
// for life, and it is used by one goroutine at a time.
type Group struct {
	Stream    string
	Container string
	Head      []byte // what the format puts before the records of a group
}

// Template is a ship.Template of a Format's.
type Template interface {
	ship.Template
	Group() *Group
}

// Record is one record of a batch.
type Record struct {
	Group    *Group
	Offset   uint64
	from, to int // where in the batch's text it is
}

// Text is the record as its template made it.
func (r *Record) Text(text []byte) []byte { return text[r.from:r.to] }

// id is the record's id.
func (r *Record) id() string {
	return string(stamp.AppendOffset([]byte(r.Group.Stream+"-"), r.Offset))
}

// AppendText appends the texts of records one behind the other.
func AppendText(dst, text []byte, records []Record) []byte {
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].from == records[n-1].to {
			n++
		}
		dst = append(dst, text[records[0].from:records[n-1].to]...)
		records = records[n:]
	}
	return dst
}

// batch is what Send was given, until it is acknowledged.
type batch struct {
	number  uint64 // since Dial
	text    []byte
	records []Record
	turn    turn
}

func (b *batch) add(t Template, r *ship.Record, from, to int) {
	b.records = append(b.records, Record{Group: t.Group(), Offset: r.Offset, from: from, to: to})
}

// Gather calls each with the records of every group, which are in order, one
// group after the other in the order of their first records. The slice is each's
// until it returns.
func Gather(records []Record, each func(g *Group, of []Record)) {
	n := 0
	for n < len(records) && records[n].Group == records[0].Group {
		n++
	}
	if n < len(records) {
		gatherMixed(records, each)
	} else if n > 0 {
		each(records[0].Group, records)
	}
}

// gatherMixed is Gather where there is more than one group.
func gatherMixed(records []Record, each func(g *Group, of []Record)) {
	at := make(map[*Group]int)
	var order []*Group
	counts := []int{}
	for i := range records {
		g := records[i].Group
		n, seen := at[g]
		if !seen {
			n = len(order)
			at[g] = n
			order, counts = append(order, g), append(counts, 0)
		}
		counts[n]++
	}
	sorted := make([]Record, len(records))
	next := make([]int, len(order))
	for i := 1; i < len(order); i++ {
		next[i] = next[i-1] + counts[i-1]
	}
	for _, r := range records {
		n := at[r.Group]
		sorted[next[n]] = r
		next[n]++
	}
	start := 0
	for i, g := range order {
		each(g, sorted[start:next[i]])
		start = next[i]
	}
}

// Builder makes the body of one request, for tests of formats.
type Builder struct{ batch batch }

// Append adds a record.
func (b *Builder) Append(t Template, r *ship.Record) {
	from := len(b.batch.text)
	b.batch.text = t.Append(b.batch.text, r)
	b.batch.add(t, r, from, len(b.batch.text))
}

// Body returns the body as a format makes it.
func (b *Builder) Body(f Format) []byte { return f.Body(nil, b.batch.text, b.batch.records) }
