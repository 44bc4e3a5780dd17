package process

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
)

// hit is a secret in a text, text[from:to], and what is to stand in its place.
type hit struct {
	from, to int
	mark     []byte
}

// tidy sorts hits and makes one of those that overlap.
func tidy(hits []hit) []hit {
	if len(hits) < 2 {
		return hits
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	n := 0
	for _, h := range hits[1:] {
		if last := &hits[n]; h.from < last.to {
			last.to = max(last.to, h.to)
		} else {
			n++
			hits[n] = h
		}
	}
	return hits[:n+1]
}

// appendHidden appends text[from:to] with the hits in it hidden. They are tidy.
func appendHidden(dst, text []byte, from, to int, hits []hit) []byte {
	for _, h := range behind(hits, from) {
		if h.from >= to {
			break
		}
		dst = append(append(dst, text[from:max(from, h.from)]...), h.mark...)
		from = min(to, h.to)
	}
	return append(dst, text[from:to]...)
}

// within returns the first hit of which a part lies in text[from:to], nil for none.
// They are tidy.
func within(hits []hit, from, to int) *hit {
	if hits = behind(hits, from); len(hits) > 0 && hits[0].from < to {
		return &hits[0]
	}
	return nil
}

// behind returns the hits that end behind a place. Lines of many fields may have
// many hits, so it does not go over them all.
func behind(hits []hit, at int) []hit {
	return hits[sort.Search(len(hits), func(i int) bool { return hits[i].to > at }):]
}

// maxHits bounds, about, how many secrets of one kind are hidden in one record.
const maxHits = 16 << 10

// search appends what expressions and presets find in a text, wherever in it, and
// returns up to where they have looked: there are too many behind that.
func (s *State) search(hits []hit, text []byte) (all []hit, end int) {
	end = len(text)
	for i := range s.spec.secrets {
		var at int
		most := len(hits) + maxHits
		if d := &s.spec.secrets[i]; d.re == nil {
			hits, at = d.found(hits, text, most)
		} else {
			hits, at = d.matches(hits, text, 0, most)
		}
		end = min(end, at)
	}
	return hits, end
}

func (d *redactor) found(hits []hit, text []byte, most int) (all []hit, at int) {
	for start, end := d.find(text, 0); start >= 0; start, end = d.find(text, end) {
		if len(hits) >= most {
			return hits, start
		}
		hits = d.hit(hits, text, start, end)
	}
	return hits, len(text)
}

// hit appends one, unless what was found there is that something was hidden.
func (d *redactor) hit(hits []hit, text []byte, from, to int) []hit {
	if from >= to || bytes.Equal(text[from:to], d.mark) {
		return hits
	}
	return append(hits, hit{from, to, d.mark})
}

// matches appends what an expression matches, or its first group where it has one,
// in a text from one place on, until there are most, and returns how far that was.
func (d *redactor) matches(hits []hit, text []byte, from, most int) (all []hit, at int) {
	if len(text)-from <= maxFilter && !d.re.Match(text[from:]) {
		return hits, len(text)
	}
	size := maxFilter
	for at = from; at < len(text) && len(hits) < most; { // nothing before at is looked for
		end := min(at+size, len(text))
		again, longer := end, false
		if end < len(text) {
			again = end - overlap
		}
		for _, m := range d.re.FindAllSubmatchIndex(text[at:end], -1) {
			if again < len(text) && at+m[1] > again && m[0] > 0 {
				again = min(again, at+m[0]) // it may go on behind the part
				break
			}
			if longer = m[0] == 0 && at+m[1] == end && end < len(text); longer { // it does go on
				break
			}
			lo, hi := at+m[0], at+m[1]
			if len(m) > 2 && m[2] >= 0 { // it may have been an alternative without the group
				lo, hi = at+m[2], at+m[3]
			}
			again = max(again, at+m[1])
			hits = d.hit(hits, text, lo, hi)
		}
		if longer {
			size *= 2
			continue
		}
		at, size = again, maxFilter
	}
	return hits, at
}
