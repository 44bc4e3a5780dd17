package process

import (
	"bytes"
	"time"
	"unicode"
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
	scan   scanner
	hits   []hit   // what is to be hidden in the line
	fields []Field // the first is the message, which has no name
	spots  []spot  // where in the line they are
	text   []byte  // of names and values that are not in the line as they are
	prefix []byte  // names of the objects around, each with a dot behind it
	level  Level
	time   int64
	last   member // that was read
	dated  member // that the time is from
	spoken bool   // there is a message
	full   bool   // something was not lifted
}

// token is a name or a value: what it means, and where it is in the line.
type token struct {
	text []byte
	span
}

// span is a part of a line.
type span struct{ from, to int32 }

// spot is where in the line a field is.
type spot struct {
	name, value span
	nested      bool // names of objects around it are part of its own
}

// member is a name and its value.
type member struct {
	name, value token
	raw         bool
}

// lift takes a record's line apart, as far as it can be, into s.parser. What is
// to be hidden in the line is hidden in what is lifted.
func (s *State) lift(r *Record) bool {
	p := &s.parser
	line := bytes.TrimLeftFunc(r.Line, unicode.IsSpace)
	from := len(r.Line) - len(line)
	line = bytes.TrimSpace(line)
	*p = parser{fields: append(p.fields[:0], Field{}), spots: append(p.spots[:0], spot{}), text: p.text[:0], prefix: p.prefix[:0], hits: s.hits}
	p.scan = scanner{b: r.Line[:from+len(line)], at: from}
	mode, ok := s.spec.parse, len(line) <= maxParsed
	if mode == parseAuto {
		if len(line) > 0 && line[0] == '{' {
			mode = parseJSON
		} else if !looksLikeLogfmt(line) {
			return false
		} else {
			mode = parseLogfmt
		}
	}
	if ok {
		s.cost += len(line)
		if mode == parseJSON {
			ok = p.json()
		} else {
			ok = p.logfmt()
		}
	}
	if !ok {
		s.count(&s.stats.ParseFailures, 1)
		return false
	}
	r.Level = p.level
	if p.time != 0 && near(p.time, r.Stamped) {
		r.Time = p.time
	} else if p.time != 0 {
		p.field(&p.dated)
	}
	return true
}

// originalKey is the field that holds a line as it was written.
var originalKey = []byte("original")

// near reports whether what the application says of the time can be believed.
func near(said, stamped int64) bool {
	const day = int64(24 * time.Hour)
	return said > stamped-day && said < stamped+day
}

// json reads one object.
func (p *parser) json() bool {
	s := &p.scan
	return s.at < len(s.b) && s.b[s.at] == '{' && p.object() && s.at == len(s.b)
}

func (p *parser) object() bool { return p.scan.object(p.member) }

func (p *parser) member() bool {
	s, m := &p.scan, &p.last
	if !p.quoted(&m.name) || !s.colon() || s.at >= len(s.b) {
		return false
	}
	from := s.at
	switch {
	case s.b[from] == '{' && s.depth < maxLevels && len(p.prefix)+len(m.name.text) < maxKey:
		outer, was := len(p.prefix), len(p.fields)
		p.prefix = append(append(p.prefix, m.name.text...), '.')
		ok := p.object()
		p.prefix = p.prefix[:outer]
		if ok && len(p.fields) == was && !p.full { // an empty one, so that this is still the last
			p.raw(from)
		}
		return ok
	case s.b[from] == '"':
		if m.raw = false; !p.quoted(&m.value) {
			return false
		}
		p.take()
		return true
	}
	if !s.skip() {
		return false
	}
	p.raw(from)
	return true
}

// raw takes a value that is no string. With something hidden in it, it is one.
func (p *parser) raw(from int) {
	p.token(&p.last.value, from, p.scan.at, false)
	p.last.raw = within(p.hits, from, p.scan.at) == nil
	p.take()
}

// quoted goes behind a string.
func (p *parser) quoted(t *token) bool {
	inside, escaped, ok := p.scan.text()
	if ok {
		end := p.scan.at - 1
		p.token(t, end-len(inside), end, escaped)
	}
	return ok
}

// token reads what stands in the line from one place to another: with its escapes
// resolved, and without what is to be hidden.
func (p *parser) token(t *token, from, to int, escaped bool) {
	t.text, t.span = p.scan.b[from:to:to], span{int32(from), int32(to)}
	hide := len(p.hits) > 0 && within(p.hits, from, to) != nil
	if !hide && !escaped {
		return
	}
	begin := len(p.text)
	if !escaped {
		p.text = appendHidden(p.text, p.scan.b, from, to, p.hits)
	} else {
		p.appendMeaning(from, to)
	}
	t.text = p.text[begin:len(p.text):len(p.text)]
}

// appendMeaning appends what the inside of a string means. An escape of which a
// part is to be hidden is hidden.
func (p *parser) appendMeaning(from, to int) {
	for _, h := range behind(p.hits, from) {
		if h.from >= to {
			break
		}
		if h.from > from {
			begin, _ := unitAt(p.scan.b, from, h.from)
			p.text = appendText(p.text, p.scan.b[from:begin])
			from = begin
		}
		p.text = append(p.text, h.mark...)
		if h.to >= to {
			return
		}
		_, from = unitAt(p.scan.b, from, h.to-1)
	}
	p.text = appendText(p.text, p.scan.b[from:to])
}

// take is for the value that was read last: the record's level, time or message
// if it is that, else a field.
func (p *parser) take() {
	if len(p.prefix) > 0 || !p.own(&p.last) {
		p.field(&p.last)
	}
}

func (p *parser) field(m *member) {
	name := m.name.text
	if len(p.fields) > maxFields || len(p.prefix)+len(name) > maxKey {
		p.full = true
		return
	}
	if len(p.prefix) > 0 {
		from := len(p.text)
		p.text = append(append(p.text, p.prefix...), name...)
		name = p.text[from:len(p.text):len(p.text)]
	}
	p.fields = append(p.fields, Field{Key: name, Value: m.value.text, Raw: m.raw})
	p.spots = append(p.spots, spot{m.name.span, m.value.span, len(p.prefix) > 0})
}

func (p *parser) own(m *member) bool {
	switch string(m.name.text) {
	case "level", "lvl", "severity", "loglevel", "log.level", "levelname":
		if p.level == NoLevel {
			if l, ok := levelOf(m.value.text); ok {
				p.level = l
				return true
			}
		}
	case "time", "ts", "timestamp", "@timestamp", "t":
		if p.time == 0 {
			if at, ok := timeOf(m.value.text, m.raw); ok {
				p.time, p.dated = at, *m
				return true
			}
		}
	case "message", "msg":
		if !p.spoken && !m.raw {
			p.fields[0].Value, p.spots[0].value, p.spoken = m.value.text, m.value.span, true
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
