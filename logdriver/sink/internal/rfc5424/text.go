package rfc5424

import (
	"strings"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/field"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/lifted"
)

// Field returns s as a header field of at most max bytes: PRINTUSASCII
// (RFC 5424 section 6), anything else becoming an underscore; "-" if empty.
func Field(s string, max int) string {
	name := sanitize(s, max, func(r rune) bool { return false })
	if name == "" {
		return "-" // NILVALUE
	}
	return name
}

// paramName returns s as an SD-NAME (RFC 5424 section 6.3.3).
func paramName(s string) string {
	name := sanitize(s, maxParam, func(r rune) bool { return r == '=' || r == ']' || r == '"' })
	if name == "" {
		return "_"
	}
	return name
}

func sanitize(s string, max int, forbidden func(rune) bool) string {
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || forbidden(r) {
			return '_'
		}
		return r
	}, s)
	return name[:min(len(name), max)]
}

// appendAttrs appends the attributes, under names that neither sanitizing nor
// cutting makes the same, and that cannot pass for one of ours: a container
// must not forge the id that collectors tell duplicates by.
func appendAttrs(dst []byte, attrs []ship.Attr) []byte {
	used := map[string]bool{"id": true, "source": true, "cut": true}
	for _, f := range field.All() {
		used[f.Name] = true
	}
	for _, a := range attrs {
		dst = appendParam(dst, lifted.Unique(used, paramName(a.Key), maxParam), a.Value)
	}
	return dst
}

func appendParam(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ' '), name...), '=', '"')
	return append(appendValue(dst, value), '"')
}

// appendValue appends a PARAM-VALUE: ", \ and ] are escaped, and what is not
// UTF-8 is replaced (RFC 5424 section 6.3.3).
func appendValue(dst []byte, value string) []byte {
	for _, r := range value { // an invalid byte comes out as U+FFFD
		if r == '"' || r == '\\' || r == ']' {
			dst = append(dst, '\\')
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
