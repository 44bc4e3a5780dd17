package syslog

import (
	"bytes"
	"slices"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// lineConn frames by newlines (RFC 6587 section 3.4.2).
type lineConn struct{ *wire.Stream }

func (c *lineConn) Append(dst []byte, t ship.Template, r *ship.Record) []byte {
	return append(t.Append(dst, r), '\n')
}

// escaping is a template of messages without line feeds and the like.
type escaping struct{ ship.Template }

func (e escaping) Append(dst []byte, r *ship.Record) []byte {
	start := len(dst)
	return escapeLine(e.Template.Append(dst, r), start)
}

// delimiters are the bytes at which receivers end a message or cut something
// off. They are escaped as rsyslog does it: # and three octal digits.
var delimiters = []byte{'\n', '\r', 0}

// escapeLine escapes them in what is behind start.
func escapeLine(dst []byte, start int) []byte {
	n := 0
	for _, c := range delimiters {
		n += bytes.Count(dst[start:], []byte{c})
	}
	if n == 0 {
		return dst
	}
	from := len(dst)
	dst = slices.Grow(dst, 3*n)[:from+3*n]
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
