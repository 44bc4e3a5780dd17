package process

import (
	"fmt"
	"math"
	"regexp"
)

// redactor finds one kind of secret.
type redactor struct {
	find     finder
	re       *regexp.Regexp // instead of find
	anchored bool           // it looks for the beginning or the end of what it searches
	mark     []byte         // what stands in the secret's place
}

const (
	// A line that is longer than maxFilter is searched in parts of so many bytes,
	// which overlap: what an expression matches is found wherever it is, if what
	// shows that it is there is within as many.
	overlap = 1 << 10
	// maxSearch bounds the bytes that own expressions search for one record, line
	// and fields together, times their instructions. What is behind is not sent.
	maxSearch = 2 << 20
)

// look finds the secrets in a line as it was written, and what is too much to be
// searched.
func (s *State) look(line []byte, lifting bool) {
	s.hits, s.left = s.hits[:0], maxSearch
	most := s.affordable()
	if lifting {
		most /= 2 // what is left is for the fields
	}
	seen := line[:min(len(line), most)]
	s.charge(len(seen))
	var end int
	s.hits, end = s.search(s.hits, seen)
	s.count(&s.stats.Redactions, len(s.hits))
	if end < len(line) {
		s.withhold(end, len(line))
	}
	s.hits = tidy(s.hits)
}

// affordable returns how many bytes more own expressions may search for this record.
func (s *State) affordable() int {
	if s.spec.dear == 0 {
		return math.MaxInt
	}
	return s.left / s.spec.dear
}

// charge is for bytes that are searched, presets included: they cost the stream
// its turn.
func (s *State) charge(n int) {
	s.left -= s.spec.dear * n
	s.cost += (len(s.spec.secrets) + s.spec.dear) * n
}

// withhold hides bytes that nobody has looked for secrets in.
func (s *State) withhold(from, to int) {
	at := len(s.text)
	s.text = fmt.Appendf(s.text, " [dockline: %d bytes left out, too many to look for secrets in]", to-from)
	s.hits = append(s.hits, hit{from, to, s.text[at:len(s.text):len(s.text)]})
	s.count(&s.stats.Withheld, to-from)
}

// hidden returns a text with the hits in it hidden.
func (s *State) hidden(text []byte) []byte {
	if len(s.hits) == 0 {
		return text
	}
	from := len(s.text)
	s.text = appendHidden(s.text, text, 0, len(text), s.hits)
	return s.text[from:len(s.text):len(s.text)]
}
