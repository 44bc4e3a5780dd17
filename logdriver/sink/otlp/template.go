package otlp

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
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
	recordBody        = 5
	recordAttr        = 6
	recordObserved    = 11
	attrKey           = 1
	attrValue         = 2
	valueString       = 1
	valueBool         = 2
	valueBytes        = 7
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
}

func newTemplate(m *ship.Meta) *template {
	t := &template{group: web.Group{Stream: m.Stream, Container: m.ContainerName, Head: resource(m)}}
	for s, source := range [2]string{"stdout", "stderr"} {
		for c, cut := range [2]bool{false, true} {
			dst := appendAttr(nil, recordAttr, "log.iostream", source)
			if cut {
				dst = appendKeyValue(dst, recordAttr, "log.cut", []byte{valueBool << 3, 1})
			}
			dst = appendAttr(dst, recordAttr, "log.record.uid", valid(m.Stream)+"-"+offsetZeros)
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
		attrs = appendAttr(attrs, resourceAttr, wire.Unique(used, valid(a.Key), 0), a.Value)
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
	rest, body, ns := t.rest[source][cut], 1+protowire.SizeBytes(len(r.Line)), uint64(max(r.Time, 0))
	size := 2*(1+8) + 1 + protowire.SizeBytes(body) + len(rest) + offsetDigits
	dst = protowire.AppendVarint(append(dst, scopeLogsRecord<<3|2), uint64(size))
	dst = binary.LittleEndian.AppendUint64(append(dst, recordTime<<3|1), ns)
	dst = binary.LittleEndian.AppendUint64(append(dst, recordObserved<<3|1), ns)
	dst = protowire.AppendVarint(append(dst, recordBody<<3|2), uint64(body))
	dst = protowire.AppendBytes(append(dst, kind), r.Line)
	return stamp.AppendOffset(append(dst, rest...), r.Offset)
}
