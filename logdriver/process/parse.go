package process

import (
	"bytes"
	"time"
)

// parseMode says what lines are taken apart.
type parseMode uint8

const (
	parseOff parseMode = iota
	parseJSON
	parseLogfmt
	parseAuto
)

// Bounds of what is lifted out of a line. Where one is reached the line stays as
// it was written, beside what was lifted until then.
const (
	maxParsed = 32 << 10 // bytes of a line that is taken apart: fields, and the original, have to fit into a message
	maxFields = 64
	maxKey    = 128 // bytes of a name, with those of the objects around it
	maxLevels = 4   // objects in each other that are taken apart; the values of deeper ones stay JSON
)

// parser takes lines apart. Its memory is used again for the next one.
type parser struct {
	scan    scanner
	fields  []Field
	text    []byte // of names and values that are not in the line as they are
	prefix  []byte // names of the objects around, each with a dot behind it
	level   Level
	time    int64
	message []byte
	spoken  bool // there is a message
	full    bool // something was not lifted
}

// lift takes a record's line apart, as far as it can be.
func (s *State) lift(r *Record) {
	p := &s.parser
	line := bytes.TrimSpace(r.Line)
	*p = parser{fields: p.fields[:0], text: p.text[:0], prefix: p.prefix[:0]}
	mode, ok := s.spec.parse, len(line) <= maxParsed
	if mode == parseAuto {
		if len(line) > 0 && line[0] == '{' {
			mode = parseJSON
		} else if !looksLikeLogfmt(line) {
			return
		} else {
			mode = parseLogfmt
		}
	}
	if ok {
		s.cost += len(line)
		if mode == parseJSON {
			ok = p.json(line)
		} else {
			ok = p.logfmt(line)
		}
	}
	if !ok {
		s.count(&s.stats.ParseFailures, 1)
		return
	}
	if s.spec.keep {
		p.fields = append(p.fields, Field{Key: originalKey, Value: r.Line})
	}
	r.Level, r.Fields = p.level, p.fields
	if p.time != 0 && near(p.time, r.Stamped) {
		r.Time = p.time
	}
	if p.spoken && !p.full {
		r.Line = p.message
	}
}

// originalKey is the field that holds a line as it was written.
var originalKey = []byte("original")

// near reports whether what the application says of the time can be believed.
func near(said, stamped int64) bool {
	const day = int64(24 * time.Hour)
	return said > stamped-day && said < stamped+day
}

// json reads one object.
func (p *parser) json(line []byte) bool {
	if len(line) == 0 || line[0] != '{' {
		return false
	}
	p.scan = scanner{b: line}
	return p.object() && p.scan.at == len(line)
}

func (p *parser) object() bool { return p.scan.object(p.member) }

func (p *parser) member() bool {
	s := &p.scan
	name, escaped, ok := s.text()
	if !ok || !s.colon() || s.at >= len(s.b) {
		return false
	}
	if escaped {
		name = p.unescaped(name)
	}
	if s.b[s.at] == '{' && s.depth < maxLevels && len(p.prefix)+len(name) < maxKey {
		outer := len(p.prefix)
		p.prefix = append(append(p.prefix, name...), '.')
		was := len(p.fields)
		from := s.at
		ok = p.object()
		p.prefix = p.prefix[:outer]
		if ok && len(p.fields) == was && !p.full { // an empty one
			p.field(name, s.b[from:s.at], true)
		}
		return ok
	}
	if s.b[s.at] != '"' {
		from := s.at
		if ok = s.skip(); ok {
			p.field(name, s.b[from:s.at], true)
		}
		return ok
	}
	value, escaped, ok := s.text()
	if !ok {
		return false
	}
	if escaped {
		value = p.unescaped(value)
	}
	p.field(name, value, false)
	return true
}

func (p *parser) unescaped(inside []byte) []byte {
	from := len(p.text)
	p.text = appendText(p.text, inside)
	return p.text[from:len(p.text):len(p.text)]
}

// field takes one value: as the record's level, time or message if it is that,
// else as a field.
func (p *parser) field(name, value []byte, raw bool) {
	if len(p.prefix) == 0 && p.own(name, value, raw) {
		return
	}
	if len(p.fields) >= maxFields || len(p.prefix)+len(name) > maxKey {
		p.full = true
		return
	}
	if len(p.prefix) > 0 {
		from := len(p.text)
		p.text = append(append(p.text, p.prefix...), name...)
		name = p.text[from:len(p.text):len(p.text)]
	}
	p.fields = append(p.fields, Field{Key: name, Value: value, Raw: raw})
}

func (p *parser) own(name, value []byte, raw bool) bool {
	switch string(name) {
	case "level", "lvl", "severity", "loglevel", "log.level", "levelname":
		if p.level == NoLevel {
			if l, ok := levelOf(value); ok {
				p.level = l
				return true
			}
		}
	case "time", "ts", "timestamp", "@timestamp", "t":
		if p.time == 0 {
			if at, ok := timeOf(value, raw); ok {
				p.time = at
				return true
			}
		}
	case "message", "msg":
		if !p.spoken && !raw {
			p.message, p.spoken = value, true
			return true
		}
	}
	return false
}

// timeOf reads RFC 3339, or seconds, milliseconds, microseconds or nanoseconds
// since 1970, whichever the size says.
func timeOf(value []byte, number bool) (ns int64, ok bool) {
	if len(value) == 0 || len(value) > 40 {
		return 0, false
	}
	if isNumber(value) {
		return sinceEpoch(value)
	}
	var t time.Time
	if number || t.UnmarshalText(value) != nil || t.Year() < 1970 || t.Year() > 2200 {
		return 0, false
	}
	return t.UnixNano(), true
}

func isNumber(value []byte) bool {
	for _, c := range value {
		if !isDigit(c) && c != '.' {
			return false
		}
	}
	return true
}

func sinceEpoch(value []byte) (ns int64, ok bool) {
	whole, frac, _ := bytes.Cut(value, []byte("."))
	n := int64(0)
	if len(whole) < 9 || len(whole) > 19 || bytes.IndexByte(frac, '.') >= 0 {
		return 0, false
	}
	for _, c := range whole {
		if n > (1<<63-10)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	unit := int64(time.Second)
	switch {
	case n >= 1e17:
		unit = 1
	case n >= 1e14:
		unit = int64(time.Microsecond)
	case n >= 1e11:
		unit = int64(time.Millisecond)
	}
	if n > (1<<63-1)/unit-1 {
		return 0, false
	}
	ns = n * unit
	for _, c := range frac {
		unit /= 10
		ns += unit * int64(c-'0')
	}
	return ns, true
}
