package process

import "bytes"

// logfmt reads key=value pairs parted by spaces; a value with spaces in it is
// quoted, as in JSON. A key alone has an empty value. A line without any pair is none.
func (p *parser) logfmt() bool {
	s, m, pairs := &p.scan, &p.last, 0
	for s.space(); s.at < len(s.b); s.space() {
		from := s.at
		if s.bare(true); s.at == from {
			return false
		}
		p.token(&m.name, from, s.at, false)
		if !s.take('=') {
			p.token(&m.value, s.at, s.at, false)
			p.field(m)
			continue
		}
		if pairs++; !p.value(&m.value) {
			return false
		}
		p.take()
	}
	return pairs > 0
}

func (p *parser) value(t *token) bool {
	s := &p.scan
	if from := s.at; s.at >= len(s.b) || s.b[s.at] != '"' {
		s.bare(false)
		p.token(t, from, s.at, false)
		return true
	}
	return p.quoted(t) && (s.at >= len(s.b) || s.b[s.at] <= ' ')
}

// bare goes behind a name, or a value without quotes.
func (s *scanner) bare(name bool) {
	for s.at < len(s.b) {
		if c := s.b[s.at]; c <= ' ' || name && (c == '=' || c == '"') {
			return
		}
		s.at++
	}
}

// looksLikeLogfmt holds for lines that begin with two pairs.
func looksLikeLogfmt(line []byte) bool {
	first, rest, _ := bytes.Cut(line, []byte("="))
	if len(first) == 0 || len(first) > maxKey || !isName(first) {
		return false
	}
	if len(rest) > 0 && rest[0] == '"' {
		s := scanner{b: rest}
		if _, _, ok := s.text(); !ok {
			return false
		}
		rest = rest[s.at:]
	} else {
		rest = rest[spanOf(rest, 0, func(c byte) bool { return c > ' ' }):]
	}
	second, _, ok := bytes.Cut(bytes.TrimLeft(rest, " "), []byte("="))
	return ok && len(second) > 0 && len(second) <= maxKey && isName(second)
}

func isName(b []byte) bool {
	return spanOf(b, 0, func(c byte) bool { return isKey(c) || c == '.' || c == '@' || c == '/' }) == len(b)
}
