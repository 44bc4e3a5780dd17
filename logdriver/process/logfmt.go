package process

import "bytes"

// logfmt reads key=value pairs parted by spaces; a value with spaces in it is
// quoted, as in JSON. A key alone has an empty value. A line without any pair is none.
func (p *parser) logfmt(line []byte) bool {
	p.scan = scanner{b: line}
	s, pairs := &p.scan, 0
	for s.space(); s.at < len(s.b); s.space() {
		name := p.bare(true)
		if len(name) == 0 {
			return false
		}
		if !s.take('=') {
			p.field(name, nil, false)
			continue
		}
		pairs++
		value, ok := p.value()
		if !ok {
			return false
		}
		p.field(name, value, false)
	}
	return pairs > 0
}

func (p *parser) value() ([]byte, bool) {
	s := &p.scan
	if s.at >= len(s.b) || s.b[s.at] != '"' {
		return p.bare(false), true
	}
	value, escaped, ok := s.text()
	if !ok || s.at < len(s.b) && s.b[s.at] > ' ' {
		return nil, false
	}
	if escaped {
		value = p.unescaped(value)
	}
	return value, true
}

// bare goes behind a name, or a value without quotes.
func (p *parser) bare(name bool) []byte {
	s := &p.scan
	from := s.at
	for s.at < len(s.b) {
		if c := s.b[s.at]; c <= ' ' || name && (c == '=' || c == '"') {
			break
		}
		s.at++
	}
	return s.b[from:s.at]
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
