package syslog

import (
	"bytes"
	"slices"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/rfc5424"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// lineConn frames by newlines (RFC 6587 section 3.4.2).
type lineConn struct{ *wire.Stream }

func (c *lineConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return append(t.Append(dst, r), '\n')
}

// escaping is a template of messages without line feeds and the like.
type escaping struct{ ship.Template }

// Measure implements ship.Measurer.
func (e escaping) Measure(r *ship.Record) int {
	message := e.Template.Append(nil, r)
	size := len(message) + escapes(message)
	t, ok := e.Template.(*rfc5424.Template)
	if !ok {
		return size
	}
	data := t.Structured(message, r)
	return t.Weigh(size, len(data)+escapes(data))
}

// Growth implements ship.Grower.
func (e escaping) Growth() int {
	if t, ok := e.Template.(*rfc5424.Template); ok {
		return t.Growth()
	}
	return 8
}

// escapes returns by how much text grows when it is escaped.
func escapes(text []byte) int {
	n := 0
	for _, c := range delimiters {
		n += bytes.Count(text, []byte{c})
	}
	return 3 * n
}

func (e escaping) Append(dst []byte, r *ship.Record) []byte {
	start := len(dst)
	return escapeLine(e.Template.Append(dst, r), start)
}

// delimiters are the bytes at which receivers end a message or cut something
// off. They are escaped as rsyslog does it: # and three octal digits.
var delimiters = []byte{'\n', '\r', 0}

// escapeLine escapes them in what is behind start.
func escapeLine(dst []byte, start int) []byte {
	more := escapes(dst[start:])
	if more == 0 {
		return dst
	}
	from := len(dst)
	dst = slices.Grow(dst, more)[:from+more]
	to := len(dst)
	for to > from { // from the end, so that nothing is overwritten that is still to be read
		from--
		if c := dst[from]; c == '\n' || c == '\r' || c == 0 {
			to -= 4
			dst[to], dst[to+1], dst[to+2], dst[to+3] = '#', '0', '0'+c>>3, '0'+c&7
			continue
		}
		to--
		dst[to] = dst[from]
	}
	return dst
}
