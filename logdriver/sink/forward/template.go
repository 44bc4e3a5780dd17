package forward

import (
	"math"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

// noTag is what records go by that have no tag, for there has to be one.
const noTag = "docker"

// offsetDigits is how many the second half of a record's id has.
const offsetDigits = 16

// template makes entries of one stream's records: [time, map].
type template struct {
	tag  string
	head [2][2][]byte // the map's pairs up to the offset in the id; by source, and whether cut
	size [2]uint32    // how many pairs the map has; by whether cut
	line []byte       // what is between the offset and the line

	names lifted.Names
}

func newTemplate(m *ship.Meta, tag string) *template {
	t := &template{tag: tag, line: msgp.AppendString(nil, "log"), names: lifted.Names{Encode: lifted.AppendValid, Mark: '~'}}
	for _, candidate := range []string{m.Tag, m.ContainerName, noTag} {
		if t.tag == "" {
			t.tag = candidate
		}
	}
	t.tag = t.tag[:min(len(t.tag), maxTag)]
	for s, source := range [2]string{"stdout", "stderr"} {
		for c, cut := range [2]bool{false, true} {
			t.head[s][c], t.size[c] = head(m, source, cut)
		}
	}
	return t
}

// head is what is the same for all records, with the id last, and how many pairs
// the map has with the line.
func head(m *ship.Meta, source string, cut bool) (dst []byte, size uint32) {
	fields := append([]ship.Attr{{Key: "source", Value: source}}, m.Fields()...)
	// A container must not forge the id that collectors tell duplicates by, nor
	// anything else of ours.
	used := map[string]bool{"log": true, "source": true, "id": true, "cut": true, "level": true, "fields": true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	for _, a := range m.Attrs {
		fields = append(fields, ship.Attr{Key: lifted.Unique(used, valid(a.Key), 0), Value: a.Value})
	}
	size = uint32(len(fields) + 2) //nolint:gosec // and id and log
	for _, f := range fields {
		dst = msgp.AppendString(msgp.AppendString(dst, f.Key), valid(f.Value))
	}
	if cut {
		dst = msgp.AppendBool(msgp.AppendString(dst, "cut"), true)
		size++
	}
	stream := valid(m.Stream)
	dst = appendStringHeader(msgp.AppendString(dst, "id"), len(stream)+1+offsetDigits)
	return append(append(dst, stream...), '-'), size
}

// valid returns s with U+FFFD for each byte that is not UTF-8, which is what
// msgpack's strings are.
func valid(s string) string { return string([]rune(s)) }

// appendStringHeader appends what comes before a string of n bytes.
func appendStringHeader(dst []byte, n int) []byte {
	whole := msgp.AppendStringFromBytes(nil, make([]byte, n))
	return append(dst, whole[:len(whole)-n]...)
}

// Append implements ship.Template.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	source, cut := 0, 0
	if r.Stderr {
		source = 1
	}
	if r.Cut {
		cut = 1
	}
	dst = appendTime(append(dst, 0x92), r.Time) // an array of two
	size := t.size[cut]
	if r.Level != 0 {
		size++
	}
	if len(r.Fields) > 0 {
		size++
	}
	dst = append(msgp.AppendMapHeader(dst, size), t.head[source][cut]...)
	dst = stamp.AppendOffset(dst, r.Offset)
	if r.Level != 0 {
		dst = msgp.AppendString(msgp.AppendString(dst, "level"), r.Level.String())
	}
	if len(r.Fields) > 0 {
		dst = t.appendFields(dst, r.Fields)
	}
	return appendText(append(dst, t.line...), r.Line)
}

// appendText appends a string, or bytes where it is not UTF-8.
func appendText(dst, text []byte) []byte {
	if utf8.Valid(text) {
		return msgp.AppendStringFromBytes(dst, text)
	}
	return msgp.AppendBytes(dst, text)
}

// appendFields appends a map of what was lifted out of a line, each value in its
// own type; arrays and objects are strings.
func (t *template) appendFields(dst []byte, fields []ship.Field) []byte {
	dst = msgp.AppendMapHeader(msgp.AppendString(dst, "fields"), uint32(len(fields))) //nolint:gosec // they are few
	t.names.Reset()
	for i := range fields {
		dst = msgp.AppendStringFromBytes(dst, t.names.Next(fields[i].Key))
		switch v := lifted.Of(&fields[i]); v.Kind {
		case lifted.Null:
			dst = msgp.AppendNil(dst)
		case lifted.Bool:
			dst = msgp.AppendBool(dst, v.Bool)
		case lifted.Int:
			dst = msgp.AppendInt64(dst, v.Int)
		case lifted.Float:
			dst = msgp.AppendFloat64(dst, v.Float)
		default:
			dst = appendText(dst, fields[i].Value)
		}
	}
	return dst
}

// appendTime appends an EventTime: ext type 0, with seconds and nanoseconds in
// 32 bits each. Before 1970 and after 2106 it knows no time.
func appendTime(dst []byte, ns int64) []byte {
	sec, rest := ns/int64(time.Second), ns%int64(time.Second)
	switch {
	case ns < 0:
		sec, rest = 0, 0
	case sec > math.MaxUint32:
		sec, rest = math.MaxUint32, int64(time.Second)-1
	}
	return append(dst, 0xd7, 0x00, // fixext 8, type 0
		byte(sec>>24), byte(sec>>16), byte(sec>>8), byte(sec),
		byte(rest>>24), byte(rest>>16), byte(rest>>8), byte(rest))
}
