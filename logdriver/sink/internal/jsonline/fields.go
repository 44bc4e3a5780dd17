package jsonline

import (
	"bytes"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
)

// Fields makes objects of the fields of records.
type Fields struct{ names lifted.Names }

// NewFields returns one for a template.
func NewFields() Fields { return Fields{lifted.Names{Encode: appendName, Mark: '~'}} }

func appendName(dst, key []byte) []byte {
	dst, _ = jsontext.Append(dst, key)
	return dst
}

// Append appends an object with the fields, of which there is at least one. Of
// names that are the same, all but the first get a number.
func (o *Fields) Append(dst []byte, fields []ship.Field) []byte {
	o.names.Reset()
	dst = append(dst, '{')
	for i := range fields {
		f := &fields[i]
		dst = append(append(append(dst, '"'), o.names.Next(f.Key)...), `":`...)
		dst = append(appendJSON(dst, f), ',')
	}
	dst[len(dst)-1] = '}' // instead of the last comma
	return dst
}

// appendJSON appends a field's value. JSON that would not go into one line of
// UTF-8 is sent as a string.
func appendJSON(dst []byte, f *ship.Field) []byte {
	if f.Raw && bytes.IndexByte(f.Value, '\n') < 0 && utf8.Valid(f.Value) {
		return append(dst, f.Value...)
	}
	dst, _ = jsontext.Append(append(dst, '"'), f.Value)
	return append(dst, '"')
}
