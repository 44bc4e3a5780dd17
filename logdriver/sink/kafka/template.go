package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsonline"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

// template makes the messages of one stream's records.
type template struct {
	topic     string
	container string
	stream    string
	key       []byte // nil: each record's is its id
	place     int    // see ship.Spreader
	json      *jsonline.Template
	fields    jsonline.Fields
	headers   []kgo.RecordHeader // of all records; nil where they have no more than the id
	clock     stamp.Cache
	measured  batch // of Measure
}

func newTemplate(c *cluster, m *ship.Meta) *template {
	t := &template{topic: c.topic.of(m), container: m.ContainerName, stream: m.Stream, clock: stamp.New(), fields: jsonline.NewFields()}
	if !m.PerRecord {
		t.key = []byte(m.Key)
	}
	if !c.lines {
		t.json = jsonline.New(m)
	}
	if c.allHeaders {
		t.headers = headers(m)
	}
	return t
}

// headers are those that are the same for all records of a stream.
func headers(m *ship.Meta) []kgo.RecordHeader {
	// A container must not forge the id that consumers tell duplicates by, nor
	// anything else of ours.
	used := map[string]bool{"id": true, "time": true, "source": true, "level": true, "fields": true, "cut": true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	all := []kgo.RecordHeader{}
	for _, f := range m.Fields() {
		all = append(all, kgo.RecordHeader{Key: f.Key, Value: []byte(f.Value)})
	}
	for _, a := range m.Attrs {
		all = append(all, kgo.RecordHeader{Key: lifted.Unique(used, string([]rune(a.Key)), 0), Value: []byte(a.Value)})
	}
	return all
}

// Spread implements ship.Spreader.
func (t *template) Spread(place int) { t.place = place }

// Append implements ship.Template: it appends the message's value.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	if t.json == nil {
		return append(dst, r.Line...)
	}
	return t.json.Append(dst, r)
}

// Measure implements ship.Measurer: key and headers count, too.
func (t *template) Measure(r *ship.Record) int {
	b := &t.measured
	b.reset()
	b.text = t.Append(b.text[:0], r)
	id := t.appendID(b, r)
	t.appendHeaders(b, id, r)
	return footprint(t.keyOr(id), b.text, b.headers)
}

// appendID appends the record's id to b.notes.
func (t *template) appendID(b *batch, r *ship.Record) []byte {
	from := len(b.notes)
	b.notes = stamp.AppendOffset(append(append(b.notes, t.stream...), '-'), r.Offset)
	return b.note(from)
}

// keyOr is the key of a record with that id.
func (t *template) keyOr(id []byte) []byte {
	if t.key == nil {
		return id
	}
	return t.key
}

// sources are the values of the header source.
var sources = [2][]byte{[]byte("stdout"), []byte("stderr")} //nolint:gochecknoglobals // a table

var yes = []byte("true") //nolint:gochecknoglobals // a constant

// appendHeaders appends the headers of a record. Their text goes to b.notes.
func (t *template) appendHeaders(b *batch, id []byte, r *ship.Record) {
	b.headers = append(b.headers, kgo.RecordHeader{Key: "id", Value: id})
	if t.headers == nil {
		return
	}
	from := len(b.notes)
	b.notes = t.clock.AppendNano(b.notes, r.Time)
	b.headers = append(b.headers, kgo.RecordHeader{Key: "time", Value: b.note(from)})
	source := sources[0]
	if r.Stderr {
		source = sources[1]
	}
	b.headers = append(append(b.headers, kgo.RecordHeader{Key: "source", Value: source}), t.headers...)
	if r.Level != 0 {
		from = len(b.notes)
		b.notes = append(b.notes, r.Level.String()...)
		b.headers = append(b.headers, kgo.RecordHeader{Key: "level", Value: b.note(from)})
	}
	if len(r.Fields) > 0 && t.json == nil {
		from = len(b.notes)
		b.notes = t.fields.Append(b.notes, r.Fields)
		b.headers = append(b.headers, kgo.RecordHeader{Key: "fields", Value: b.note(from)})
	}
	if r.Cut {
		b.headers = append(b.headers, kgo.RecordHeader{Key: "cut", Value: yes})
	}
}

// maxApart is how far what an application says may be from the engine's time and
// still be the message's: brokers keep messages for some time behind that, and
// refuse what is too far ahead.
const maxApart = int64(time.Hour)

// stampOf is a record's time as messages have it: milliseconds, and none before 1970.
func stampOf(r *ship.Record) time.Time {
	ns := r.Time
	if apart := ns - r.Stamped; r.Stamped != 0 && (apart > maxApart || apart < -maxApart) {
		ns = r.Stamped
	}
	return time.UnixMilli(max(0, ns/int64(time.Millisecond)))
}
