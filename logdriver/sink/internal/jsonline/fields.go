package jsonline

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/jsontext"
)

// appendFields appends the fields under their key, and a comma.
func appendFields(dst []byte, fields []ship.Field) []byte {
	return append(AppendFields(append(dst, `"fields":`...), fields), ',')
}

// AppendFields appends an object with the fields, of which there is at least one.
// Of names that are the same, all but the first get a number.
func AppendFields(dst []byte, fields []ship.Field) []byte {
	dst = append(dst, '{')
	for i := range fields {
		f := &fields[i]
		dst, _ = jsontext.Append(append(dst, '"'), f.Key)
		if n := number(fields, i); n > 1 {
			dst = strconv.AppendInt(append(dst, '~'), int64(n), 10)
		}
		dst = appendJSON(append(dst, `":`...), f)
		dst = append(dst, ',')
	}
	dst[len(dst)-1] = '}' // instead of the last comma
	return dst
}

func number(fields []ship.Field, i int) int {
	n := 1
	for j := range i {
		if bytes.Equal(fields[j].Key, fields[i].Key) {
			n++
		}
	}
	return n
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
