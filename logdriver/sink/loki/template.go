package loki

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// Fields of Loki's pkg/push/push.proto.
const (
	requestStream = 1
	streamLabels  = 1
	streamEntry   = 2
	entryTime     = 1
	entryLine     = 2
	entryMetadata = 3
	pairName      = 1
	pairValue     = 2
	timeSeconds   = 1
	timeNanos     = 2
)

const (
	// maxValue bounds the value of a label or of metadata, in bytes: Loki's
	// max_label_value_length.
	maxValue = 2048
	// maxMetadata bounds what of a stream becomes metadata, and what was lifted out
	// of a line; Loki's max_structured_metadata_size is 64 KB with line_base64.
	maxMetadata = 16 << 10
	maxExact    = 32 << 10
	// maxPairs bounds how many each may be; Loki's
	// max_structured_metadata_entries_count is 128 with those that are a record's.
	maxPairs = 60
	// offsetDigits is how many the second half of a record's id has.
	offsetDigits = 16
	offsetZeros  = "0000000000000000"
)

// template makes entries of one stream's records.
type template struct {
	group web.Group
	rest  [2][2][]byte // the metadata up to the offset in the id; by source, and whether cut
	names lifted.Names
	fixed []byte // scratch for a line that is not sent as it is
	said  []byte // scratch for what the application says of a record
	value []byte // scratch for a value that is not UTF-8
}

func newTemplate(m *ship.Meta, labels []string) *template {
	head, metadata, used := divide(m, labels)
	t := &template{
		group: web.Group{Stream: m.Stream, Container: m.ContainerName, Head: head},
		names: lifted.Names{Encode: appendName, Mark: '_', Reserved: used},
	}
	for s, source := range [2]string{"stdout", "stderr"} {
		for c, cut := range [2]bool{false, true} {
			dst := appendPair(slices.Clone(metadata), "source", source)
			if cut {
				dst = appendPair(dst, "cut", "true")
			}
			dst = appendPair(dst, "id", valid(m.Stream)+"-"+offsetZeros)
			t.rest[s][c] = dst[:len(dst)-offsetDigits]
		}
	}
	return t
}

func (t *template) Group() *web.Group { return &t.group }

// divide returns the labels as a stream has them, the rest as metadata, and all
// names that are taken.
func divide(m *ship.Meta, labels []string) (head, metadata []byte, used map[string]bool) {
	used = map[string]bool{"id": true, "source": true, "cut": true, "level": true, "time": true, exactName: true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	values, pairs := m.Fields(), 0
	fields := len(values)
	var set []string
	for i, v := range append(values, m.Attrs...) {
		key, value := name(v.Key), shorten(valid(v.Value))
		if i >= fields {
			key = strings.ReplaceAll(lifted.Unique(used, key, 0), "~", "_")
		}
		switch {
		case value == "":
		case slices.Contains(labels, v.Key):
			set = append(set, key+"="+strconv.Quote(value))
		case len(metadata) < maxMetadata && pairs < maxPairs:
			metadata = appendPair(metadata, key, value)
			pairs++
		}
	}
	if len(set) == 0 {
		set = []string{`job="dockline"`} // there has to be one
	}
	head = protowire.AppendTag(nil, streamLabels, protowire.BytesType)
	return protowire.AppendString(head, "{"+strings.Join(set, ", ")+"}"), metadata, used
}

// name returns s as the name of a label has to be.
func name(s string) string { return string(appendName(nil, []byte(s))) }

// appendName appends s as the name of a label has to be.
func appendName(dst, s []byte) []byte {
	from := len(dst)
	if len(s) == 0 || s[0] >= '0' && s[0] <= '9' {
		dst = append(dst, '_')
	}
	for _, r := range string(s) {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			r = '_'
		}
		dst = append(dst, byte(r)) //nolint:gosec // it is ASCII
	}
	return dst[:min(len(dst), from+maxValue/2)]
}

// valid returns s with U+FFFD for each byte that is not UTF-8.
func valid(s string) string { return string([]rune(s)) }

func shorten(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func appendPair[text string | []byte](dst []byte, name, value text) []byte {
	dst = protowire.AppendTag(dst, entryMetadata, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(2+protowire.SizeBytes(len(name))+protowire.SizeBytes(len(value))))
	dst = protowire.AppendVarint(append(dst, pairName<<3|2), uint64(len(name)))
	dst = protowire.AppendVarint(append(append(dst, name...), pairValue<<3|2), uint64(len(value)))
	return append(dst, value...)
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
	line, exact := t.line(r)
	said := t.said
	if exact > 0 {
		exact = max(min(exact, maxExact-len(said)), 0)
		said = appendExact(said, r.Line[:exact])
		t.said = said[:0]
	}
	seconds, nanos := split(at(r))
	moment := protowire.SizeVarint(seconds) + protowire.SizeVarint(nanos) + 2
	rest := t.rest[source][cut]
	size := 2 + moment + 1 + protowire.SizeBytes(len(line)) + len(said) + len(rest) + offsetDigits
	dst = protowire.AppendVarint(append(dst, streamEntry<<3|2), uint64(size))
	dst = append(dst, entryTime<<3|2, byte(moment), timeSeconds<<3)
	dst = protowire.AppendVarint(dst, seconds)
	dst = protowire.AppendVarint(append(dst, timeNanos<<3), nanos)
	dst = protowire.AppendBytes(append(dst, entryLine<<3|2), line)
	return stamp.AppendOffset(append(append(dst, said...), rest...), r.Offset)
}

// Measure implements ship.Measurer: what Loki bounds is the line, with what is put
// behind it.
func (t *template) Measure(r *ship.Record) int {
	line, _ := t.line(r)
	return len(line)
}

// line returns the line of a record's entry, having made its metadata, and how much
// of the record's own is to be kept as it was.
func (t *template) line(r *ship.Record) (line []byte, exact int) {
	line = r.Line
	if !utf8.Valid(line) {
		t.fixed = lifted.AppendValid(t.fixed[:0], line)
		line, exact = t.fixed, min(len(line), maxExact)
	}
	return t.say(r, line), exact
}

// say makes the metadata of what the application says of a record. What there is
// no room for is put behind the line instead, which is returned.
func (t *template) say(r *ship.Record, line []byte) []byte {
	t.said = t.said[:0]
	t.names.Reset()
	behind := false
	if r.Level != 0 {
		t.said = appendPair(t.said, "level", r.Level.String())
	}
	if at(r) != r.Time {
		t.value = time.Unix(0, r.Time).UTC().AppendFormat(t.value[:0], time.RFC3339Nano)
		t.said = appendPair(t.said, timeName, t.value)
	}
	for i := range r.Fields {
		key, value := t.names.Next(r.Fields[i].Key), r.Fields[i].Value
		switch {
		case len(value) == 0: // the same as none
		case i >= maxPairs || len(t.said)+len(key)+len(value) > maxMetadata:
			if !behind {
				t.fixed, behind = append(t.fixed[:0], line...), true
			}
			t.fixed = append(append(t.fixed, ' '), key...)
			t.fixed, _ = jsontext.Append(append(t.fixed, `="`...), value)
			t.fixed = append(t.fixed, '"')
			line = t.fixed
		default:
			if !utf8.Valid(value) {
				t.value = lifted.AppendValid(t.value[:0], value)
				value = t.value
			}
			t.said = appendPair(t.said, key, value)
		}
	}
	return line
}

// astray is how far what the application says may be from the engine's time and
// still be the entry's. Loki refuses what is more than an hour older than the
// newest of the same labels, and nobody could repair the record's time.
const astray = 15 * time.Minute

// at returns the time of a record's entry, in nanoseconds since 1970.
func at(r *ship.Record) int64 {
	if d := r.Time - r.Stamped; r.Stamped != 0 && (d > int64(astray) || d < -int64(astray)) {
		return r.Stamped
	}
	return r.Time
}

// split is the time as a Timestamp has it, nanos being at least 0.
func split(ns int64) (seconds, nanos uint64) {
	s, n := ns/int64(time.Second), ns%int64(time.Second)
	if n < 0 {
		s, n = s-1, n+int64(time.Second)
	}
	return uint64(s), uint64(n)
}

const exactName = "line_base64"

var timeName = []byte("time")

func appendExact(dst, line []byte) []byte {
	text := base64.StdEncoding.EncodedLen(len(line))
	dst = protowire.AppendVarint(append(dst, entryMetadata<<3|2), uint64(2+protowire.SizeBytes(len(exactName))+protowire.SizeBytes(text)))
	dst = protowire.AppendString(append(dst, pairName<<3|2), exactName)
	dst = protowire.AppendVarint(append(dst, pairValue<<3|2), uint64(text))
	return base64.StdEncoding.AppendEncode(dst, line)
}
