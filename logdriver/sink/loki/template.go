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
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/web"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
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
	// maxMetadata bounds what of a stream becomes metadata; Loki's
	// max_structured_metadata_size is 64 KB with line_base64.
	maxMetadata = 16 << 10
	maxExact    = 32 << 10
	// offsetDigits is how many the second half of a record's id has.
	offsetDigits = 16
	offsetZeros  = "0000000000000000"
)

// template makes entries of one stream's records.
type template struct {
	group web.Group
	rest  [2][2][]byte // the metadata up to the offset in the id; by source, and whether cut
	fixed []byte       // scratch for a line that is not UTF-8
}

func newTemplate(m *ship.Meta, labels []string) *template {
	head, metadata := divide(m, labels)
	t := &template{group: web.Group{Stream: m.Stream, Container: m.ContainerName, Head: head}}
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

// divide returns the labels as a stream has them, and the rest as metadata.
func divide(m *ship.Meta, labels []string) (head, metadata []byte) {
	values := m.Fields()
	used := map[string]bool{"id": true, "source": true, "cut": true, "line_base64": true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	var set []string
	for i, v := range append(values, m.Attrs...) {
		key, value := name(v.Key), shorten(valid(v.Value))
		if i >= len(values) {
			key = strings.ReplaceAll(wire.Unique(used, key, 0), "~", "_")
		}
		switch {
		case value == "":
		case slices.Contains(labels, v.Key):
			set = append(set, key+"="+strconv.Quote(value))
		case len(metadata) < maxMetadata:
			metadata = appendPair(metadata, key, value)
		}
	}
	if len(set) == 0 {
		set = []string{`job="dockline"`} // there has to be one
	}
	head = protowire.AppendTag(nil, streamLabels, protowire.BytesType)
	return protowire.AppendString(head, "{"+strings.Join(set, ", ")+"}"), metadata
}

// name returns s as the name of a label has to be.
func name(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return s[:min(len(s), maxValue/2)]
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

func appendPair(dst []byte, name, value string) []byte {
	dst = protowire.AppendTag(dst, entryMetadata, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(2+protowire.SizeBytes(len(name))+protowire.SizeBytes(len(value))))
	dst = protowire.AppendString(protowire.AppendTag(dst, pairName, protowire.BytesType), name)
	return protowire.AppendString(protowire.AppendTag(dst, pairValue, protowire.BytesType), value)
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
	line, exact := r.Line, 0
	if !utf8.Valid(line) {
		line = t.repair(line)
		exact = exactSize(len(r.Line))
	}
	seconds, nanos := split(r.Time)
	moment := protowire.SizeVarint(seconds) + protowire.SizeVarint(nanos) + 2
	rest := t.rest[source][cut]
	size := 2 + moment + 1 + protowire.SizeBytes(len(line)) + len(rest) + offsetDigits + exact
	dst = protowire.AppendVarint(append(dst, streamEntry<<3|2), uint64(size))
	dst = append(dst, entryTime<<3|2, byte(moment), timeSeconds<<3)
	dst = protowire.AppendVarint(dst, seconds)
	dst = protowire.AppendVarint(append(dst, timeNanos<<3), nanos)
	dst = protowire.AppendBytes(append(dst, entryLine<<3|2), line)
	dst = stamp.AppendOffset(append(dst, rest...), r.Offset)
	if exact > 0 {
		dst = appendExact(dst, r.Line)
	}
	return dst
}

// split is the time as a Timestamp has it, nanos being at least 0.
func split(ns int64) (seconds, nanos uint64) {
	s, n := ns/int64(time.Second), ns%int64(time.Second)
	if n < 0 {
		s, n = s-1, n+int64(time.Second)
	}
	return uint64(s), uint64(n)
}

// repair returns the line with U+FFFD where it is not UTF-8.
func (t *template) repair(line []byte) []byte {
	t.fixed = t.fixed[:0]
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		t.fixed = utf8.AppendRune(t.fixed, r)
		line = line[size:]
	}
	return t.fixed
}

const exactName = "line_base64"

// exactSize is how long what appendExact appends is.
func exactSize(n int) int {
	text := base64.StdEncoding.EncodedLen(min(n, maxExact))
	return 1 + protowire.SizeBytes(2+protowire.SizeBytes(len(exactName))+protowire.SizeBytes(text))
}

func appendExact(dst, line []byte) []byte {
	line = line[:min(len(line), maxExact)]
	text := base64.StdEncoding.EncodedLen(len(line))
	dst = protowire.AppendVarint(append(dst, entryMetadata<<3|2), uint64(2+protowire.SizeBytes(len(exactName))+protowire.SizeBytes(text)))
	dst = protowire.AppendString(append(dst, pairName<<3|2), exactName)
	dst = protowire.AppendVarint(append(dst, pairValue<<3|2), uint64(text))
	return base64.StdEncoding.AppendEncode(dst, line)
}
