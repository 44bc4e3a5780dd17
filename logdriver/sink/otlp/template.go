package otlp

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// Fields of opentelemetry-proto's logs, common and resource.
const (
	requestResource   = 1
	resourceLogsOf    = 1
	resourceLogsScope = 2
	resourceAttr      = 1
	scopeLogsScope    = 1
	scopeLogsRecord   = 2
	scopeName         = 1
	recordTime        = 1
	recordSeverity    = 2
	recordLevel       = 3
	recordBody        = 5
	recordAttr        = 6
	recordObserved    = 11
	attrKey           = 1
	attrValue         = 2
	valueString       = 1
	valueBool         = 2
	valueInt          = 3
	valueDouble       = 4
	valueBytes        = 7
)

// Attributes of a record that are ours.
const (
	attrSource = "log.iostream"
	attrID     = "log.record.uid"
	attrCut    = "log.cut"
)

const (
	// offsetDigits is how many the second half of a record's id has.
	offsetDigits = 16
	offsetZeros  = "0000000000000000"
)

// template makes records of one stream.
type template struct {
	group web.Group
	rest  [2][2][]byte // the attributes up to the offset in the id; by source, and whether cut
	names lifted.Names
	said  []byte // scratch for what the application says of a record
}

func newTemplate(m *ship.Meta) *template {
	t := &template{
		group: web.Group{Stream: m.Stream, Container: m.ContainerName, Head: resource(m)},
		names: lifted.Names{Encode: lifted.AppendValid, Mark: '~', Reserved: map[string]bool{attrSource: true, attrID: true, attrCut: true}},
	}
	for s, source := range [2]string{"stdout", "stderr"} {
		for c, cut := range [2]bool{false, true} {
			dst := appendAttr(nil, recordAttr, attrSource, source)
			if cut {
				dst = appendKeyValue(dst, recordAttr, attrCut, []byte{valueBool << 3, 1})
			}
			dst = appendAttr(dst, recordAttr, attrID, valid(m.Stream)+"-"+offsetZeros)
			t.rest[s][c] = slices.Clip(dst[:len(dst)-offsetDigits])
		}
	}
	return t
}

func (t *template) Group() *web.Group { return &t.group }

// resource is the field of a ResourceLogs that says what the records are of.
func resource(m *ship.Meta) []byte {
	used := map[string]bool{}
	for _, f := range field.All() {
		used[f.OTel] = true
	}
	var attrs []byte
	for _, a := range field.Resource(m.Fields(), m.Attrs) {
		used[a.Key] = true
		attrs = appendAttr(attrs, resourceAttr, a.Key, a.Value)
	}
	for _, a := range m.Attrs {
		attrs = appendAttr(attrs, resourceAttr, lifted.Unique(used, valid(a.Key), 0), a.Value)
	}
	dst := protowire.AppendTag(nil, resourceLogsOf, protowire.BytesType)
	return protowire.AppendBytes(dst, attrs)
}

// valid returns s with U+FFFD for each byte that is not UTF-8, which is what
// protobuf's strings are.
func valid(s string) string { return string([]rune(s)) }

func appendAttr(dst []byte, field protowire.Number, key, value string) []byte {
	text := protowire.AppendTag(nil, valueString, protowire.BytesType)
	return appendKeyValue(dst, field, key, protowire.AppendString(text, valid(value)))
}

func appendKeyValue(dst []byte, field protowire.Number, key string, value []byte) []byte {
	pair := protowire.AppendString(protowire.AppendTag(nil, attrKey, protowire.BytesType), key)
	pair = protowire.AppendBytes(protowire.AppendTag(pair, attrValue, protowire.BytesType), value)
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), pair)
}

// Append implements ship.Template: the field of a ScopeLogs that is a record.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	source, cut := 0, 0
	if r.Stderr {
		source = 1
	}
	if r.Cut {
		cut = 1
	}
	kind := byte(valueString<<3 | 2)
	if !utf8.Valid(r.Line) {
		kind = valueBytes<<3 | 2
	}
	rest, body := t.rest[source][cut], 1+protowire.SizeBytes(len(r.Line))
	said := t.say(r)
	size := 2*(1+8) + 1 + protowire.SizeBytes(body) + len(said) + len(rest) + offsetDigits
	dst = protowire.AppendVarint(append(dst, scopeLogsRecord<<3|2), uint64(size))
	dst = binary.LittleEndian.AppendUint64(append(dst, recordTime<<3|1), uint64(max(r.Time, 0)))
	dst = binary.LittleEndian.AppendUint64(append(dst, recordObserved<<3|1), uint64(max(r.Stamped, 0)))
	dst = protowire.AppendVarint(append(dst, recordBody<<3|2), uint64(body))
	dst = protowire.AppendBytes(append(dst, kind), r.Line)
	dst = append(dst, said...)
	return stamp.AppendOffset(append(dst, rest...), r.Offset)
}

// severities are SeverityNumbers by level, from none over trace to emergency: what
// the data model's appendix B has for the levels of most libraries, for which
// "fatal" and "critical" are the worst. What syslog has beyond these is worse still.
//
//nolint:gochecknoglobals // a constant
var severities = [...]byte{0, 1, 5, 9, 10, 13, 17, 21, 22, 23}

// say makes the fields that hold what the application says of a record.
func (t *template) say(r *ship.Record) []byte {
	t.said = t.said[:0]
	if r.Level != 0 {
		t.said = append(t.said, recordSeverity<<3, severities[r.Level])
		t.said = protowire.AppendString(append(t.said, recordLevel<<3|2), r.Level.String())
	}
	t.names.Reset()
	for i := range r.Fields {
		t.said = appendField(t.said, t.names.Next(r.Fields[i].Key), &r.Fields[i])
	}
	return t.said
}

// appendField appends an attribute with the value's own type: what is neither a
// number nor a boolean is a string, or bytes where that is not UTF-8.
func appendField(dst, name []byte, f *ship.Field) []byte {
	v, kind, size := lifted.Of(f), byte(valueString<<3|2), 0
	switch v.Kind {
	case lifted.Null: // a value without any
	case lifted.Bool:
		kind, size = valueBool<<3, 2
	case lifted.Int:
		kind, size = valueInt<<3, 1+protowire.SizeVarint(uint64(v.Int)) //nolint:gosec // two's complement, as int64 is encoded
	case lifted.Float:
		kind, size = valueDouble<<3|1, 1+8
	default:
		size = 1 + protowire.SizeBytes(len(f.Value))
		if !utf8.Valid(f.Value) {
			kind = valueBytes<<3 | 2
		}
	}
	pair := 1 + protowire.SizeBytes(len(name)) + 1 + protowire.SizeBytes(size)
	dst = protowire.AppendVarint(append(dst, recordAttr<<3|2), uint64(pair))
	dst = protowire.AppendBytes(append(dst, attrKey<<3|2), name)
	dst = protowire.AppendVarint(append(dst, attrValue<<3|2), uint64(size))
	switch v.Kind {
	case lifted.Null:
		return dst
	case lifted.Bool:
		return protowire.AppendVarint(append(dst, kind), protowire.EncodeBool(v.Bool))
	case lifted.Int:
		return protowire.AppendVarint(append(dst, kind), uint64(v.Int)) //nolint:gosec // two's complement
	case lifted.Float:
		return binary.LittleEndian.AppendUint64(append(dst, kind), math.Float64bits(v.Float))
	}
	return protowire.AppendBytes(append(dst, kind), f.Value)
}
