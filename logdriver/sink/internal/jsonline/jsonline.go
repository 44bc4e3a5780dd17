// Package jsonline makes records into JSON objects, each on one line: what the sinks
// have in common that send JSON of our own. Package jsonl lists the keys.
package jsonline

import (
	"encoding/base64"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
	"github.com/dockline/dockline/logdriver/sink/internal/stamp"
)

const timeHead = `{"time":"`

// Template makes objects of one stream's records.
type Template struct {
	source [2][]byte // from behind the time to the offset in the id
	fields []byte    // from behind the offset up to cut
	clock  stamp.Cache
	lifted Fields
}

// New returns the template of a stream.
func New(m *ship.Meta) *Template {
	t := &Template{clock: stamp.New(), fields: fields(m), lifted: NewFields()}
	for i, source := range [2]string{"stdout", "stderr"} {
		dst := []byte(`","stream":"` + source + `","id":"`)
		dst, _ = jsontext.Append(dst, []byte(m.Stream))
		t.source[i] = append(dst, '-')
	}
	return t
}

// fields encodes what is the same for all records of a stream.
func fields(m *ship.Meta) []byte {
	dst := jsontext.AppendField([]byte(`",`), field.Host, m.Host)
	for _, f := range m.Fields() {
		if f.Key != field.Host {
			dst = jsontext.AppendField(dst, f.Key, f.Value)
		}
	}
	return appendAttrs(dst, m.Attrs)
}

// appendAttrs appends the attributes. Decoders keep only the last of several
// equal keys, so that a key which is there already gets a number.
func appendAttrs(dst []byte, attrs []ship.Attr) []byte {
	if len(attrs) == 0 {
		return dst
	}
	dst = append(dst, `"attrs":{`...)
	used := make(map[string]bool, len(attrs))
	for _, a := range attrs {
		dst = jsontext.AppendField(dst, lifted.Unique(used, string([]rune(a.Key)), 0), a.Value)
	}
	dst[len(dst)-1] = '}' // instead of the last comma
	return append(dst, ',')
}

// Append implements ship.Template.
func (t *Template) Append(dst []byte, r *ship.Record) []byte {
	source := t.source[0]
	if r.Stderr {
		source = t.source[1]
	}
	dst = t.clock.AppendNano(append(dst, timeHead...), r.Time)
	dst = stamp.AppendOffset(append(dst, source...), r.Offset)
	dst = append(dst, t.fields...)
	if r.Level != 0 {
		dst = append(append(append(dst, `"level":"`...), r.Level.String()...), `",`...)
	}
	if len(r.Fields) > 0 {
		dst = append(t.lifted.Append(append(dst, `"fields":`...), r.Fields), ',')
	}
	if r.Cut {
		dst = append(dst, `"cut":true,`...)
	}
	dst, valid := jsontext.Append(append(dst, `"message":"`...), r.Line)
	if !valid {
		dst = append(dst, `","message_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Line)
	}
	return append(dst, `"}`...)
}
