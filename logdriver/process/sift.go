package process

import (
	"bytes"
	"fmt"
	"math"
)

// sift looks for secrets in what was lifted out of a line, where escapes are
// resolved: in each name with its value, as name=value. What it hides there is to
// be hidden in the line, too.
func (s *State) sift(line []byte) {
	p := &s.parser
	s.lay()
	n, most := 0, s.affordable()
	for n < len(s.laid) && s.laid[n].end <= most {
		n++
	}
	if n > 0 {
		s.charge(s.laid[n-1].end)
		s.found = s.searchLaid(s.found[:0], n)
		s.count(&s.stats.Redactions, len(s.found))
	}
	late := len(s.hits)
	for i := 0; i < n && len(s.found) > 0; i++ {
		s.hideIn(&p.fields[i], &p.spots[i], s.laid[i], len(line))
	}
	if n < len(s.laid) {
		s.withholdFields(n, line)
	}
	if len(s.hits) > late {
		s.hits = tidy(s.hits)
	}
}

// laid is where in State.sheet a field is that is searched: its name begins at
// name, its value at value.
type laid struct{ name, value, end int }

// lay writes what is to be searched on one sheet, a line each.
func (s *State) lay() {
	s.sheet, s.laid = s.sheet[:0], s.laid[:0]
	for i := range s.parser.fields {
		f, l := &s.parser.fields[i], laid{name: len(s.sheet)}
		if i > 0 {
			s.sheet = append(append(s.sheet, f.Key...), '=')
		}
		l.value = len(s.sheet)
		if f.Raw && bytes.IndexByte(f.Value, '\\') >= 0 {
			s.sheet = appendText(s.sheet, f.Value)
		} else {
			s.sheet = append(s.sheet, f.Value...)
		}
		l.end = len(s.sheet)
		s.sheet = append(s.sheet, '\n')
		s.laid = append(s.laid, l)
	}
}

// searchLaid searches the first n fields. Presets look at all of them at once, for
// nothing of theirs goes beyond a line.
func (s *State) searchLaid(hits []hit, n int) []hit {
	for i := range s.spec.secrets {
		d := &s.spec.secrets[i]
		if d.re == nil {
			hits, _ = d.found(hits, s.sheet[:s.laid[n-1].end], math.MaxInt)
			continue
		}
		for _, l := range s.laid[:n] {
			hits = d.member(hits, s.sheet, l)
		}
	}
	return tidy(hits)
}

// member appends what an expression matches in name=value, and, where it may ask
// for their ends, in each of the two.
func (d *redactor) member(hits []hit, sheet []byte, l laid) []hit {
	hits, _ = d.matches(hits, sheet[:l.end], l.name, math.MaxInt)
	if d.anchored && l.value > l.name {
		hits, _ = d.matches(hits, sheet[:l.value-1], l.name, math.MaxInt)
		hits, _ = d.matches(hits, sheet[:l.end], l.value, math.MaxInt)
	}
	return hits
}

// Hide returns a value that goes with all of a container's records, without the
// secrets in it. Its name, if it has one, may be what shows that it is one.
func (s *Spec) Hide(name, value string) string {
	if s == nil || len(s.secrets) == 0 {
		return value
	}
	st, l := State{spec: s, left: maxSearch}, laid{}
	text := []byte(value)
	if name != "" {
		text, l.value = []byte(name+"="+value), len(name)+1
	}
	var hits []hit
	if l.end = min(len(text), st.affordable()); l.end < len(text) {
		hits = append(hits, hit{max(l.value, l.end), len(text), []byte("[dockline: the rest left out, too many bytes to look for secrets in]")})
	}
	for i := range s.secrets {
		if d := &s.secrets[i]; d.re == nil {
			hits, _ = d.found(hits, text[:l.end], math.MaxInt)
		} else {
			hits = d.member(hits, text, l)
		}
	}
	return string(appendHidden(nil, text, l.value, len(text), tidy(hits)))
}

// hideIn hides what was found in a field. A name that is made of several is not in
// the line as it is: then all of the line is hidden.
func (s *State) hideIn(f *Field, at *spot, l laid, line int) {
	if h := within(s.found, l.value, l.end); h != nil {
		f.Value, f.Raw = s.cut(l.value, l.end), false
		s.hits = append(s.hits, hit{int(at.value.from), int(at.value.to), h.mark})
	}
	if h := within(s.found, l.name, l.value-1); h != nil {
		f.Key = s.cut(l.name, l.value-1)
		where := at.name
		if at.nested {
			where = span{0, int32(line)}
		}
		s.hits = append(s.hits, hit{int(where.from), int(where.to), h.mark})
	}
}

func (s *State) cut(from, to int) []byte {
	begin := len(s.text)
	s.text = appendHidden(s.text, s.sheet, from, to, s.found)
	return s.text[begin:len(s.text):len(s.text)]
}

var withheldKey = []byte("withheld")

// withholdFields leaves out the fields from the n-th on, which are too much to be
// searched, and the line from where the first of them is.
func (s *State) withholdFields(n int, line []byte) {
	p, at := &s.parser, len(line)
	for i := n; i < len(p.fields); i++ {
		if i > 0 {
			at = min(at, int(p.spots[i].name.from))
		} else if p.spoken {
			at = min(at, int(p.spots[i].value.from))
		}
	}
	s.withhold(at, len(line))
	from := len(s.text)
	s.text = fmt.Appendf(s.text, "[dockline: %d fields left out, too many bytes to look for secrets in]", len(p.fields)-max(n, 1))
	said := s.text[from:len(s.text):len(s.text)]
	if n == 0 {
		p.fields[0].Value, n = said, 1
	}
	p.fields = append(p.fields[:n], Field{Key: withheldKey, Value: said})
}
