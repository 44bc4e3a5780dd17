// Package lifted gives the values that were lifted out of lines the names and
// types that a protocol has for them.
package lifted

import (
	"bytes"
	"strconv"

	"github.com/dockline/dockline/logdriver/ship"
)

// Names makes the names of one record's fields unique, for most protocols keep
// only one of several that are equal, or refuse the record.
type Names struct {
	Encode   func(dst, key []byte) []byte // appends a name as the protocol has it
	Reserved map[string]bool              // names that no field may have, which stay the same; nil for none
	Mark     byte                         // what is between a name and its number
	Max      int                          // how long a name may be, in bytes; 0 for any length

	// The last record's, of which the first at are this one's too: records of one
	// stream mostly have the same fields in the same order, and what a field's name
	// is depends on those before it alone.
	keys, text []byte
	all        []span
	at         int
}

// span is where a field's key is in keys, up to keyed, and where its name is in
// text, and its end without a number.
type span struct{ key, keyed, from, bare, to int }

// Reset begins a record.
func (n *Names) Reset() { n.at = 0 }

// Next returns the name of the record's next field, which is valid until Reset.
func (n *Names) Next(key []byte) []byte {
	if n.at < len(n.all) {
		if s := &n.all[n.at]; bytes.Equal(n.keys[s.key:s.keyed], key) {
			n.at++
			return n.text[s.from:s.to:s.to]
		}
		s := n.all[n.at]
		n.keys, n.text, n.all = n.keys[:s.key], n.text[:s.from], n.all[:n.at]
	}
	s := span{key: len(n.keys), from: len(n.text)}
	n.keys = append(n.keys, key...)
	s.keyed = len(n.keys)
	n.text = n.Encode(n.text, key)
	if n.Max > 0 {
		n.text = n.text[:min(len(n.text), s.from+n.Max)]
	}
	s.bare = len(n.text)
	number := int64(1)
	for _, other := range n.all {
		if bytes.Equal(n.text[other.from:other.bare], n.text[s.from:s.bare]) {
			number++
		}
	}
	for ; number > 1 || n.taken(n.text[s.from:]); number++ {
		n.text = n.appendNumber(s, max(number, 2))
		if !n.taken(n.text[s.from:]) {
			break
		}
	}
	s.to = len(n.text)
	n.all = append(n.all, s)
	n.at = len(n.all)
	return n.text[s.from:s.to:s.to]
}

// appendNumber returns the text with a number behind the bare name, which is
// shortened where there is no room for it.
func (n *Names) appendNumber(s span, number int64) []byte {
	var digits [20]byte
	suffix := strconv.AppendInt(append(digits[:0], n.Mark), number, 10)
	if n.Max > 0 {
		s.bare = min(s.bare, s.from+n.Max-len(suffix))
	}
	return append(n.text[:s.bare], suffix...)
}

func (n *Names) taken(name []byte) bool {
	if n.Reserved[string(name)] {
		return true
	}
	for _, other := range n.all {
		if bytes.Equal(n.text[other.from:other.to], name) {
			return true
		}
	}
	return false
}

// Kind is the type of a value.
type Kind uint8

// Kinds. Text is all that is none of the others, as it was written: strings,
// arrays and objects, and numbers that neither of the two types can hold.
const (
	Text Kind = iota
	Int
	Float
	Bool
	Null
)

// Value is a field's value: that of Int, Float or Bool which Kind says.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Bool  bool
}

// Of reads a field's value.
func Of(f *ship.Field) Value {
	if !f.Raw || len(f.Value) == 0 {
		return Value{}
	}
	switch c := f.Value[0]; {
	case c == 't', c == 'f':
		return Value{Kind: Bool, Bool: c == 't'}
	case c == 'n':
		return Value{Kind: Null}
	case c == '-' || c >= '0' && c <= '9':
		return number(f.Value)
	}
	return Value{}
}

func number(text []byte) Value {
	if !bytes.ContainsAny(text, ".eE") {
		if len(text) > len("-9223372036854775808") || len(text) == 20 && text[0] != '-' {
			return Value{} // an error would be allocated
		}
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return Value{Kind: Int, Int: n}
		}
		return Value{}
	}
	if f, err := strconv.ParseFloat(string(text), 64); err == nil {
		return Value{Kind: Float, Float: f}
	}
	return Value{}
}

// AppendValid appends text with U+FFFD for each byte that is not UTF-8.
func AppendValid(dst, text []byte) []byte {
	for _, r := range string(text) {
		dst = append(dst, string(r)...)
	}
	return dst
}

// Unique returns name, or where used has it already, name with a number behind it
// that makes it new, cut to most bytes (0: not cut); and notes it in used.
func Unique(used map[string]bool, name string, most int) string {
	n := Names{Encode: func(dst, key []byte) []byte { return append(dst, key...) }, Reserved: used, Mark: '~', Max: most}
	unique := string(n.Next([]byte(name)))
	used[unique] = true
	return unique
}
