package process

import (
	"strconv"
	"unicode/utf8"

	"github.com/dockline/dockline/logdriver/record"
)

// utf8Mode says what becomes of bytes that are not UTF-8. The default passes
// them on: sinks know what their protocol can carry, and none loses a byte.
type utf8Mode uint8

const (
	utf8Pass    utf8Mode = iota
	utf8Escape           // \xff
	utf8Replace          // U+FFFD
)

// encode makes a record's line and fields valid UTF-8.
func (s *State) encode(r *Record) {
	bad := false
	fix := func(b []byte) []byte {
		if utf8.Valid(b) {
			return b
		}
		bad = true
		from := len(s.text)
		s.text = appendValid(s.text, b, s.spec.utf8)
		return s.text[from:len(s.text):len(s.text)]
	}
	r.Line = fix(r.Line)
	for i := range r.Fields {
		r.Fields[i].Key, r.Fields[i].Value = fix(r.Fields[i].Key), fix(r.Fields[i].Value)
	}
	if bad {
		s.count(&s.stats.InvalidUTF8, 1)
	}
}

func appendValid(dst, b []byte, mode utf8Mode) []byte {
	const digits = "0123456789abcdef"
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r != utf8.RuneError || n > 1:
			dst = append(dst, b[:n]...)
		case mode == utf8Escape:
			dst = append(dst, '\\', 'x', digits[b[0]>>4], digits[b[0]&15])
		default:
			dst = append(dst, "\ufffd"...)
		}
		b = b[n:]
	}
	return dst
}

// truncate cuts a line, between runes, and says how many bytes are gone.
func (s *State) truncate(r *Record) {
	at := record.CutAt(r.Line, s.spec.maxLine)
	from := len(s.text)
	s.text = append(s.text, r.Line[:at]...)
	s.text = append(s.text, " [dockline: "...)
	s.text = strconv.AppendInt(s.text, int64(len(r.Line)-at), 10)
	s.text = append(s.text, " bytes cut]"...)
	r.Line = s.text[from:]
	s.count(&s.stats.Truncated, 1)
}
