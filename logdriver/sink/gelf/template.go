package gelf

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

const (
	// maxName bounds the names of additional fields, in bytes.
	maxName = 256
	// maxShort bounds what of the first of several lines is the short message.
	maxShort = 1 << 10
	// maxExact bounds what is sent of a line's exact bytes: in base64 it is just
	// below the longest value that Graylog's index takes for a field.
	maxExact = 24<<10 - 3
)

// reserved are names that no other field may have: those of ours, those that the
// specification forbids, and those that Graylog, which takes the underscore away,
// has something else behind.
func reserved() map[string]bool {
	names := map[string]bool{
		"_id": true, "_record_id": true, "_stream": true, "_cut": true, "_line_base64": true,
		"_version": true, "_host": true, "_short_message": true, "_full_message": true, "_timestamp": true, "_level": true,
		"_facility": true, "_line": true, "_file": true, "_message": true, "_source": true, "_streams": true,
	}
	for _, f := range field.All() {
		names["_"+f.Name] = true
	}
	return names
}

// template makes messages of one stream's records.
type template struct {
	stream, container string
	head              []byte    // up to the time
	source            [2][]byte // from behind the level up to the offset in the id
	fields            []byte    // from behind the offset
	names             lifted.Names
}

func newTemplate(m *ship.Meta) *template {
	host := m.Host
	if host == "" {
		host = "-" // there has to be one
	}
	t := &template{
		stream: m.Stream, container: m.ContainerName,
		head:  append(jsontext.AppendField([]byte(`{"version":"1.1",`), "host", host), `"timestamp":`...),
		names: lifted.Names{Encode: appendName, Reserved: reserved(), Mark: '_'},
	}
	for i, source := range [2]string{"stdout", "stderr"} {
		dst := []byte(`,"_stream":"` + source + `","_record_id":"`)
		dst, _ = jsontext.Append(dst, []byte(m.Stream))
		t.source[i] = append(dst, '-')
	}
	t.fields = []byte(`",`)
	for _, f := range m.Fields() {
		if f.Key != field.Host {
			t.fields = jsontext.AppendField(t.fields, "_"+f.Key, f.Value)
		}
	}
	for _, a := range m.Attrs {
		t.fields = jsontext.AppendField(t.fields, string(t.names.Next([]byte(a.Key))), a.Value)
	}
	t.names = lifted.Names{Encode: appendName, Reserved: taken(m.Attrs), Mark: '_'}
	return t
}

// taken are the names that what is lifted out of a line may not have.
func taken(attrs []ship.Attr) map[string]bool {
	names := reserved()
	own := lifted.Names{Encode: appendName, Reserved: reserved(), Mark: '_'}
	for _, a := range attrs {
		names[string(own.Next([]byte(a.Key)))] = true
	}
	return names
}

// appendName appends the name of an additional field: ^_[\w\.\-]*$. Without
// anything behind the underscore, Graylog could not keep it.
func appendName(dst, key []byte) []byte {
	from := len(dst)
	dst = append(dst, '_')
	if len(key) == 0 {
		dst = append(dst, "field"...)
	}
	for _, r := range string(key) {
		if r != '_' && r != '.' && r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			r = '_'
		}
		dst = append(dst, byte(r)) //nolint:gosec // it is ASCII
	}
	return dst[:min(len(dst), from+maxName)]
}

// Append implements ship.Template.
func (t *template) Append(dst []byte, r *ship.Record) []byte {
	dst = appendTime(append(dst, t.head...), r.Time)
	dst = append(append(dst, `,"level":`...), '0'+byte(rfc5424.Severity(r)))
	source := t.source[0]
	if r.Stderr {
		source = t.source[1]
	}
	dst = stamp.AppendOffset(append(dst, source...), r.Offset)
	dst = append(dst, t.fields...)
	if len(r.Fields) > 0 {
		dst = t.appendFields(dst, r.Fields)
	}
	if r.Cut {
		dst = append(dst, `"_cut":"true",`...)
	}
	return append(appendLine(dst, r.Line), '}')
}

// appendTime appends seconds since 1970, exactly.
func appendTime(dst []byte, ns int64) []byte {
	const second = uint64(time.Second)
	abs := uint64(ns)
	if ns < 0 {
		dst, abs = append(dst, '-'), -abs
	}
	dst = append(strconv.AppendUint(dst, abs/second, 10), '.')
	at := len(dst)
	dst = strconv.AppendUint(dst, second+abs%second, 10) // ten digits, the first is 1
	return append(dst[:at], dst[at+1:]...)
}

// appendFields appends what was lifted out of the line. Values are strings and
// numbers, there are no others in GELF.
func (t *template) appendFields(dst []byte, fields []ship.Field) []byte {
	t.names.Reset()
	for i := range fields {
		f := &fields[i]
		dst = append(append(append(dst, '"'), t.names.Next(f.Key)...), `":`...)
		if kind := lifted.Of(f).Kind; kind == lifted.Int || kind == lifted.Float {
			dst = append(append(dst, f.Value...), ',')
			continue
		}
		dst, _ = jsontext.Append(append(dst, '"'), f.Value)
		dst = append(dst, `",`...)
	}
	return dst
}

// appendLine appends the messages. Graylog refuses an empty short message.
func appendLine(dst, line []byte) []byte {
	short, valid := line, true
	if blank(line) || bytes.IndexByte(line, '\n') >= 0 {
		dst, valid = jsontext.Append(append(dst, `"full_message":"`...), line)
		dst = append(dst, `",`...)
		short = first(line)
	}
	dst, ok := jsontext.Append(append(dst, `"short_message":"`...), short)
	if !ok || !valid {
		dst = append(dst, `","_line_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, line[:min(len(line), maxExact)])
	}
	return append(dst, '"')
}

var nothing = []byte{'-'} // the short message of what is blank

// first returns what stands for several lines, or for nothing at all.
func first(line []byte) []byte {
	for len(line) > 0 {
		var one []byte
		one, line, _ = bytes.Cut(line, []byte{'\n'})
		if !blank(one) {
			if len(one) > maxShort {
				one = one[:wire.RuneEnd(one, maxShort)]
			}
			return one
		}
	}
	return nothing
}

// blank reports whether there is nothing to see in a line.
func blank(line []byte) bool {
	if len(line) > 0 && line[0] > ' ' && line[0] < utf8.RuneSelf {
		return false
	}
	return bytes.IndexFunc(line, func(r rune) bool { return r > ' ' && !unicode.IsSpace(r) }) < 0
}
