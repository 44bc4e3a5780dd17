package rfc5424

import (
	"strconv"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/ship"
)

// appendFields appends an element with the fields. Names that are the same, as
// far as syslog can tell them apart, get a number.
func appendFields(dst []byte, fields []ship.Field) []byte {
	dst = append(dst, "["+fieldsID...)
	for i := range fields {
		dst = appendName(append(dst, ' '), fields, i)
		dst = append(dst, '=', '"')
		dst = append(appendBytes(dst, fields[i].Value), '"')
	}
	return append(dst, ']')
}

func appendName(dst []byte, fields []ship.Field, i int) []byte {
	key, before := fields[i].Key, 1
	for j := range i {
		if sameName(fields[j].Key, key) {
			before++
		}
	}
	var number [8]byte
	suffix := number[:0]
	if before > 1 {
		suffix = strconv.AppendInt(append(suffix, '~'), int64(before), 10)
	}
	if len(key) == 0 {
		dst = append(dst, '_')
	}
	for _, c := range key[:min(len(key), maxParam-len(suffix))] {
		dst = append(dst, nameByte(c))
	}
	return append(dst, suffix...)
}

// nameByte returns what stands for a byte in an SD-NAME (RFC 5424 section 6).
func nameByte(c byte) byte {
	if c <= ' ' || c > '~' || c == '=' || c == ']' || c == '"' {
		return '_'
	}
	return c
}

func sameName(a, b []byte) bool {
	a, b = a[:min(len(a), maxParam)], b[:min(len(b), maxParam)]
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if nameByte(a[i]) != nameByte(b[i]) {
			return false
		}
	}
	return true
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
