package process

import (
	"bytes"
	"regexp"
	"strconv"
)

// redactor hides one kind of secret.
type redactor struct {
	find func(line []byte, from int) (start, end int) // of the first that begins at or behind from; start < 0: none
	re   *regexp.Regexp                               // instead of find
	cost int                                          // of one byte
	mark []byte                                       // what stands in the secret's place
}

const (
	// A line that is longer is searched in parts of so many bytes, which overlap:
	// a secret of up to overlap bytes is found wherever it is.
	overlap = 1 << 10
	// maxSearch bounds the bytes of a record that own expressions search, times
	// their instructions. What is behind is not sent.
	maxSearch = 16 << 20
)

// hide lets no secret through in what is sent of a record.
func (s *State) redact(r *Record) {
	s.withhold(r)
	hidden := 0
	r.Line = s.hide(r.Line, &hidden)
	for i := range r.Fields {
		f := &r.Fields[i]
		f.Key, f.Value = s.hide(f.Key, &hidden), s.hideIn(f, &hidden)
	}
	s.count(&s.stats.Redactions, hidden)
}

// hideIn keeps JSON text what it is: text with something hidden in it is a string.
func (s *State) hideIn(f *Field, hidden *int) []byte {
	before := *hidden
	v := s.hide(f.Value, hidden)
	if *hidden > before {
		f.Raw = false
	}
	return v
}

// withhold cuts off what would take too long to search.
func (s *State) withhold(r *Record) {
	cost := 0
	for i := range s.spec.secrets {
		cost += s.spec.secrets[i].cost
	}
	if cost == 0 {
		return
	}
	if most := maxSearch / cost; len(r.Line) > most {
		from := len(s.text)
		s.text = append(append(s.text, r.Line[:most]...), " [dockline: "...)
		s.text = strconv.AppendInt(s.text, int64(len(r.Line)-most), 10)
		s.text = append(s.text, " bytes left out, too many to look for secrets in]"...)
		s.count(&s.stats.Withheld, len(r.Line)-most)
		r.Line = s.text[from:len(s.text):len(s.text)]
	}
	s.cost += cost * len(r.Line)
}

func (s *State) hide(line []byte, hidden *int) []byte {
	for i := range s.spec.secrets {
		d := &s.spec.secrets[i]
		if d.re != nil {
			line = s.hideMatches(d, line, hidden)
		} else {
			line = s.hideFound(d, line, hidden)
		}
	}
	return line
}

func (s *State) hideFound(d *redactor, line []byte, hidden *int) []byte {
	start, end := d.find(line, 0)
	if start < 0 {
		return line
	}
	from, done := len(s.text), 0 // line may lie in the text, but before that
	for start >= 0 {
		s.text = append(append(s.text, line[done:start]...), d.mark...)
		*hidden++
		done = end
		start, end = d.find(line, end)
	}
	s.text = append(s.text, line[done:]...)
	return s.text[from:len(s.text):len(s.text)]
}

// hideMatches hides what an expression matches, or its first group where it has one.
func (s *State) hideMatches(d *redactor, line []byte, hidden *int) []byte {
	if len(line) <= maxFilter && !d.re.Match(line) {
		return line
	}
	from, done, at := len(s.text), 0, 0 // line[:done] is in the text, nothing before at is looked for
	for at < len(line) {
		end := min(at+maxFilter, len(line))
		again := end
		if end < len(line) {
			again = end - overlap
		}
		for _, m := range d.re.FindAllSubmatchIndex(line[at:end], -1) {
			if again < len(line) && at+m[1] > again && m[0] > 0 {
				again = min(again, at+m[0]) // it may go on behind the part
				break
			}
			lo, hi := at+m[0], at+m[1]
			if len(m) > 2 && m[2] >= 0 { // it may have been an alternative without the group
				lo, hi = at+m[2], at+m[3]
			}
			again = max(again, at+m[1])
			if lo < at || lo >= hi || lo < done {
				continue
			}
			s.text = append(append(s.text, line[done:lo]...), d.mark...)
			*hidden++
			done = hi
		}
		at = again
	}
	s.text = append(s.text, line[done:]...)
	return s.text[from:len(s.text):len(s.text)]
}

// presets returns what redact= names.
func presets() map[string][]finder {
	var keys []finder
	for i := range keyForms {
		keys = append(keys, keyForms[i].find)
	}
	return map[string][]finder{
		"bearer":        {findBearer, findJWT},
		"email":         {findEmail},
		"cloud-keys":    keys,
		"url-passwords": {findURLPassword},
	}
}

type finder = func(line []byte, from int) (start, end int)

// Finders go over a line once and look at few bytes behind what they find.

// findBearer: `Bearer TOKEN`, in any case (RFC 6750 section 2.1), and Basic.
func findBearer(line []byte, from int) (start, end int) {
	for i := from; i < len(line); {
		sp := bytes.IndexByte(line[i:], ' ')
		if sp < 0 {
			break
		}
		i += sp
		if hasFoldSuffix(line[:i], "bearer") || hasFoldSuffix(line[:i], "basic") {
			lo := i
			for lo < len(line) && line[lo] == ' ' {
				lo++
			}
			hi := spanOf(line, lo, isToken)
			if hi-lo >= 8 && lo >= from {
				return lo, hi
			}
		}
		i++
	}
	return -1, -1
}

// findJWT: three parts of base64url, the first an object (RFC 7519 section 3).
func findJWT(line []byte, from int) (start, end int) {
	for i := from; ; {
		at := bytes.Index(line[i:], []byte("eyJ"))
		if at < 0 {
			return -1, -1
		}
		lo := i + at
		hi := spanOf(line, lo, isBase64URL)
		head, rest, _ := bytes.Cut(line[lo:hi], []byte("."))
		body, sign, _ := bytes.Cut(rest, []byte("."))
		if len(head) >= 10 && len(body) >= 4 && len(sign) >= 10 {
			return lo, hi
		}
		i = max(hi, lo+3)
	}
}

func findEmail(line []byte, from int) (start, end int) {
	for i := from; ; {
		at := bytes.IndexByte(line[i:], '@')
		if at < 0 {
			return -1, -1
		}
		at += i
		lo := at
		for lo > from && isLocal(line[lo-1]) {
			lo--
		}
		hi := spanOf(line, at+1, isHost)
		for hi > at+1 && (line[hi-1] == '.' || line[hi-1] == '-') {
			hi--
		}
		dot := bytes.LastIndexByte(line[at+1:hi], '.')
		if lo < at && dot > 0 && hi-(at+1+dot+1) >= 2 && !isDigit(line[hi-1]) {
			return lo, hi
		}
		i = at + 1
	}
}

// keyForm is an access key that can be told by how it begins.
type keyForm struct {
	begin    []byte
	within   func(byte) bool
	min, max int  // bytes behind begin
	keep     bool // begin is not part of the secret
}

var keyForms = []keyForm{
	{[]byte("AKIA"), isUpperDigit, 16, 16, false},
	{[]byte("ASIA"), isUpperDigit, 16, 16, false},
	{[]byte("AIza"), isKey, 35, 35, false},
	{[]byte("ya29."), isKey, 20, 4096, false},
	{[]byte("AccountKey="), isToken, 40, 128, true},
	{[]byte("SharedAccessKey="), isToken, 40, 128, true},
	{[]byte("secret_access_key="), isToken, 40, 40, true},
	{[]byte("SECRET_ACCESS_KEY="), isToken, 40, 40, true},
	{[]byte(`SecretAccessKey":"`), isToken, 40, 40, true},
	{[]byte("dop_v1_"), isKey, 64, 64, false},
}

// find: access keys of AWS (with their secrets where they are named), Google,
// Azure and DigitalOcean.
func (k *keyForm) find(line []byte, from int) (start, end int) {
	for {
		n := bytes.Index(line[from:], k.begin)
		if n < 0 {
			return -1, -1
		}
		lo := from + n
		first := lo + len(k.begin)
		hi := spanOf(line, first, k.within)
		word := lo > 0 && isKey(line[lo-1]) && !k.keep
		if !word && hi-first >= k.min && hi-first <= k.max {
			if k.keep {
				lo = first
			}
			return lo, hi
		}
		from = max(first, hi)
	}
}

// findURLPassword: what stands between the first colon and the last @ of an
// authority (RFC 3986 section 3.2.1).
func findURLPassword(line []byte, from int) (start, end int) {
	for i := from; ; {
		n := bytes.Index(line[i:], []byte("://"))
		if n < 0 {
			return -1, -1
		}
		lo := i + n + 3
		hi := spanOf(line, lo, isAuthority)
		at := bytes.LastIndexByte(line[lo:hi], '@')
		if colon := bytes.IndexByte(line[lo:hi], ':'); colon >= 0 && at > colon+1 {
			return lo + colon + 1, lo + at
		}
		i = max(lo, hi)
	}
}

func hasFoldSuffix(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && bytes.EqualFold(b[len(b)-len(suffix):], []byte(suffix))
}

func spanOf(line []byte, from int, in func(byte) bool) int {
	for from < len(line) && in(line[from]) {
		from++
	}
	return from
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isUpperDigit(c byte) bool { return isDigit(c) || 'A' <= c && c <= 'Z' }

func isAlnum(c byte) bool { return isUpperDigit(c) || 'a' <= c && c <= 'z' }

func isKey(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }

func isBase64URL(c byte) bool { return isKey(c) || c == '.' || c == '=' }

func isToken(c byte) bool { return isBase64URL(c) || c == '~' || c == '+' || c == '/' }

func isLocal(c byte) bool { return isKey(c) || c == '.' || c == '%' || c == '+' }

func isHost(c byte) bool { return isAlnum(c) || c == '.' || c == '-' }

func isAuthority(c byte) bool {
	return c > ' ' && c < 0x7f && c != '/' && c != '?' && c != '#' && c != '"' && c != '\'' && c != '<' && c != '>' && c != '\\'
}
