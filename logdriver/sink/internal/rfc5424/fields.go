package rfc5424

import (
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
)

// appendFields appends an element with the fields. Names that are the same, as
// far as syslog can tell them apart, get a number.
func (t *Template) appendFields(dst []byte, fields []ship.Field) []byte {
	dst = append(dst, "["+fieldsID...)
	t.names.Reset()
	for i := range fields {
		dst = append(append(dst, ' '), t.names.Next(fields[i].Key)...)
		dst = append(dst, '=', '"')
		dst = append(appendBytes(dst, fields[i].Value), '"')
	}
	return append(dst, ']')
}

// appendName appends key as an SD-NAME.
func appendName(dst, key []byte) []byte {
	if len(key) == 0 {
		return append(dst, '_')
	}
	for _, c := range key {
		dst = append(dst, nameByte(c))
	}
	return dst
}

// nameByte returns what stands for a byte in an SD-NAME (RFC 5424 section 6).
func nameByte(c byte) byte {
	if c <= ' ' || c > '~' || c == '=' || c == ']' || c == '"' {
		return '_'
	}
	return c
}

// appendBytes is appendValue for bytes.
func appendBytes(dst, value []byte) []byte {
	for len(value) > 0 {
		c := value[0]
		if c < utf8.RuneSelf {
			if c == '"' || c == '\\' || c == ']' {
				dst = append(dst, '\\')
			}
			dst, value = append(dst, c), value[1:]
			continue
		}
		r, n := utf8.DecodeRune(value)
		dst, value = utf8.AppendRune(dst, r), value[n:]
	}
	return dst
}
