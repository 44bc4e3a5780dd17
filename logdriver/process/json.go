package process

import (
	"unicode/utf16"
	"unicode/utf8"
)

// scanner goes over one JSON text (RFC 8259), once, without keeping anything: a
// value is where it begins and ends. Own code, because of the libraries that keep
// nothing one accepts what is no JSON and the other has no release, and neither
// is faster (docs/performance.md).
type scanner struct {
	b     []byte
	at    int
	depth int // of arrays and objects that are open
}

// maxNesting bounds how deep arrays and objects may lie in each other.
const maxNesting = 64

func (s *scanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// take goes behind a byte if it is next.
func (s *scanner) take(c byte) bool {
	if s.at < len(s.b) && s.b[s.at] == c {
		s.at++
		return true
	}
	return false
}

// text goes behind a string and returns what is between its quotes.
func (s *scanner) text() (inside []byte, escaped, ok bool) {
	if !s.take('"') {
		return nil, false, false
	}
	from := s.at
	for s.at < len(s.b) {
		switch c := s.b[s.at]; {
		case c == '"':
			s.at++
			return s.b[from : s.at-1], escaped, true
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false, false
			}
		case c < ' ':
			return nil, false, false
		default:
			s.at++
		}
	}
	return nil, false, false
}

func (s *scanner) escape() bool {
	if s.at+1 >= len(s.b) {
		return false
	}
	switch s.b[s.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at += 2
		return true
	case 'u':
		if s.at+6 > len(s.b) {
			return false
		}
		for _, c := range s.b[s.at+2 : s.at+6] {
			if hexValue(c) < 0 {
				return false
			}
		}
		s.at += 6
		return true
	}
	return false
}

func hexValue(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

// skip goes behind a value of any kind.
func (s *scanner) skip() bool {
	if s.at >= len(s.b) {
		return false
	}
	switch s.b[s.at] {
	case '"':
		_, _, ok := s.text()
		return ok
	case '{':
		return s.object(func() bool { _, _, ok := s.text(); return ok && s.colon() && s.skip() })
	case '[':
		return s.array()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.at < len(w) || string(s.b[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.b) && isDigit(s.b[s.at]) {
		s.at++
	}
	return s.at > from
}

func (s *scanner) colon() bool {
	s.space()
	ok := s.take(':')
	s.space()
	return ok
}

// object goes over an object; member has to go behind a name and its value.
func (s *scanner) object(member func() bool) bool { return s.list('{', '}', member) }

func (s *scanner) array() bool { return s.list('[', ']', s.skip) }

func (s *scanner) list(begin, end byte, one func() bool) bool {
	if s.depth++; s.depth > maxNesting || !s.take(begin) {
		return false
	}
	s.space()
	if s.take(end) {
		s.depth--
		return true
	}
	for {
		if !one() {
			return false
		}
		s.space()
		if s.take(end) {
			s.depth--
			return true
		}
		if !s.take(',') {
			return false
		}
		s.space()
	}
}

// appendText appends what the inside of a string, which was scanned, means. Half
// a pair of surrogates becomes U+FFFD.
func appendText(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		if s[i+1] != 'u' {
			dst = append(dst, unescape(s[i+1]))
			i += 2
			continue
		}
		r := codeUnit(s[i:])
		i += 6
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
				low = codeUnit(s[i:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// unitAt returns where the escape begins and ends, or the byte, that s[at] is part
// of. From is where one begins, at or before it.
func unitAt(s []byte, from, at int) (begin, end int) {
	for end = from; end <= at; {
		begin = end
		switch {
		case s[begin] != '\\':
			end++
		case s[begin+1] == 'u':
			end += 6
		default:
			end += 2
		}
	}
	return begin, end
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// codeUnit reads \uXXXX.
func codeUnit(s []byte) (r rune) {
	for _, c := range s[2:6] {
		r = r<<4 | hexValue(c)
	}
	return r
}
